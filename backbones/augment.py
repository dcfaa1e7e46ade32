"""Augmentation, batched on the device and drawn from a generator that every method shares."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Augment = Literal["standard", "none"]


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each of (B, 3, H, W) left to right with probability 1/2; a new tensor."""
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def augment(images: Tensor, kind: Augment, mirror: bool, generator: torch.Generator) -> Tensor:
    """Apply a named augmentation to (B, 3, H, W).

    "standard" flips horizontally, and only if the stream says that a mirrored image keeps its class
    (`mirror`; digits do not); "none" returns the images as they are.
    """
    return flip(images, generator) if kind == "standard" and mirror else images
