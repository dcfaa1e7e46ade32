"""Augmentation: the same draws for every method, and nothing that changes a class."""

from __future__ import annotations

import pytest
import torch

from backbones.augment import augment, flip

IMAGES = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_image_is_itself_or_its_mirror_image() -> None:
    before = IMAGES.clone()
    flipped = flip(IMAGES, draws())
    same = (flipped == IMAGES).flatten(1).all(1)
    mirrored = (flipped == IMAGES.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 16 < int(mirrored.sum()) < 48  # 2e-4 of fair coins fall outside
    assert torch.equal(IMAGES, before)


def test_equal_generators_draw_alike() -> None:
    assert torch.equal(flip(IMAGES, draws()), flip(IMAGES, draws()))
    assert not torch.equal(flip(IMAGES, draws()), flip(IMAGES, draws(1)))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    augment(IMAGES, "standard", True, draws())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("recipe", "mirror"), [("none", True), ("standard", False), ("none", False)])
def test_images_stay_where_nothing_is_asked_or_mirroring_changes_the_class(recipe: str, mirror: bool) -> None:
    assert torch.equal(augment(IMAGES, recipe, mirror, draws()), IMAGES)  # type: ignore[arg-type]


def test_the_standard_recipe_mirrors() -> None:
    assert torch.equal(augment(IMAGES, "standard", True, draws()), flip(IMAGES, draws()))
