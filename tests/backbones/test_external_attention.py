"""External attention is the published formula, with the invariants that follow from it, also within timm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Attention
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from backbones.external_attention.attention import (
    ExternalAttention,
    MultiHeadExternalAttention,
    double_normalise,
)
from backbones.external_attention.cost import (
    break_even_tokens,
    external_attention_macs,
    self_attention_macs,
)

GOLDEN = Path(__file__).parents[1] / "golden"
PARTS = ("weight", "bias")
LINEARS = ("expand", "memory_key", "memory_value", "proj")


def arrays(name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value).to(dtype) for key, value in np.load(GOLDEN / name).items()}


def relative(ours: Tensor, reference: Tensor) -> float:
    return float((ours - reference).detach().abs().max() / reference.detach().abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_published_formula_is_reproduced(dtype):
    golden = arrays("external_attention.npz", dtype)
    layer = ExternalAttention(48, slots=16, dtype=dtype)
    layer.load_state_dict(
        {"memory_key.weight": golden["memory_key"], "memory_value.weight": golden["memory_value"].T}
    )
    assert relative(layer.attention(golden["tokens"]), golden["attention"]) < 1e-4
    assert relative(layer(golden["tokens"]), golden["out"]) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_reference_implementation_of_many_heads_is_reproduced(dtype):
    golden = arrays("external_attention_multihead.npz", dtype)
    ours = {"trans_dims": "expand", "linear_0": "memory_key", "linear_1": "memory_value", "proj": "proj"}
    layer = MultiHeadExternalAttention(48, int(golden["num_heads"]), dtype=dtype)
    layer.load_state_dict(
        {f"{mine}.{part}": golden[f"w:{name}.{part}"] for name, mine in ours.items() for part in PARTS}
    )
    assert relative(layer(golden["tokens"]), golden["out"]) < 1e-4


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


@st.composite
def logits(draw) -> Tensor:
    """(B, N, S) or (B, N, H, S), of spreads from almost equal to almost one-hot."""
    heads = draw(st.sampled_from([(), (1,), (3,)]))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 9)), *heads, draw(st.integers(1, 9)))
    return drawn(*shape, seed=draw(st.integers(0, 999)), scale=draw(st.sampled_from([0.01, 1.0, 8.0, 60.0])))


def stepwise(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax over tokens, its sum over slots, that quotient with the published eps), written out."""
    e = (z - z.amax(1, keepdim=True)).exp()
    p = e / e.sum(1, keepdim=True)
    total = p.sum(-1, keepdim=True)
    return p, total, p / (total + 1e-9)


@given(logits())
@settings(max_examples=60, deadline=None)
def test_slots_sum_to_one_over_tokens_then_tokens_over_slots_and_both_forms_agree(z):
    p, total, naive = stepwise(z)
    a = double_normalise(z)
    torch.testing.assert_close(p.sum(1), torch.ones_like(p.sum(1)))
    torch.testing.assert_close(a.sum(-1), torch.ones_like(a.sum(-1)))
    torch.testing.assert_close(a * total, p)
    large = (total > 1e-2).expand_as(a)
    torch.testing.assert_close(a[large], naive[large], rtol=1e-6, atol=1e-12)


def test_slots_no_longer_sum_to_one_in_the_end():
    sums = double_normalise(drawn(1, 7, 5)).sum(1)
    assert float((sums - 1).abs().max()) > 0.1


def test_a_token_far_below_the_others_keeps_a_row_that_sums_to_one():
    z = drawn(1, 6, 5)
    z[:, 2] -= 200
    assert float(stepwise(z)[2][0, 2].sum()) < 1e-60
    torch.testing.assert_close(double_normalise(z)[0, 2].sum().item(), 1.0)
    assert bool(double_normalise(z.float()).isfinite().all())


