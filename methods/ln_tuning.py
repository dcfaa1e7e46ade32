"""Norm tuning: only the scales and shifts of the normalisation layers train.

LayerNorms of a transformer as in Kim et al., "How to Adapt Your Large-Scale Vision-and-Language Model"
(2021) and Basu et al., "Strong Baselines for Parameter-Efficient Few-Shot Fine-Tuning" (AAAI 2024);
BatchNorms of a ConvNet as in Frankle et al., "Training BatchNorm and Only BatchNorm" (ICLR 2021), which
then also follow the statistics of their training images.

Trains weight and bias of every LayerNorm, RMSNorm, BatchNorm and GroupNorm. Identity at init. Count:
38,400 on ViT-B/16. Stored per task (or once): those, a BatchNorm's statistics, and the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from backbones.backbone import Backbone
from backbones.capabilities import is_norm
from methods.base import ParameterEfficient
from methods.base.gradient import rates


class NormTuning(ParameterEfficient):
    name = "ln_tuning"
    needs = ("norms",)

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        lr: float = 2e-3
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(2e-3)

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze()
        for module in backbone.net.modules():
            if is_norm(module):
                module.requires_grad_()
