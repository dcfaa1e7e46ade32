"""Muon: its orthogonal steps, their size, and AdamW for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from backbones.muon import Muon, orthogonal
from backbones.training import groups_of


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 8, 24), (2, 24, 8), (1, 16, 16)])
def test_directions_are_kept_and_singular_values_come_close_to_one(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    matrices = drawn(*shape)
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonal(matrices, dtype)
    assert found.dtype == dtype
    found = found.float()
    values = torch.linalg.svdvals(found)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    turned = torch.einsum("nia,nij,naj->na", u, found, vh)  # along each pair of singular vectors
    assert turned.min() > 0.6


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(1, 4, 6)), torch.zeros(1, 4, 6))


def stepped(optimizer_class: type, model: nn.Module, lr: float = 0.01) -> nn.Module:
    groups = [
        {"params": list(group.parameters), "lr": lr, "weight_decay": 0.1, "matrices": group.matrices}
        for group in groups_of(model.named_parameters(), lr, 0.1)
    ]
    optimizer = optimizer_class(groups, lr=lr)
    for step in range(3):
        optimizer.zero_grad()
        model(drawn(5, 3, 4, 4) * (step + 1)).square().mean().backward()
        optimizer.step()
    return model


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 2), nn.Flatten(), nn.Linear(54, 54), nn.Linear(54, 2))


def test_what_is_no_matrix_is_left_to_adamw() -> None:
    """With matrices that do not move, biases see the same gradients under both."""

    def biases_alone() -> nn.Module:
        net = small_net()
        for parameter in net.parameters():
            parameter.requires_grad_(parameter.ndim == 1)
        return net

    ours, theirs = stepped(Muon, biases_alone()), stepped(torch.optim.AdamW, biases_alone())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (6, 2, 2, 2)])
def test_a_step_of_a_matrix_is_as_large_as_adamws(shape: tuple[int, ...]) -> None:
    """Liu et al. 2025: a root mean square of 0.2 lr, whatever the shape of a gradient of full rank."""
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = drawn(*shape)
    Muon([{"params": [parameter], "weight_decay": 0.0, "matrices": True}], lr=0.1).step()
    assert parameter.detach().square().mean().sqrt() == pytest.approx(0.02, rel=0.3)


def test_it_learns_what_adamw_learns() -> None:
    torch.manual_seed(1)
    x, wanted = drawn(64, 10), drawn(64, 10).roll(1, 1)
    for kind in (Muon, torch.optim.AdamW):
        torch.manual_seed(2)
        net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 10))
        groups = [
            {"params": list(g.parameters), "weight_decay": 0.0, "matrices": g.matrices}
            for g in groups_of(net.named_parameters(), 0.02, 0.0)
        ]
        optimizer = kind(groups, lr=0.02)
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = (net(x) - wanted).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.2 * losses[0]
