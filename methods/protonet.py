"""Prototypical networks (Snell, Swersky & Zemel, NeurIPS 2017), on the frozen backbone.

    logit_c(x) = -|| f(x) - mu_c ||^2,   mu_c = mean of f over the support images of class c

In an episode the paper's classifier; in a continual stream a mean for each class seen, which a domain
stream updates (so it is `ncm`, which differs by what it may be asked). The features are the backbone's:
there is no meta-training here.

Stored per task: one sum and one count per class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backbones.backbone import Backbone
from benchmarks.images import Inputs
from benchmarks.stream import Task
from methods.base import Context, Footprint, Method
from methods.base.method import below, episode_features, learnt_tensor, stored_bits


class ProtoNet(Method):
    name = "protonet"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """No options."""

    config: Config

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        backbone.freeze()
        # By class, (C + 1,) in float64: the sum of features and, last, their number.
        self._sums: dict[int, Tensor] = {}

    def learn(self, task: Task) -> None:
        features = self.backbone.features(task.train.inputs, progress=self.context.progress)
        sums = sums_of(features, torch.from_numpy(task.train.labels), len(task.classes))
        for cls, found in zip(task.classes, sums, strict=True):
            self._sums[cls] = self._sums.get(cls, 0) + found
        self.passes = len(features)
        self.learnt.append(task.id)

    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        features = self.backbone.features(inputs, progress=self.context.progress)
        return logits_of(features, torch.stack([self._sums[cls] for cls in self._classes(task_id)]))

    def score_episodes(self, episodes: Sequence[tuple[Task, Inputs]]) -> list[Tensor]:
        scored = []
        read = episode_features(self.backbone, episodes)
        for (task, _), (support, queries) in zip(episodes, read, strict=True):
            sums = sums_of(support, torch.from_numpy(task.train.labels), len(task.classes))
            scored.append(logits_of(queries, sums))
        return scored

    def _classes(self, task_id: int | None) -> tuple[int, ...]:
        return self.columns() if task_id is None else self.context.info.classes[task_id]

    def state(self) -> dict[str, Tensor]:
        sums = {f"sum.{cls}": found for cls, found in self._sums.items()}
        return {"learnt": learnt_tensor(self.learnt)} | sums

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        return {f"sum.{cls}": self._sums[cls] for cls in self._classes(task_id)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learnt = state["learnt"].tolist()
        self._sums = {int(cls): found for cls, found in below("sum.", state).items()}

    def footprint(self) -> Footprint:
        return Footprint(trainable=0, head=0, stored_bits=stored_bits(below("sum.", self.state())))


def sums_of(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(classes, C + 1) float64: by class the sum of features (N, C) and, last, their number."""
    counted = torch.cat([features.double(), features.new_ones(len(features), 1).double()], dim=1)
    return counted.new_zeros(classes, counted.shape[1]).index_add_(0, labels, counted)


def logits_of(features: Tensor, sums: Tensor) -> Tensor:
    """Minus the squared distances (N, classes) of features (N, C) to the means."""
    means = sums[:, :-1] / sums[:, -1:].clamp_min(1)
    # A class without an image has no mean, and is never the answer.
    return (-torch.cdist(features.double(), means).square()).masked_fill(sums[:, -1] == 0, -1e9).float()
