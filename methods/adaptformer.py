"""AdaptFormer: a bottleneck beside each MLP of a frozen network (Chen et al., NeurIPS 2022).

    MLP(x) + s (W_up relu(W_down x + b_down) + b_up),     x = LN(x'), the MLP's own input

as in the paper's equation 3; its public code takes x' without norm. Trained are `adaptformer.down`
(Kaiming uniform, as LoRA's A; bias 0) and `adaptformer.up` (zero).

Identity at init. Count: blocks * (2 r D + r + D), 1,189,632 on ViT-B/16 with r = 64. Stored per
task (or once): the bottlenecks and the head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import relu

from backbones.backbone import Backbone
from methods.base import ParameterEfficient
from methods.base.efficient import insert


class ParallelBottleneck(nn.Module):
    """s (W_up relu(W_down x + b_down) + b_up) of (..., C): nothing at first."""

    def __init__(self, width: int, rank: int, scale: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)
        self.scale = scale
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(relu(self.down(x))) * self.scale


class AdaptFormer(ParameterEfficient):
    name = "adaptformer"
    needs = ("mlp",)

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        """
        rank: r, units of the bottleneck
        scale: s
        """

        rank: int = 64
        scale: float = 0.1

    config: Config

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze()
        for site in backbone.sites():
            beside = ParallelBottleneck(site.width, self.config.rank, self.config.scale)
            insert(site.mlp, "adaptformer", beside, lambda beside, given, returned: returned + beside(given))
