"""BitFit: only the biases train (Ben Zaken et al., ACL 2022).

Trains every parameter of the network that is named `bias`: of Linears, convolutions and norms, and `q_bias`
and `v_bias`, where attention (BEiT, EVA, Swin V2) keeps those of its fused layer by themselves. The
biases of a Swin's relative positions are tables of weights and stay. On a ConvNet these are mostly
BatchNorm's, which then also follows the statistics of its training images.

Identity at init. Count: 102,912 on ViT-B/16. Stored per task (or once): the biases, a
BatchNorm's statistics, and the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from backbones.backbone import Backbone
from backbones.capabilities import is_bias
from methods.base import ParameterEfficient
from methods.base.gradient import rates


class BitFit(ParameterEfficient):
    name = "bitfit"
    needs = ("biases",)

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        lr: float = 2e-3
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(2e-3)

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze(except_=is_bias)
