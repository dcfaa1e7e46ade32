"""Augmentation, batched on the device and drawn from a generator that every method shares."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

Augment = Literal["standard", "crop", "none"]
RATIOS = (3 / 4, 4 / 3)  # of a crop's width to its height


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each of (B, 3, H, W) left to right with probability 1/2; a new tensor."""
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def crop(images: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """A random part of each of (B, 3, H, W), resized to the whole (Szegedy et al., CVPR 2015); bilinear.

    Its share of the area is uniform in [scale, 1], the logarithm of its ratio uniform between those of 3/4
    and 4/3, clipped to the image; its place is uniform.
    """
    area, ratio, across, down = torch.rand(4, len(images), generator=generator, device=images.device)
    low, high = (math.log(ratio) for ratio in RATIOS)
    stretched = torch.exp(0.5 * (low + (high - low) * ratio))
    side = (scale + (1 - scale) * area).sqrt()
    width, height = (side * stretched).clamp(max=1), (side / stretched).clamp(max=1)
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = width, height
    theta[:, 0, 2], theta[:, 1, 2] = (1 - width) * (2 * across - 1), (1 - height) * (2 * down - 1)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def augment(
    images: Tensor, kind: Augment, mirror: bool, generator: torch.Generator, scale: float = 0.08
) -> Tensor:
    """Apply a named augmentation to (B, 3, H, W).

    "standard" flips horizontally, and only if the stream says that a mirrored image keeps its class
    (`mirror`; digits do not); "crop" takes random resized crops of at least `scale` of the area,
    and those flips; "none" returns the images as they are.
    """
    if kind == "crop":
        images = crop(images, scale, generator)
    return flip(images, generator) if kind != "none" and mirror else images
