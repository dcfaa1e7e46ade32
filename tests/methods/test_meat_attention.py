"""Masked attention is the paper's formula, in value and in gradient, on ViT and on Swin."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import meat_networks as nets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rounding import assert_same_to_rounding
from timm.layers import Attention
from timm.models.swin_transformer import window_partition
from torch import Tensor

from backbones.sites import find_sites
from methods.meat.attention import MaskedAttention, masked_attention
from methods.meat.masks import BinaryMask

GOLDEN = Path(__file__).parents[1] / "golden" / "meat_attention.npz"


def naive(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None, self_loop: bool) -> Tensor:
    """The spec's multiplicative form, written out for autograd."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if bias is not None:
        scores = (scores.view(-1, *bias.shape) + bias).view_as(scores)
    allowed = mask[:, None, None, :].expand_as(scores)
    if self_loop:
        allowed = allowed + (1 - allowed) * torch.eye(scores.shape[-1], dtype=scores.dtype)
    peak = scores.masked_fill(allowed <= 0, -torch.inf).amax(-1, keepdim=True).detach()
    e = allowed * (scores - peak).clamp(max=20).exp()
    return e / e.sum(-1, keepdim=True) @ v


def draw(windows: int = 1, tokens: int = 7, dtype=torch.float64, scale: float = 1.0):
    source = torch.Generator().manual_seed(3)
    parts = torch.randn(3, 2 * windows, 2, tokens, 5, generator=source, dtype=dtype) * scale
    mask = (torch.rand(2 * windows, tokens, generator=source) < 0.5).to(dtype)
    return *(part.clone().requires_grad_() for part in parts), mask


