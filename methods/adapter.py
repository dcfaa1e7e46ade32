"""Adapters: small bottlenecks within a frozen network (Houlsby et al., ICML 2019).

    h <- h + W_up gelu(W_down h + b_down) + b_up

h is what a sublayer returns, before its residual connection: the MLP's (Pfeiffer et al., 2021) or also
that of attention (Houlsby). Trained are `adapter.down` and `adapter.up`; the first starts as PyTorch's
Linears do and the second at zero (with both at zero nothing would ever move).

Identity at init. Count: blocks * (2 r D + r + D) per place, 156,768 on ViT-B/16 with r = 8 after
the MLP, as the 0.16 M of VTAB's tables. Stored per task (or once): the bottlenecks and the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.functional import gelu

from backbones.backbone import Backbone
from backbones.capabilities import Capability
from methods.base import ParameterEfficient
from methods.base.efficient import insert


class Bottleneck(nn.Module):
    """W_up act(W_down x + b_down) + b_up of (..., C): nothing at first."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(gelu(self.down(x)))


class Adapter(ParameterEfficient):
    name = "adapter"
    needs = ("mlp",)

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        """
        rank: r, units of the bottleneck
        placement: "pfeiffer" (after the MLP) or "houlsby" (after attention and after the MLP)
        """

        rank: int = 8
        placement: Literal["pfeiffer", "houlsby"] = "pfeiffer"

    config: Config

    @classmethod
    def needs_of(cls, config: Any) -> tuple[Capability, ...]:
        return (*cls.needs, "attention") if config.placement == "houlsby" else cls.needs

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze()
        for site in backbone.sites():
            places = [site.mlp]
            if self.config.placement == "houlsby":
                places.append(site.attention)
            for place in places:
                added = Bottleneck(site.width, self.config.rank)
                insert(place, "adapter", added, lambda added, given, returned: returned + added(returned))
