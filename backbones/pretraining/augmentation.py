"""Augmentation for pretraining: kornia's, batched on the device, one draw for each image.

Draws come from torch's global generator, which the training loop seeds anew at each epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backbones.pretraining.settings import Settings
from benchmarks.errors import RequestError, pip_install


class Augmentation:
    """From stored pixels to augmented views at any size.

    mean, std: per channel of pixels in [0, 1]; strong: SimCLR's colours (strength 0.5) and grey images.
    """

    def __init__(
        self,
        settings: Settings,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        strong: bool,
        mirror: bool,
    ) -> None:
        self.settings = settings
        self.mean, self.std = mean, std
        self.strong = strong
        self.mirror = mirror
        self._made: dict[int, nn.Module] = {}

    def __call__(self, pixels: Tensor, size: int, views: int = 1) -> Tensor:
        """(B, H, W, 3) uint8 to (views * B, 3, size, size) float32, normalised; all first views first."""
        images = pixels.permute(0, 3, 1, 2).float() / 255
        drawn = torch.cat([self._view(size)(images) for _ in range(views)])
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        return ((drawn - mean) / std).contiguous()

    def _view(self, size: int) -> nn.Module:
        if size not in self._made:
            self._made[size] = self._make(size)
        return self._made[size]

    def _make(self, size: int) -> nn.Module:
        try:
            import kornia.augmentation as K
        except ImportError as error:
            raise RequestError(
                "pretraining augments with kornia, which is missing, and draws its curve with matplotlib; "
                f"type {pip_install('kornia', 'matplotlib')}"
            ) from error
        settings, square = self.settings, (size, size)
        if settings.augment == "none":
            return nn.Sequential(K.Resize(square, antialias=True))
        steps: list[nn.Module] = [
            # Resampled in one go: slicing would walk through the batch image by image.
            K.RandomResizedCrop(square, (settings.crop, 1.0), cropping_mode="resample", align_corners=False)
        ]
        if self.mirror:
            steps.append(K.RandomHorizontalFlip(p=0.5))
        if settings.augment == "standard":
            jitter = (0.4, 0.4, 0.4, 0.1) if self.strong else (0.3, 0.3, 0.3, 0.0)
            steps.append(K.ColorJitter(*jitter, p=0.8))
        if self.strong:
            steps.append(K.RandomGrayscale(p=0.2))
        return nn.Sequential(*steps)


class Mixing:
    """Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019), drawn for each batch; torchvision's."""

    def __init__(self, settings: Settings, classes: int) -> None:
        from torchvision.transforms import v2

        kinds: list[nn.Module] = []
        if settings.mixup > 0:
            kinds.append(v2.MixUp(alpha=settings.mixup, num_classes=classes))
        if settings.cutmix > 0:
            kinds.append(v2.CutMix(alpha=settings.cutmix, num_classes=classes))
        self._mix = v2.RandomChoice(kinds) if kinds else None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) and (B,) int64 to mixed images and targets (B, classes); as they are with neither."""
        if self._mix is None:
            return images, labels
        mixed, targets = self._mix(images, labels)
        return mixed, targets
