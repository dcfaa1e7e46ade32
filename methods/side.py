"""Side-tuning: a small network beside a frozen one (Zhang et al., ECCV 2020), as VTAB's tables list it.

    f(x) = a B(x) + (1 - a) S(x)        a = sigmoid(alpha)

B is the frozen network. S is this project's small ConvNet on the same image: four convolutions of stride 2,
each with a norm over groups of channels and a GELU, their mean over the map, and a Linear to B's width; the
paper copies or distils B, VTAB's baseline takes an AlexNet. Trained are `side.alpha` and S.

*Not* identity at init: alpha is 0, so the features are half of B's and half of S's, which starts
at random. Count: 196,993 on ViT-B/16, 97,920 + 129 C + 1 for a width of C with these channels. Stored per
task (or once): S, alpha and the head.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from backbones.backbone import Backbone
from methods.base import ParameterEfficient

CHANNELS = (3, 16, 32, 64, 128)


class Side(nn.Module):
    """(B, 3, S, S) to (B, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        stages = []
        for inside, outside in pairwise(CHANNELS):
            convolution = nn.Conv2d(inside, outside, 3, stride=2, padding=1)
            stages += [convolution, nn.GroupNorm(outside // 8, outside), nn.GELU()]
        self.stages = nn.Sequential(*stages)
        self.out = nn.Linear(CHANNELS[-1], width)
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.stages(images).mean((2, 3)))

    def blend(self, base: Tensor, images: Tensor) -> Tensor:
        """a B(x) + (1 - a) S(x) of B(x) (B, C)."""
        share = torch.sigmoid(self.alpha)
        return share * base + (1 - share) * self(images).float()


class SideTuning(ParameterEfficient):
    name = "side"
    identity_at_init: ClassVar[bool] = False

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze()
        self.side = Side(backbone.info.width)
        backbone.net.add_module("side", self.side)

    def features(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            base = self.backbone(images)
        with self.backbone.numerics.autocast():
            return self.side.blend(base, images)
