"""From stored pixels to what a network sees, batched on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Preprocessing:
    """size: (height, width) in pixels of the network's input; mean, std: per channel of pixels in [0, 1].

    The whole image is resized, squeezed if its aspect differs; nothing is cropped.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def rule(self) -> str:
        """How pixels come to the network's resolution, in words."""
        height, width = self.size
        return (
            f"whole image to {height}x{width}, bicubic "
            "(torch interpolate, align_corners off, antialias when shrinking, no clamp)"
        )

    @property
    def normalisation(self) -> str:
        """Mean and deviation in words; they belong to the network."""
        return f"mean {','.join(map(repr, self.mean))}, std {','.join(map(repr, self.std))}"

    def describe(self) -> str:
        """The rule and the normalisation, equal exactly when two preprocessings are."""
        return f"{self.rule}, {self.normalisation}"

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to (B, 3, *size) float32 on the same device; ValueError for anything else."""
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
            raise ValueError(f"pixels are (B, H, W, 3) uint8, not {tuple(pixels.shape)} {pixels.dtype}")
        images = pixels.permute(0, 3, 1, 2).float().div_(255)
        height, width = images.shape[-2:]
        if (height, width) != self.size:
            # Antialiasing would blur an image that grows, and without it one that shrinks is aliased.
            shrinks = height > self.size[0] or width > self.size[1]
            images = F.interpolate(images, self.size, mode="bicubic", align_corners=False, antialias=shrinks)
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        return ((images - mean) / std).contiguous()