@given(logits(), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_a_constant_per_slot_changes_nothing(z, seed):
    shift = drawn(z.shape[0], 1, *z.shape[2:], seed=seed, scale=5.0)
    torch.testing.assert_close(double_normalise(z + shift), double_normalise(z), rtol=1e-9, atol=1e-12)


def test_a_constant_per_token_changes_the_attention():
    z = drawn(2, 7, 5)
    changed = (double_normalise(z + drawn(2, 7, 1)) - double_normalise(z)).abs()
    assert bool((changed.amax((1, 2)) > 1e-2).all())


@given(st.integers(1, 9), st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_one_token_alone_attends_equally_to_all_slots(slots, seed):
    a = double_normalise(drawn(3, 1, slots, seed=seed, scale=9.0))
    torch.testing.assert_close(a, torch.full_like(a, 1 / slots))


def single(**options: object) -> ExternalAttention:
    torch.manual_seed(0)
    return sharpened(ExternalAttention(24, slots=10, **options))


def multi(**options: object) -> MultiHeadExternalAttention:
    torch.manual_seed(0)
    return sharpened(MultiHeadExternalAttention(24, num_heads=2, slots=10, **options))


def sharpened(layer: nn.Module) -> nn.Module:
    """In double precision, with logits of about 1, so that a fault in the attention would show."""
    nn.init.normal_(layer.memory_key.weight)
    nn.init.normal_(layer.memory_value.weight)
    return layer.double()


LAYERS = pytest.mark.parametrize("make", [single, multi])


@LAYERS
def test_tokens_that_change_places_take_their_outputs_along(make):
    layer, x = make(), drawn(2, 9, 24)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])
    assert bool(((layer(x[:, order]) - layer(x)).abs() > 1e-3).any())


@LAYERS
def test_the_order_of_slots_does_not_matter(make):
    layer, x = make(), drawn(2, 9, 24)
    before = layer(x)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        layer.memory_key.weight.copy_(layer.memory_key.weight[order])
        if layer.memory_key.bias is not None:
            layer.memory_key.bias.copy_(layer.memory_key.bias[order])
        keys_alone = layer(x)
        layer.memory_value.weight.copy_(layer.memory_value.weight[:, order])
    torch.testing.assert_close(layer(x), before)
    assert bool(((keys_alone - before).abs() > 1e-3).any())


@LAYERS
def test_an_output_depends_on_its_own_sample_and_on_all_its_tokens(make):
    layer, x = make(), drawn(4, 9, 24)
    torch.testing.assert_close(layer(x)[2:3], layer(x[2:3]))
    fewer = layer(x[:, :-1])
    assert bool(((fewer - layer(x)[:, :-1]).abs().amax(-1) > 1e-6).all())


@given(st.integers(1, 9), st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_without_biases_outputs_lie_in_the_convex_hull_of_the_value_memory(tokens, seed):
    layer = single()
    memory = layer.memory_value.weight.T  # (S, d)
    x = drawn(2, tokens, 24, seed=seed, scale=4.0)
    a = layer.attention(x)
    assert float(a.detach().min()) >= 0
    torch.testing.assert_close(layer(x), a @ memory)
    direction = drawn(24, 50, seed=seed + 1)  # a hull lies between its extremes in every direction
    reach, extremes = layer(x) @ direction, memory @ direction
    assert bool((reach <= extremes.amax(0) + 1e-9).all())
    assert bool((reach >= extremes.amin(0) - 1e-9).all())


@LAYERS
def test_the_memories_are_two_and_both_learn(make):
    layer = make()
    layer(drawn(2, 9, 24)).square().sum().backward()
    key, value = layer.memory_key.weight, layer.memory_value.weight
    assert key.untyped_storage().data_ptr() != value.untyped_storage().data_ptr()
    for memory in (key, value):
        assert bool((memory.grad != 0).all())


def test_biases_of_the_single_head_are_there_when_asked_for():
    names = {name for name, _ in single(value_bias=True).named_parameters()}
    assert names == {"memory_key.weight", "memory_value.weight", "memory_value.bias"}
    assert single(key_bias=True).memory_key.bias is not None


@LAYERS
def test_dropout_acts_in_training_alone(make):
    layer, x = make(attn_drop=0.5), drawn(1, 9, 24)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_half_precision_normalises_in_float32():
    z = drawn(2, 300, 4, 64).bfloat16()
    exact = double_normalise(z.float())
    assert torch.equal(double_normalise(z), exact.bfloat16())
    # In bfloat16 throughout, a softmax over 300 tokens would be off by a hundredth.
    torch.testing.assert_close(exact.sum(-1), torch.ones(2, 300, 4))


@LAYERS
def test_autocast_to_bfloat16_stays_close_and_gives_gradients(make):
    layer, x = make().float(), drawn(2, 9, 24).float()
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert relative(out.float(), expected) < 0.05
    out.float().square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters())


