"""Sampled masks have the distribution and the gradient of the hard Gumbel softmax, and pack into bits."""

from __future__ import annotations

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from backbones.sites import find_sites
from methods.meat import drop_control, mask_attention, mask_ffn
from methods.meat.masks import BinaryMask, logistic_noise, pack_bits, unpack_bits


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mask_at(logits: Tensor) -> BinaryMask:
    mask = BinaryMask(tuple(logits.shape)).to(logits.dtype)
    with torch.no_grad():
        mask.logits.copy_(logits)
    return mask


def straight_through(logits: Tensor, seed: int, batch: tuple[int, ...] = ()) -> Tensor:
    """The textbook form: hard forward, gradient of sigmoid(s + noise)."""
    soft = torch.sigmoid(logits + logistic_noise((*batch, *logits.shape), logits.detach(), noise(seed)))
    return (soft > 0.5).to(soft) + soft - soft.detach()


def test_fresh_masks_keep_what_gamma_says_and_at_inference_everything():
    mask = BinaryMask((1000,))
    mask.reset(4.0, "gamma", noise())
    sampled = mask.sample(noise(1), (1000,))
    assert set(sampled.unique().tolist()) <= {0.0, 1.0}
    assert abs(float(sampled.detach().double().mean()) - 0.99966) < 1e-3
    assert abs(float((1 - sampled.detach().double()).mean()) - 3.35e-4) < 8e-5  # four deviations
    assert bool(mask.hard().all())


@pytest.mark.parametrize("logit", [-2.0, 0.0, 0.7, 3.0])
def test_sampling_follows_the_two_logit_gumbel_softmax(logit):
    sampled = mask_at(torch.full((1000,), logit)).sample(noise(), (200,)).mean()
    gumbel = -torch.log(-torch.log(torch.rand(2, 200_000, generator=noise(1), dtype=torch.float64)))
    expected = (gumbel[0] + logit / 2 > gumbel[1] - logit / 2).double().mean()
    assert abs(float(sampled.detach()) - float(expected)) < 5e-3


def test_uniform_init_is_the_difference_of_two_uniform_logits():
    mask = BinaryMask((200_000,))
    mask.reset(3.0, "uniform", noise())
    logits = mask.logits.detach()
    assert float(logits.abs().max()) < 6.0
    assert abs(float(logits.mean())) < 0.03
    assert abs(float(logits.var()) - 6.0) < 0.1  # twice 3^2 / 3


@pytest.mark.parametrize("batch", [(), (5,)])
def test_sample_has_the_straight_through_gradient(batch):
    logits = torch.linspace(-9, 9, 40, dtype=torch.float64)
    mask, reference = mask_at(logits), logits.clone().requires_grad_()
    upstream = torch.randn(*batch, 40, dtype=torch.float64, generator=noise(3))
    ours, theirs = mask.sample(noise(7), batch), straight_through(reference, 7, batch)
    assert torch.equal(ours, theirs.round())
    (ours * upstream).sum().backward()
    (theirs * upstream).sum().backward()
    torch.testing.assert_close(mask.logits.grad, reference.grad, rtol=1e-10, atol=1e-14)


def test_masked_weight_equals_the_naive_product_and_its_gradient():
    logits = torch.linspace(-6, 6, 60, dtype=torch.float64).reshape(10, 6)
    weight = torch.randn(10, 6, dtype=torch.float64, generator=noise(2))
    upstream = torch.randn(10, 6, dtype=torch.float64, generator=noise(3))
    mask, reference = mask_at(logits), logits.clone().requires_grad_()
    ours, theirs = mask.sample_weight(weight, noise(7)), weight * straight_through(reference, 7)
    torch.testing.assert_close(ours, theirs)
    (ours * upstream).sum().backward()
    (theirs * upstream).sum().backward()
    torch.testing.assert_close(mask.logits.grad, reference.grad, rtol=1e-10, atol=1e-14)


def test_every_logit_gets_a_gradient_even_far_from_zero_and_under_autocast():
    mask = mask_at(torch.linspace(-60, 60, 121))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mask.sample_weight(torch.ones(121), noise()).sum().backward()
    assert mask.logits.grad.dtype == torch.float32
    assert bool((mask.logits.grad > 0).all())


def test_extreme_noise_gives_no_nan():
    mask = mask_at(torch.tensor([-1e5, 0.0, 1e5]))
    sampled = mask.sample(noise(), (1000,))
    sampled.sum().backward()
    assert bool(torch.isfinite(mask.logits.grad).all())
    assert sampled[:, 0].sum() == 0
    assert sampled[:, 2].sum() == 1000


def test_a_weight_that_trains_is_refused():
    with pytest.raises(ValueError, match="frozen"):
        BinaryMask((2, 2)).sample_weight(torch.ones(2, 2, requires_grad=True), noise())


def test_drop_control_is_zero_at_lambda_and_pushes_both_ways():
    ones = torch.ones(6, requires_grad=True)
    assert drop_control([ones.mean()], 0.9).item() == pytest.approx(0.01, abs=1e-7)
    assert drop_control([torch.tensor(0.9), torch.tensor(0.9)], 0.9).item() == 0
    assert drop_control([torch.tensor(0.9), torch.tensor(0.7)], 0.9).item() == pytest.approx(0.02)
    for mean, sign in ((0.95, 1), (0.85, -1)):
        kept = torch.tensor(mean, requires_grad=True)
        drop_control([kept], 0.9).backward()
        assert torch.sign(kept.grad) == sign


SHAPES = st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), max_size=5)


@settings(deadline=None)
@given(shapes=SHAPES, seed=st.integers(0, 2**32))
def test_unpack_inverts_pack_in_as_few_bytes_as_the_bits_need(shapes, seed):
    masks = [torch.rand(shape, generator=noise(seed)) < 0.5 for shape in shapes]
    packed = pack_bits(masks)
    assert packed.dtype == torch.uint8
    assert len(packed) == (sum(mask.numel() for mask in masks) + 7) // 8
    for before, after in zip(masks, unpack_bits(packed, shapes), strict=True):
        assert torch.equal(before, after)


def test_packed_masks_of_another_length_are_refused():
    with pytest.raises(ValueError, match="9 mask bits need 2 bytes, got 3"):
        unpack_bits(torch.zeros(3, dtype=torch.uint8), [(3, 3)])


@pytest.mark.parametrize(
    ("name", "ffn", "bits"),
    [
        ("deit_tiny_patch16_224", "elementwise", 3_541_296),
        ("deit_tiny_patch16_224", "neuron", 12 * (196 + 768)),
        ("deit_tiny_patch16_224", "none", 12 * 196),
        ("deit_small_patch16_224", "elementwise", 12 * (196 + 2 * 384 * 1536)),
        ("vit_base_patch16_224", "elementwise", 12 * (196 + 2 * 768 * 3072)),
        ("swin_tiny_patch4_window7_224", "none", 2 * 3136 + 2 * 784 + 6 * 196 + 2 * 49),
    ],
)
def test_published_architectures_store_the_bits_the_paper_counts(name, ffn, bits):
    with torch.device("meta"):
        net = timm.create_model(name, num_classes=0)
        sites = find_sites(net)
        masks = [mask_attention(site, noise(), False).mask for site in sites]
        if ffn != "none":
            masks += [mask for site in sites for mask in mask_ffn(site, noise(), ffn).masks]
    assert sum(mask.logits.numel() for mask in masks) == bits


def test_deit_tiny_packs_into_442662_bytes():
    bits = torch.ones(3_541_296, dtype=torch.bool)
    assert len(pack_bits([bits])) == 442_662
