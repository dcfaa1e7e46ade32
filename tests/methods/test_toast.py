"""TOAST is the paper's formula: the released ViT's numbers, and what the specification says must hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from toast_networks import ATTENTION, NETWORKS, fed
from torch.utils.flop_counter import FlopCounterMode

from backbones.architecture import build
from backbones.names import parse
from backbones.numerics import Numerics
from methods.toast.chains import chain_of
from methods.toast.feedback import Feedback, Seen
from methods.toast.passes import TwoPasses

GOLDEN = Path(__file__).parents[1] / "golden" / "toast_vit.npz"
FED = {"tiny_vit": 2, "tiny_swin": 4, NETWORKS[2]: 4, NETWORKS[3]: 4}

networks = pytest.mark.parametrize("name", NETWORKS)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def test_the_released_vit_gives_the_same_numbers():
    golden = {key: torch.from_numpy(value).double() for key, value in np.load(GOLDEN).items()}
    width, depth, heads, size, patch, classes = golden["config"].long().tolist()
    net = VisionTransformer(size, patch, num_classes=classes, embed_dim=width, depth=depth, num_heads=heads)
    net.double().eval()
    weights = {key[2:]: value for key, value in golden.items() if key.startswith("w:")}
    net.load_state_dict({key: weights[key] for key in net.state_dict()})
    chain = chain_of(net, "reference")
    feedback = Feedback(chain, 0, depth).double()
    with torch.no_grad():
        feedback.prompt.copy_(weights["prompt"])
        feedback.P.copy_(weights["top_down_transform"])
        for block in range(depth):
            feedback.link(block).A.weight.copy_(weights[f"decoders.{block}.linear.weight"])
            feedback.link(block).C.weight.copy_(weights[f"decoders.{block}.linear2.weight"])
        tokens = net.forward_features(golden["images"])
        second = TwoPasses(chain, feedback, Numerics())(golden["images"])
        assert apart(tokens, golden["first_pass_tokens"]) <= 1e-4
        assert apart(net.forward_head(tokens), golden["first_pass_logits"]) <= 1e-4
        assert apart(feedback.mask(tokens), golden["token_mask"]) <= 1e-4
        for block, t in feedback(tokens, tokens).items():
            assert apart(t, golden["feedback"][block]) <= 1e-4
        assert apart(second, golden["second_pass_tokens"]) <= 1e-4
        assert apart(net.forward_head(second), golden["logits"]) <= 1e-4


@networks
@torch.no_grad()
def test_without_feedback_the_second_pass_is_the_plain_network(name):
    it = fed(name)
    assert apart(it.logits(it.images), it.plain_logits(it.images)) > 1e-3, "this feedback does nothing"
    for link in it.feedback.links:
        if link.C is not None:
            link.C.weight.zero_()
    torch.testing.assert_close(it.logits(it.images), it.plain_logits(it.images), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_in_reference_zero_feedback_moves_the_first_attention_by_its_projected_bias():
    outputs = {}
    for bias in ("single", "reference"):
        it = fed("tiny_vit", bias=bias)
        for link in it.feedback.links:
            link.C.weight.zero_()
        attention, kept = it.net.blocks[0].attn, []
        attention.register_forward_hook(lambda module, given, out, kept=kept: kept.append(out))
        it.passes(it.images)
        outputs[bias] = kept[-1]
    b_v = attention.qkv.bias[-attention.attn_dim :]
    moved = F.linear(b_v, attention.proj.weight)
    torch.testing.assert_close(
        outputs["reference"] - outputs["single"], moved.expand_as(outputs["single"]), rtol=1e-9, atol=1e-9
    )


@networks
@torch.no_grad()
def test_the_mask_is_a_clamped_cosine(name):
    it = fed(name)
    tokens, _ = it.source(it.images)
    mask = it.feedback.mask(tokens)
    assert mask.min() >= 0
    assert 0 < mask.max() <= 1
    assert mask.shape == (*tokens.shape[:-1], 1)
    before = it.logits(it.images)
    it.feedback.prompt *= 7.5
    torch.testing.assert_close(it.feedback.mask(tokens), mask, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(it.logits(it.images), before, rtol=1e-4, atol=1e-5)


@networks
@torch.no_grad()
def test_a_closed_mask_stops_all_feedback(name):
    it = fed(name)
    _, maps = it.source(it.images)
    assert all((t == 0).all() for t in it.feedback(-it.feedback.prompt.expand_as(maps), maps).values())


@networks
@torch.no_grad()
def test_feedback_is_linear_in_the_selected_tokens(name):
    it = fed(name)
    _, a = it.source(it.images)
    b = torch.randn_like(a)
    of_a, of_b, of_both = (it.feedback.carry(tokens) for tokens in (a, b, 2 * a - 3 * b))
    for unit, t in of_both.items():
        torch.testing.assert_close(t, 2 * of_a[unit] - 3 * of_b[unit], rtol=1e-8, atol=1e-8)


@networks
@torch.no_grad()
def test_the_chain_runs_downwards(name):
    it = fed(name)
    source = it.source(it.images)
    before = it.feedback(*source)
    top = max(before)
    it.feedback.link(0).A.weight += 0.1
    after = it.feedback(*source)
    changed = [unit for unit in before if not torch.equal(before[unit], after[unit])]
    assert changed == [0], "A_0 is for t_0 alone"
    for unit in range(top):
        for parameter in it.feedback.link(unit).parameters():
            parameter += 0.1
    assert torch.equal(it.feedback(*source)[top], before[top])


@pytest.mark.parametrize("name", ATTENTION)
@torch.no_grad()
def test_in_the_first_block_queries_and_keys_are_those_of_the_first_pass(name):
    it = fed(name)
    block = it.net.blocks[0] if name == "tiny_vit" else it.net.layers[0].blocks[0]
    kept = []
    block.attn.qkv.register_forward_hook(lambda module, given, out: kept.append(out))
    it.passes(it.images)
    first, second = kept
    third = first.shape[-1] // 3
    assert torch.equal(first[..., : 2 * third], second[..., : 2 * third])
    assert not torch.allclose(first[..., 2 * third :], second[..., 2 * third :])


@networks
def test_the_network_has_no_gradient_and_the_feedback_has(name):
    it = fed(name)
    it.logits(it.images).square().sum().backward()
    for key, parameter in it.net.named_parameters():
        trained = key.startswith("toast.") and key != "toast.P"
        assert parameter.requires_grad == trained, key
        assert (parameter.grad is not None) == trained, key
        assert not trained or parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", ATTENTION)
@torch.no_grad()
def test_lite_starts_as_toast_and_merges(name):
    whole, lite = fed(name), fed(name, lite=True)
    loaded = lite.feedback.load_state_dict(whole.feedback.state_dict(), strict=False)
    assert all("lora_" in key for key in loaded.missing_keys)
    assert torch.equal(lite.feedback.P, torch.eye(len(lite.feedback.P), dtype=torch.float64))
    assert torch.equal(lite.logits(lite.images), whole.logits(whole.images))
    low = lite.feedback.link(0).A
    low.lora_up.normal_()
    x, before, base = torch.randn(5, low.in_features, dtype=torch.float64), None, low.weight.clone()
    before = low(x)
    low.merge()
    torch.testing.assert_close(F.linear(x, low.weight), before)
    low.merge(-1)
    torch.testing.assert_close(low.weight, base, rtol=1e-12, atol=1e-12)


@networks
def test_the_variational_loss_has_a_gradient_in_a_alone(name):
    it = fed(name)
    seen: list[Seen] = []
    it.passes(it.images, seen=seen)
    assert len(seen) == len(it.chain.units)
    it.feedback.variational(seen).backward()
    for key, parameter in it.feedback.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.abs().max() > 0)) == (".A." in key), key


def test_the_variational_loss_is_nothing_where_a_is_the_identity_and_the_block_too():
    it = fed("tiny_vit")
    with torch.no_grad():
        it.feedback.link(0).A.weight.copy_(torch.eye(32))
    x = torch.randn(2, 5, 32, dtype=torch.float64)
    assert it.feedback.variational([Seen(0, x, x)]) == 0
    assert it.feedback.variational([Seen(0, x, x + 2)]).item() == pytest.approx(4)


@networks
@torch.no_grad()
def test_an_image_is_alone_in_its_batch(name):
    it = fed(name)
    both = it.logits(it.images)
    torch.testing.assert_close(it.logits(it.images[1:2]), both[1:2], rtol=1e-5, atol=1e-6)


@networks
@torch.no_grad()
def test_late_feedback_leaves_what_is_below_as_in_the_first_pass(name):
    late = FED[name] // 2
    it = fed(name, late=late)
    lowest = it.feedback.lowest
    assert it.chain.units[lowest].fed
    assert sum(unit.fed for unit in it.chain.units[lowest:]) == FED[name] - late
    ran: list[int] = []
    unit = it.chain.unit
    inputs: dict[int, list[torch.Tensor]] = {}

    def watched(index, x, t=None):
        ran.append(index)
        inputs.setdefault(index, []).append(x)
        return unit(index, x, t)

    it.chain.unit = watched
    out = it.passes(it.images)
    assert [ran.count(index) for index in range(lowest)] == [1] * lowest, "the prefix is shared"
    assert all(ran.count(index) == 2 for index in range(lowest, len(it.chain.units)))
    assert torch.equal(*inputs[lowest])
    assert apart(out, it.plain.forward_features(it.images)) > 1e-4


@torch.no_grad()
def test_early_feedback_comes_from_the_first_blocks_through_the_final_norm():
    it = fed("tiny_vit", early=1)
    first = it.plain.norm(it.plain.blocks[0](it.chain.stem(it.images)))
    t = it.feedback(first, first)
    assert list(t) == [0]
    x = it.chain.unit(0, it.chain.stem(it.images), t[0])
    expected = it.plain.norm(it.plain.blocks[1](x))
    torch.testing.assert_close(it.passes(it.images), expected, rtol=1e-6, atol=1e-7)


@networks
@torch.no_grad()
def test_a_first_pass_that_is_known_is_not_computed(name):
    it = fed(name)
    expected = it.passes(it.images)
    maps = it.plain.forward_features(it.images)
    ran: list[int] = []
    unit = it.chain.unit
    it.chain.unit = lambda index, x, t=None: (ran.append(index), unit(index, x, t))[1]
    torch.testing.assert_close(it.passes(it.images, maps), expected, rtol=1e-6, atol=1e-7)
    assert ran == list(range(len(it.chain.units)))


def work(passes) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        passes(torch.empty(1, 3, 224, 224, device="meta"))
    return counter.get_total_flops() // 2


@pytest.fixture(scope="module")
def b16():
    with torch.device("meta"):
        net = build(parse("vit_base_patch16_224")).eval()
        macs = work(net.forward_features)
        return chain_of(net), macs


@pytest.mark.parametrize(("lite", "parameters"), [(False, 14_156_544), (True, 738_048)])
def test_what_trains_on_b16_is_the_papers_number(b16, lite, parameters):
    with torch.device("meta"):
        feedback = Feedback(b16[0], 0, 12, lite)
    assert sum(p.numel() for p in feedback.parameters() if p.requires_grad) == parameters


@pytest.mark.parametrize(("late", "lite", "bound"), [(0, False, 2.25), (6, False, 1.65), (0, True, 2.25)])
def test_multiply_adds_on_b16(b16, late, lite, bound):
    chain, plain = b16
    assert plain == pytest.approx(17.56e9, rel=1e-3)
    with torch.device("meta"):
        passes = TwoPasses(chain, Feedback(chain, late, 12, lite), Numerics())
    assert 1 < work(passes) / plain <= bound
