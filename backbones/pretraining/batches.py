"""The batches of an epoch: shuffled, augmented at the stage's size, mixed if there are classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from backbones.loading import Loader
from backbones.preprocessing import Preprocessing
from backbones.pretraining.augmentation import Augmentation, Mixing
from backbones.pretraining.settings import Settings, Stage, size_at
from backbones.training import Batch
from benchmarks.images import Labelled
from benchmarks.seeds import generator


class Batches:
    """Epochs over `data`.

    preprocessing: its mean and deviation are the network's; classes: 0 for an objective without a
    classifier, whose images are not mixed; strong colours go with two views.
    """

    def __init__(
        self,
        data: Labelled,
        settings: Settings,
        stages: tuple[Stage, ...],
        preprocessing: Preprocessing,
        device: str,
        *,
        classes: int,
        views: int,
        mirror: bool,
    ) -> None:
        self.settings, self.stages, self.views, self.classes = settings, stages, views, classes
        self.device = device
        self._loader = Loader(data.inputs, device)
        self._labels = torch.from_numpy(np.ascontiguousarray(data.labels)).to(device)
        self._augment = Augmentation(
            settings, preprocessing.mean, preprocessing.std, strong=views == 2, mirror=mirror
        )
        self._mix = Mixing(settings, classes)

    @property
    def steps(self) -> int:
        """Steps of one epoch, without a small last batch, which would spoil BatchNorm's statistics."""
        return max(1, len(self._labels) // self.settings.batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Images (views * B, 3, S, S) and labels (B,), or (B, classes) where mixed; epochs from 0."""
        size = size_at(self.stages, epoch)
        order = generator("pretrain", "order", self.settings.seed, epoch).permutation(len(self._labels))
        order = order[: self.steps * self.settings.batch_size]
        for positions, pixels in self._loader.batches(order, self.settings.batch_size):
            images = self._augment(pixels, size, self.views)
            labels = self._labels[torch.from_numpy(positions).to(self.device)]
            yield self._mix(images, labels) if self.classes else (images, labels)
