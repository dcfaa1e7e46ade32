"""Classification with label smoothing and, optionally, a teacher.

    loss = (1 - a) CE(y, p) + a T^2 KL(q_T || p_T)          Hinton, Vinyals and Dean 2015, section 2

p, q: softmax of the network's and the teacher's logits, p_T and q_T at temperature T. The teacher sees
the very images that the network sees, mixed and cropped alike (Beyer et al., CVPR 2022, "function
matching").
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Supervised(nn.Module):
    """The objective "supervised" on a network with a classifier.

    teacher: a frozen network with a classifier over the same classes, or None; distill: a; size: (H, W)
    that the teacher's images are resized to; taught_from: the teacher is used for images of at least that
    many pixels a side. On smaller images than it was trained with, it may know less than its student.
    """

    views: ClassVar[int] = 1

    def __init__(
        self,
        net: nn.Module,
        label_smoothing: float = 0.0,
        teacher: nn.Module | None = None,
        distill: float = 0.5,
        temperature: float = 1.0,
        size: tuple[int, int] | None = None,
        taught_from: int = 0,
    ) -> None:
        super().__init__()
        self.net = net
        self.label_smoothing = label_smoothing
        self.distill = distill if teacher is not None else 0.0
        self.temperature = temperature
        self.size = size
        self.taught_from = taught_from
        # In a tuple, it is no submodule: it neither trains nor is saved nor changes its mode.
        self._teacher = (teacher.eval().requires_grad_(False),) if teacher is not None else ()

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss, scalar float32; images: (B, 3, H, W); labels: (B,) int64, or (B, classes) where mixed."""
        logits = self.net(images).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if not self._teacher or min(images.shape[-2:]) < self.taught_from:
            return loss
        with torch.no_grad():
            wanted = self._teacher[0](self._resized(images)).float()
        t = self.temperature
        matching = F.kl_div(
            F.log_softmax(logits / t, 1), F.log_softmax(wanted / t, 1), reduction="batchmean", log_target=True
        )
        return (1 - self.distill) * loss + self.distill * t * t * matching

    def _resized(self, images: Tensor) -> Tensor:
        if self.size is None or images.shape[-2:] == self.size:
            return images
        return F.interpolate(images, self.size, mode="bilinear", align_corners=False, antialias=False)