@pytest.mark.parametrize(
    "mask", [{"attn_mask": torch.ones(9, 9, dtype=torch.bool)}, {"is_causal": True}], ids=["given", "causal"]
)
def test_masks_are_refused(mask):
    with pytest.raises(ValueError, match="takes no attention mask: tokens attend to memories"):
        multi()(drawn(1, 9, 24), **mask)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_heads": 5}, "5 heads do not divide a width of 24"),
        ({"qk_norm": True}, "no qk_norm"),
        ({"scale_norm": True}, "no scale_norm|no qk_norm and no scale_norm"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        MultiHeadExternalAttention(24, **{"num_heads": 2, **options})


def vit(**options: object) -> nn.Module:
    torch.manual_seed(0)
    small = {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
    return timm.create_model(
        "vit_tiny_patch16_224", attn_layer=MultiHeadExternalAttention, **{**small, **options}
    )


@pytest.mark.parametrize("options", [{}, {"qkv_bias": False}, {"drop_path_rate": 0.2, "init_values": 1e-2}])
def test_a_vit_of_timm_takes_it_as_its_attention(options):
    net = vit(**options).train()
    assert {type(block.attn) for block in net.blocks} == {MultiHeadExternalAttention}
    assert all(getattr(net.blocks[0].attn, name).bias is not None for name in LINEARS)
    images = drawn(2, 3, 64, 64).float()
    net(images).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    net.eval()
    assert net(images).shape == (2, 1000)
    assert torch.equal(net(images), net(images))
    with pytest.raises(ValueError, match="attention mask"):
        net(images, attn_mask=torch.ones(65, 65, dtype=torch.bool))


@pytest.mark.parametrize("mode", ["", "jax", "moco"])
def test_timms_initial_weights_leave_an_attention_that_tells_images_apart(mode):
    net = vit(weight_init=mode, num_classes=0).eval()
    attention = net.blocks[0].attn
    normed = drawn(8, 65, 48).float()
    logits = attention.memory_key(attention.expand(normed).unflatten(-1, (-1, 16)))
    assert 0.8 < float(logits.detach().std()) < 1.2
    assert float(attention.memory_key.bias.detach().abs().max()) == 0
    # The class token starts the same for every image: what differs at the end, attention has brought.
    images = drawn(8, 3, 64, 64).float()
    spread = net(images).detach().std(0).mean()
    for block in net.blocks:
        nn.init.normal_(block.attn.memory_key.weight, std=0.02)
        nn.init.normal_(block.attn.memory_value.weight, std=0.02)
    assert spread > 10 * net(images).detach().std(0).mean()


def test_its_cost_is_that_of_its_linear_layers():
    dim, tokens = 96, 17
    x = torch.randn(1, tokens, dim)
    for layer, expected in (
        (MultiHeadExternalAttention(dim, num_heads=3), external_attention_macs(dim)),
        (unfused(Attention(dim, num_heads=3)), self_attention_macs(dim, tokens)),
    ):
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            layer(x)
        assert counter.get_total_flops() == 2 * tokens * expected
    assert external_attention_macs(dim) == 8 * dim**2 + 512 * dim


def unfused(attention: Attention) -> Attention:
    attention.fused_attn = False
    return attention


@pytest.mark.parametrize("dim", [64, 192, 384])
def test_self_attention_is_cheaper_up_to_the_break_even(dim):
    even = break_even_tokens(dim)
    assert even == 2 * dim + 256
    assert self_attention_macs(dim, even) == external_attention_macs(dim)
    assert self_attention_macs(dim, even - 1) < external_attention_macs(dim)
    assert self_attention_macs(dim, even + 1) > external_attention_macs(dim)
