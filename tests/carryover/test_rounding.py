"""What rounding explains: as much as the computation blows it up, and no more."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from carryover.protocols.rounding import OneRounding, Rounding

SOURCE = torch.Generator().manual_seed(0)
TERMS = torch.randn(30, 500, generator=SOURCE)
WEIGHTS = torch.randn(500, 4, generator=SOURCE) / 500**0.5


def added(order: Tensor) -> Tensor:
    """(30, 4) sums of 500 products, added one after the other in `order`."""
    total = torch.zeros(30, 4)
    for term in order.tolist():
        total = total + TERMS[:, term : term + 1] * WEIGHTS[term]
    return total


@pytest.mark.parametrize("factor", [1.0, 1e2, 1e4])
def test_another_order_of_a_sum_is_explained_however_much_it_is_blown_up(factor: float) -> None:
    forth, back = torch.arange(500), torch.arange(500).flip(0)
    rounding = Rounding(lambda: factor * (TERMS @ WEIGHTS - 1))
    for order in (forth, back):
        assert not rounding.unexplained(factor * (added(order) - 1))
    mistaken = added(forth)
    mistaken[3, 2] += 1e-4
    assert "of which rounding explains" in rounding.unexplained(factor * (mistaken - 1))


@pytest.mark.parametrize("place", [(slice(None), 3), (0, slice(None))], ids=["class", "image"])
def test_a_class_or_an_image_of_another_size_widens_no_others(place: tuple[object, object]) -> None:
    size = torch.ones(30, 4)
    size[place] = 1e9
    rounding = Rounding(lambda: size * (TERMS @ WEIGHTS))
    wrong = rounding.result.clone()
    wrong[5, 1] += 1e-3
    assert "by up to 0.001" in rounding.unexplained(wrong)


def test_infinite_answers_are_alike_and_nan_is_never_explained() -> None:
    found = torch.tensor([[0.5, -torch.inf], [1.5, -torch.inf]])
    rounding = Rounding(lambda: found + 0)
    assert not rounding.unexplained(found)
    assert rounding.unexplained(found.nan_to_num(neginf=torch.nan))
    assert rounding.unexplained(found[:, :1]) == "of shape (2, 1) instead of (2, 2)"


def test_a_trial_draws_from_no_global_generator_and_leaves_whole_numbers() -> None:
    before = torch.get_rng_state()
    with OneRounding(0):
        places = torch.arange(7.0) * 3
        moved = torch.full((7,), 0.3) * 3
    assert places.tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert 0 < float((moved - 0.9).abs().max()) < 4e-7
    assert torch.equal(torch.get_rng_state(), before)
