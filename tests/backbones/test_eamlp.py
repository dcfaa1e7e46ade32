"""EAMLP has exactly the published sizes and stem, and serves where timm's VisionTransformer does."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.layers import DropPath
from torch import Tensor, nn

from backbones.external_attention.attention import ExternalAttention, MultiHeadExternalAttention
from backbones.external_attention.configurations import CONFIGURATIONS
from backbones.external_attention.eamlp import EAMLP, T2TStem, sinusoid


def small(img_size: int | tuple[int, int] = 64, num_classes: int = 0, **options: float) -> EAMLP:
    torch.manual_seed(0)
    return EAMLP(img_size, 32, 2, 2, num_classes=num_classes, **options).eval()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("blocks", "expected"), [(7, 6_096_206), (14, 29_801_422), (19, 54_470_798)])
def test_published_sizes_have_the_published_number_of_parameters(blocks, expected):
    with torch.device("meta"):
        net = EAMLP(**CONFIGURATIONS[blocks])
    assert sum(parameter.numel() for parameter in net.parameters()) == expected
    assert len(net.blocks) == blocks
    assert net.patch_embed.grid_size == (14, 14)


def test_tokens_features_and_logits_are_those_of_a_vit():
    net, images = small(num_classes=5), drawn(3, 3, 64, 64)
    tokens = net.forward_features(images)
    assert tokens.shape == (3, 1 + 16, 32)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(3, 17))  # after the last norm, of numbers about 1
    features = net.forward_head(tokens, pre_logits=True)
    assert torch.equal(features, tokens[:, 0])
    assert torch.equal(net(images), net.head(features))
    assert net(images).shape == (3, 5)
    assert (net.num_features, net.embed_dim, net.num_prefix_tokens, net.global_pool) == (32, 32, 1, "token")
    assert (net.patch_embed.img_size, net.patch_embed.grid_size) == ((64, 64), (4, 4))


def test_the_classifier_can_be_replaced_and_removed():
    net, images = small(num_classes=5).double(), drawn(1, 3, 64, 64).double()
    net.reset_classifier(7)
    assert (net.num_classes, net(images).shape) == (7, (1, 7))
    net.reset_classifier(0)
    assert net.num_classes == 0
    assert torch.equal(net(images), net.forward_head(net.forward_features(images), pre_logits=True))


@pytest.mark.parametrize(
    ("size", "grid"), [((224, 224), (14, 14)), ((64, 64), (4, 4)), ((51, 33), (4, 2)), ((3, 3), (1, 1))]
)
def test_the_stem_has_a_token_for_every_sixteen_pixels(size, grid):
    stem = T2TStem(size, 8)
    assert (stem.grid_size, stem.num_patches) == (grid, grid[0] * grid[1])
    assert stem(drawn(1, 3, *size)).shape == (1, stem.num_patches, 8)


@pytest.mark.parametrize("size", [2, (64, 2), 0, -64])
def test_an_image_without_a_token_is_refused(size):
    with pytest.raises(ValueError, match=r"leaves EAMLP's stem no token; give at least 3x3 px"):
        small(size)


def test_an_image_without_a_token_is_refused_at_run_time():
    with pytest.raises(ValueError, match="an image of 2x64 px leaves EAMLP's stem no token"):
        small()(drawn(1, 3, 2, 64))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="3 heads do not divide a width of 32"):
        EAMLP(64, 32, 1, 3)


@pytest.mark.parametrize(("row", "column", "token"), [(0, 0, 0), (0, 79, 4), (63, 0, 15), (63, 79, 19)])
def test_tokens_of_the_stem_lie_in_rows_over_the_image(row, column, token):
    stem = T2TStem((64, 80), 8).eval()
    for block in list(stem.layers)[:2]:
        nn.init.zeros_(block.proj.weight)  # without attention each token sees 31 x 31 pixels
    images = drawn(1, 3, 64, 80)
    changed = images.clone()
    changed[:, :, row, column] += 1
    differs = (stem(images) != stem(changed)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == [token]


def test_attention_in_the_stem_couples_all_tokens():
    stem, images = T2TStem((64, 64), 8).eval().double(), drawn(1, 3, 64, 64).double()
    changed = images.clone()
    changed[:, :, 0, 0] += 1
    assert bool((stem(images) != stem(changed)).any(-1).all())


def test_positions_are_interleaved_sines_and_cosines():
    table = sinusoid(6, 8)
    for position in range(6):
        for pair in range(4):
            angle = position / 10000 ** (2 * pair / 8)
            assert table[position, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert torch.equal(sinusoid(3, 7), sinusoid(9, 7)[:3])


@pytest.mark.parametrize("made_for", [32, 64, (96, 48)])
def test_a_network_made_for_one_size_computes_another_as_one_made_for_it(made_for):
    wanted = small((80, 64))
    other = small(made_for)
    other.load_state_dict(wanted.state_dict())  # no weight depends on the size
    images = drawn(2, 3, 80, 64)
    torch.testing.assert_close(other(images), wanted(images), rtol=0, atol=0)


def test_images_are_told_apart_by_where_things_are():
    net, images = small().double(), drawn(1, 3, 64, 64).double()
    left, right = net(images), net(images.flip(-1))
    assert bool(((left - right).abs() > 1e-6).any())


def test_dropout_is_in_the_stem_alone():
    net = small()
    dropped = {name: m.p for name, m in net.named_modules() if isinstance(m, nn.Dropout) and m.p > 0}
    assert dropped == {
        f"patch_embed.layers.{block}.{place}": 0.1
        for block in (0, 1)
        for place in ("attn.attn_drop", "proj_drop")
    }
    images = drawn(1, 3, 64, 64)
    assert torch.equal(net(images), net(images))
    net.train()
    assert not torch.equal(net(images), net(images))


def test_stochastic_depth_grows_linearly_over_the_blocks():
    net = EAMLP(64, 32, 3, 2, num_classes=0, drop_path_rate=0.2)
    rates = [[m.drop_prob for m in block.modules() if isinstance(m, DropPath)] for block in net.blocks]
    assert rates[0] == []
    assert rates[1] == pytest.approx([0.1, 0.1])
    assert rates[2] == pytest.approx([0.2, 0.2])


def test_a_prediction_does_not_depend_on_its_batch():
    net, images = small().double(), drawn(5, 3, 64, 64).double()
    torch.testing.assert_close(net(images)[3:4], net(images[3:4]))


def test_every_parameter_gets_a_gradient_and_memories_are_not_tied():
    net = small(num_classes=5).double().train()
    net(drawn(4, 3, 64, 64).double()).logsumexp(-1).sum().backward()
    for name, parameter in net.named_parameters():
        # A bias of M_k is a constant per slot, which the softmax over tokens takes away.
        if not name.endswith("memory_key.bias"):
            assert float(parameter.grad.abs().max()) > 0, name
    layers = [m for m in net.modules() if isinstance(m, ExternalAttention | MultiHeadExternalAttention)]
    memories = [memory.weight for m in layers for memory in (m.memory_key, m.memory_value)]
    assert len({memory.untyped_storage().data_ptr() for memory in memories}) == len(memories) == 8


@pytest.mark.parametrize("made", ["autocast", "cast"])
def test_bfloat16_stays_close(made):
    net, images = small(num_classes=5), drawn(4, 3, 64, 64)
    expected = net.forward_features(images).detach()
    if made == "cast":
        tokens = net.bfloat16().forward_features(images.bfloat16())
    else:
        with torch.autocast("cpu", torch.bfloat16):
            tokens = net.forward_features(images)
            net(images).float().square().sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in net.parameters())
    assert float((tokens.detach().float() - expected).abs().max()) < 0.2
    assert float((tokens.detach().float() - expected).abs().mean()) < 0.02


def test_weights_survive_a_safetensors_file(tmp_path):
    net, other = small(), small(32)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    other.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
    images = drawn(2, 3, 64, 64)
    assert torch.equal(other(images), net(images))
