"""SSF: scale and shift the features after every operation (Lian et al., NeurIPS 2022).

    y = gamma * x + beta        per channel, after each Linear, convolution and norm

The network is frozen; trained are `ssf.scale` (gamma) and `ssf.shift` (beta) of each operation. The
public code draws gamma around 1 and beta around 0; here they are 1 and 0.

Identity at init. Count: 205,824 on ViT-B/16. Stored per task (or once): gamma, beta and the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from backbones.backbone import Backbone
from backbones.capabilities import NORMS
from methods.base import ParameterEfficient
from methods.base.efficient import insert
from methods.base.gradient import rates


class ScaleShift(nn.Module):
    """Of (..., C), or with maps=True of (B, C, H, W)."""

    def __init__(self, channels: int, maps: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.maps = maps

    def forward(self, x: Tensor) -> Tensor:
        if self.maps:
            return x * self.scale[:, None, None] + self.shift[:, None, None]
        return x * self.scale + self.shift


class SSF(ParameterEfficient):
    name = "ssf"

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        lr: float = 5e-3
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(5e-3)

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze()
        for module in list(backbone.net.modules()):
            channels = _channels(module)
            if channels:
                # timm's layers for maps in NCHW say so in their names, LayerNorm2d as well as torch's own.
                named = "2d" in type(module).__name__
                maps = named or isinstance(module, nn.Conv2d | nn.GroupNorm)
                scaled = ScaleShift(channels, maps)
                insert(module, "ssf", scaled, lambda ssf, given, returned: ssf(returned))


def _channels(module: nn.Module) -> int:
    """The output channels of an operation; 0 for other modules."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    if not isinstance(module, NORMS):
        return 0
    channels = getattr(module, "num_features", None) or getattr(module, "num_channels", None)
    return int(channels or cast(Any, module).normalized_shape[-1])