@pytest.mark.parametrize("self_loop", [False, True])
@pytest.mark.parametrize("windows", [0, 3])
def test_value_and_gradients_equal_the_written_out_formula(self_loop, windows):
    q, k, v, mask = draw(max(windows, 1))
    if not self_loop:
        mask[:, 0] = 1
    mask.requires_grad_()
    bias = torch.randn(windows, 2, 7, 7, dtype=torch.float64) if windows else None
    upstream = torch.randn_like(v)
    ours = masked_attention(q, k, v, mask, bias, self_loop)
    theirs = naive(q, k, v, mask, bias, self_loop)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for mine, reference in zip(
        torch.autograd.grad(ours, (q, k, v, mask), upstream),
        torch.autograd.grad(theirs, (q, k, v, mask), upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("self_loop", [False, True])
def test_masked_columns_are_zero_rows_sum_to_one_and_cls_is_seen(self_loop):
    q, k, _, mask = draw()
    mask[:, 0] = 1
    psi = masked_attention(q, k, torch.eye(7, dtype=q.dtype).expand(2, 2, 7, 7), mask, None, self_loop)
    torch.testing.assert_close(psi.sum(-1), torch.ones(2, 2, 7, dtype=q.dtype))
    assert bool((psi[..., 0] > 0).all())
    hidden = (mask == 0)[:, None, None, :].expand_as(psi)
    diagonal = torch.eye(7, dtype=torch.bool)
    assert bool((psi[hidden & ~diagonal] == 0).all())
    on_diagonal = psi[hidden & diagonal]
    assert len(on_diagonal)
    assert bool((on_diagonal > 0).all()) if self_loop else bool((on_diagonal == 0).all())


def with_gap(gap: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores of about 0 towards tokens 0 to 2 (active) and of `gap` towards 3 and 4 (masked), float32."""
    generator = torch.Generator().manual_seed(0)
    q = torch.ones(1, 1, 5, 4)
    k = torch.randn(1, 1, 5, 4, generator=generator) * 0.1
    k[:, :, 3:] += gap / 2  # 4 entries over sqrt(4)
    v = torch.randn(1, 1, 5, 4, generator=generator)
    return q, k, v, torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])


def test_masked_scores_200_above_the_others_change_nothing():
    q, k, v, mask = with_gap(0.0)
    plain = masked_attention(q, k, v, mask)
    raised = masked_attention(q, k + 100 * (1 - mask)[:, None, :, None], v, mask)
    torch.testing.assert_close(raised, plain, rtol=0, atol=0)


@pytest.mark.parametrize("gap", [-50.0, -20.0, 0.0, 10.0, 30.0, 50.0, 200.0])
def test_masked_tokens_get_a_gradient_whatever_their_score(gap):
    q, k, v, mask = with_gap(gap)
    mask.requires_grad_()
    masked_attention(q, k, v, mask).square().sum().backward()
    assert bool(torch.isfinite(mask.grad).all())
    if abs(gap) <= 50:
        assert bool((mask.grad[0, 3:] != 0).all())


def golden() -> tuple[dict[str, Tensor], Attention]:
    loaded = np.load(GOLDEN)
    arrays = {name: torch.from_numpy(loaded[name]) for name in loaded}
    attention = Attention(48, int(arrays["num_heads"]), qkv_bias=True)
    attention.load_state_dict({name[2:]: value for name, value in arrays.items() if name.startswith("w:")})
    return arrays, attention.double()


def relative(ours: Tensor, reference: Tensor) -> float:
    return float((ours.detach() - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("self_loop", "expected"), [(False, "out_paper"), (True, "out_self_loop")])
def test_reference_implementation_is_reproduced(training, self_loop, expected):
    arrays, attention = golden()
    mask = BinaryMask((16,))
    mask.load(arrays["keep"][1:])
    with torch.no_grad():
        mask.logits.mul_(1e4)
    masked = MaskedAttention(attention, mask, torch.Generator(), prefix=1, self_loop=self_loop).double()
    assert relative(masked.train(training)(arrays["tokens"].double()), arrays[expected]) < 1e-4


def test_reference_attention_matrix_and_unmasked_output_are_reproduced():
    arrays, attention = golden()
    qkv = attention.qkv(arrays["tokens"].double()).unflatten(-1, (3, 4, 12)).permute(2, 0, 3, 1, 4)
    identity = torch.eye(17, dtype=torch.float64).expand(2, 4, 17, 17)
    psi = masked_attention(qkv[0], qkv[1], identity, arrays["keep"].double().expand(2, 17))
    assert relative(psi, arrays["attention_paper"]) < 1e-4
    masked = MaskedAttention(attention, BinaryMask((16,)), torch.Generator(), 1, False).double().eval()
    assert relative(masked(arrays["tokens"].double()), arrays["out_unmasked"]) < 1e-4


@pytest.mark.parametrize("make", [nets.vit, nets.swin])
@pytest.mark.parametrize("training", [False, True])
def test_all_ones_is_the_plain_network(make, training):
    # A padded Swin is left out: timm's padding attracts attention, MEAT's counts as masked.
    plain = nets.vit() if make is nets.vit else nets.swin(32)
    net = nets.masked(plain, self_loop=make is nets.swin)
    nets.settle(net)
    pixels = nets.images(plain)
    assert_same_to_rounding(partial(net.train(training), pixels), plain(pixels))
    site, masked = find_sites(plain)[0], net.attentions[0]
    tokens = torch.randn(8, 17 if make is nets.vit else 16, site.width) * 0.3
    assert_same_to_rounding(partial(masked, tokens), site.attention(tokens))


@pytest.mark.parametrize("make", [nets.vit, nets.swin])
@pytest.mark.parametrize("keep", [0.6, 0.0])
@pytest.mark.parametrize("ffn", ["elementwise", "neuron", "none"])
def test_training_and_inference_compute_the_same_function(make, keep, ffn):
    net = nets.masked(make(), ffn, self_loop=make is nets.swin)
    nets.draw(net, keep)
    nets.settle(net)
    pixels = nets.images(net)
    expected = net.eval()(pixels)
    assert bool(torch.isfinite(expected).all())
    assert_same_to_rounding(partial(net.train(), pixels), expected)


def test_gathered_keys_and_values_equal_masked_attention():
    net = nets.masked(nets.vit())
    nets.draw(net, 0.5)
    attention = net.attentions[0]
    tokens = torch.randn(3, 17, 32)
    q, k, v = attention.qkv(tokens).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
    keep = attention.keep()
    gathered = F.scaled_dot_product_attention(q, k[:, :, keep], v[:, :, keep])
    expected = attention.proj(gathered.transpose(1, 2).flatten(2))
    assert_same_to_rounding(partial(attention, tokens), expected)


@pytest.mark.parametrize("index", range(4))
def test_swin_mask_is_shifted_padded_and_cut_like_the_map(index):
    net = nets.masked(nets.swin(), "none")
    nets.draw(net, 0.5)
    site, attention = find_sites(net)[index], net.attentions[index]
    (height, width), window = site.grid, site.window
    keep = attention.keep().view(1, height, width, 1).double()
    keep = torch.roll(keep, shifts=(-site.shift[0], -site.shift[1]), dims=(1, 2))
    keep = F.pad(keep, (0, 0, 0, -width % window[1], 0, -height % window[0]))
    keep = window_partition(keep, window).flatten(1)
    windows = torch.randn(2 * len(keep), window[0] * window[1], site.width)
    q, k, v = attention.qkv(windows).unflatten(-1, (3, site.heads, -1)).permute(2, 0, 3, 1, 4).double()
    table = attention.relative_position_bias_table[attention.relative_position_index]
    bias = table.permute(2, 0, 1)[None].double()
    if site.block.attn_mask is not None:
        bias = bias + site.block.attn_mask[:, None]
    out = naive(q, k, v, keep.repeat(2, 1), bias, self_loop=True)
    expected = attention.proj(out.transpose(1, 2).flatten(2).float())
    assert_same_to_rounding(partial(attention, windows, site.block.attn_mask), expected)


@pytest.mark.parametrize("index", [0, 1])
def test_swin_masked_token_is_seen_by_itself_alone(index):
    net = nets.masked(nets.swin(), "none")
    block, attention = find_sites(net)[index].block, net.attentions[index]
    bits = torch.ones(49, dtype=torch.bool)
    bits[24] = False  # the centre of the 7 x 7 map
    attention.mask.load(bits)
    before = torch.randn(1, 7, 7, 16)
    after = before.clone()
    after[0, 3, 3] += torch.randn(16)
    changed = (block._attn(before) != block._attn(after)).any(-1).flatten()
    assert changed.nonzero().flatten().tolist() == [24]


@pytest.mark.parametrize("make", [nets.vit, nets.swin])
@pytest.mark.parametrize("ffn", ["elementwise", "neuron"])
def test_gradients_reach_every_mask_and_nothing_else(make, ffn):
    # 32 px: on a padded map, shifting leaves a corner token alone in its window, seen by nobody.
    plain = nets.vit() if make is nets.vit else nets.swin(32)
    net = nets.masked(plain, ffn, self_loop=make is nets.swin).train()
    for mask in nets.masks_of(net):
        mask.reset(1.0, "uniform", net.noise)
    net(nets.images(net)).square().sum().backward()
    for name, parameter in net.named_parameters():
        if not name.endswith("logits"):
            assert parameter.grad is None, name
        elif "attn" in name:
            assert bool((parameter.grad != 0).all()), name
        else:
            assert float((parameter.grad != 0).float().mean()) > 0.99, name
    after = net.state_dict()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(after[name], tensor), name


@pytest.mark.parametrize("make", [nets.vit, nets.swin])
def test_token_noise_is_drawn_per_sample_and_weight_noise_per_pass(make):
    net = nets.masked(make(), "none", self_loop=make is nets.swin).train()
    for mask in nets.masks_of(net):
        mask.reset(1.0, "uniform", net.noise)
    same = nets.images(net, 1).expand(4, -1, -1, -1)
    assert float((net(same)[0] - net(same)[1]).detach().abs().max()) > 1e-3
    kept = [attention.kept for attention in net.attentions]
    assert all(0 < float(value.detach()) < 1 and value.requires_grad for value in kept)
    net = nets.masked(make(), "elementwise", self_loop=make is nets.swin).train()
    for attention in net.attentions:
        attention.mask.load(torch.ones_like(attention.mask.logits, dtype=torch.bool))
        attention.mask.logits.data.mul_(1e4)
    for ffn in net.ffns:
        for mask in ffn.masks:
            mask.reset(1.0, "uniform", net.noise)
    out = net(same)
    # Every pass draws other noise, so this one is not run again: like images are multiplied alike.
    torch.testing.assert_close(out[0], out[3])
    assert float((out - net(same)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("make", [nets.vit, nets.swin])
def test_a_prediction_does_not_depend_on_its_batch(make):
    net = nets.masked(make(), self_loop=make is nets.swin)
    nets.draw(net, 0.6)
    pixels = nets.images(net, 6)
    assert_same_to_rounding(partial(net, pixels), net(pixels[2:3]), np.array([2]))


def test_an_outside_mask_is_refused():
    with pytest.raises(ValueError, match="own attention mask"):
        nets.masked(nets.vit()).attentions[0](torch.zeros(1, 17, 32), torch.zeros(17, 17))
