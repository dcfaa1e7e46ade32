"""SimCLR's loss is equation 1 of its paper, with the symmetries that follow, on every kind of network."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import Tensor

from backbones.architecture import build
from backbones.names import parse
from backbones.pretraining.simclr import SimCLR, nt_xent
from benchmarks.errors import RequestError

NO_LABELS = torch.empty(0)


def features(images: int = 5, width: int = 7, seed: int = 0) -> Tensor:
    """(2B, D) float64, first views first."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(2 * images, width, generator=source, dtype=torch.float64)


def pictures(images: int = 3, size: int = 32) -> Tensor:
    return torch.randn(2 * images, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0])
def test_loss_is_equation_1_written_out(temperature):
    z = features()
    rows, total = len(z), 0.0
    for i in range(rows):
        j = (i + rows // 2) % rows
        e = [math.exp(float(torch.cosine_similarity(z[i], z[k], dim=0)) / temperature) for k in range(rows)]
        total -= math.log(e[j] / sum(e[k] for k in range(rows) if k != i))
    assert float(nt_xent(z, temperature)) == pytest.approx(total / rows, rel=1e-12)


def test_exchanging_the_views_changes_nothing():
    z = features()
    torch.testing.assert_close(nt_xent(z.roll(5, 0), 0.1), nt_xent(z, 0.1))


def test_the_order_of_the_images_does_not_matter_but_who_belongs_together_does():
    z = features()
    order = torch.tensor([3, 0, 4, 1, 2])
    together = torch.cat([z[:5][order], z[5:][order]])
    torch.testing.assert_close(nt_xent(together, 0.1), nt_xent(z, 0.1))
    apart = torch.cat([z[:5], z[5:][order]])
    assert abs(float(nt_xent(apart, 0.1) - nt_xent(z, 0.1))) > 0.1


def test_lengths_do_not_matter_and_temperature_does():
    z = features()
    lengths = torch.rand(10, 1, dtype=torch.float64) * 9 + 0.1
    torch.testing.assert_close(nt_xent(z * lengths, 0.1), nt_xent(z, 0.1))
    assert abs(float(nt_xent(z, 0.5) - nt_xent(z, 0.1))) > 0.1


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("images", [2, 6])
def test_closed_forms(images, temperature):
    eye = torch.eye(images, dtype=torch.float64)
    others = 2 * images - 2

    def loss(one_view: Tensor) -> float:
        return float(nt_xent(torch.cat([one_view, one_view]), temperature))

    # All alike; views alike and images orthogonal; views alike and images the corners of a simplex.
    assert loss(torch.ones_like(eye)) == pytest.approx(math.log(2 * images - 1))
    assert loss(eye) == pytest.approx(math.log1p(others * math.exp(-1 / temperature)))
    least = math.log1p(others * math.exp(-images / (images - 1) / temperature))
    assert loss(eye - 1 / images) == pytest.approx(least)
    assert least < min(float(nt_xent(features(images, 3, seed), temperature)) for seed in range(50))


def test_descent_reaches_the_least_loss():
    z = features(3, 4).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        nt_xent(z, 1.0).backward()
        optimizer.step()
    assert float(nt_xent(z, 1.0).detach()) == pytest.approx(math.log1p(4 * math.exp(-1.5)), abs=1e-3)


def test_a_low_temperature_overflows_neither_loss_nor_gradient():
    z = features().float().requires_grad_()
    loss = nt_xent(z, 1e-3)
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(z.grad.isfinite().all())


def test_bfloat16_features_are_compared_in_float32():
    z = features().bfloat16()
    expected = nt_xent(z.float(), 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(z, 0.05)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_one_image_has_nothing_to_be_told_from():
    with pytest.raises(RequestError, match="at least 2 images in a batch; raise batch_size"):
        nt_xent(features(1), 0.1)


def test_rows_without_a_partner_are_an_error():
    with pytest.raises(ValueError, match="two views"):
        nt_xent(features()[:-1], 0.1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"projection_width": 0}, "projection_width=0 must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(RequestError, match=said):
        SimCLR(build(parse("tiny_vit")), **settings)


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if name.startswith("tiny"):
        return build(parse(name))
    return timm.create_model(name, num_classes=0)


@pytest.mark.parametrize(
    "name",
    [
        "tiny_vit",
        "tiny_vit?global_pool=avg",
        "tiny_swin",
        "test_resnet",
        "test_convnext",
        "mobilenetv3_small_050",
    ],
)
def test_gradient_reaches_every_trained_part_of_any_network(name):
    model = SimCLR(network(name))
    before = set(model.net.state_dict())
    model(pictures(4), NO_LABELS).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert still == []
    assert set(model.net.state_dict()) == before


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_swin"])
def test_loss_of_a_network_is_that_of_its_projected_features(name):
    model = SimCLR(network(name), projection_width=6, temperature=0.2).eval()
    views = pictures()
    with torch.no_grad():
        hidden = torch.relu(model.project[0](model.net(views)))
        expected = nt_xent(model.project[2](hidden), 0.2)
        torch.testing.assert_close(model(views, NO_LABELS), expected)
        assert model.project[2](hidden).shape == (6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(views, NO_LABELS)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach(), expected, rtol=0.05, atol=0.05)


def test_training_brings_the_views_of_an_image_together():
    model = SimCLR(network("tiny_vit"), temperature=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    base = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    draw = torch.Generator().manual_seed(4)

    def views() -> Tensor:
        return torch.cat([base, base]) + 0.5 * torch.randn(16, 3, 32, 32, generator=draw)

    first = float(model(views(), NO_LABELS).detach())
    for _ in range(15):
        optimizer.zero_grad()
        model(views(), NO_LABELS).backward()
        optimizer.step()
    assert float(model(views(), NO_LABELS).detach()) < first - 0.3
