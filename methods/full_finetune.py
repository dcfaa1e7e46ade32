"""Full fine-tuning: the whole network trains on each task in turn.

The baseline that most papers leave too weak. With `backbone_lr_scale` well below 1 it is the slow
learner of SLCA (Zhang et al., ICCV 2023), which forgets far less.

Stored: the whole network, once, and the heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from backbones.backbone import Backbone
from backbones.training import ParameterGroup, groups_of
from methods.base import GradientMethod
from methods.base.gradient import rates


class FullFinetune(GradientMethod):
    name = "full_finetune"
    reference = True

    @dataclass(frozen=True)
    class Config(GradientMethod.Config):
        """
        backbone_lr_scale: the backbone's learning rate is `lr` times this; the heads' is `head_lr`
        """

        epochs: int = 2
        lr: float = 5e-4
        backbone_lr_scale: float = 1.0
        search: ClassVar[Mapping[str, Sequence[Any]]] = {
            **rates(5e-4),
            "backbone_lr_scale": (1.0, 0.1, 0.01),
        }

    config: Config

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze(except_=lambda name: True)

    def groups(self) -> list[ParameterGroup]:
        config = self.config
        lr = config.lr * config.backbone_lr_scale
        inside = groups_of(self.backbone.net.named_parameters(), lr, config.weight_decay)
        return [*inside, *self.head_groups()]
