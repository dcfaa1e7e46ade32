"""NewMethod: TITLE (AUTHORS, VENUE YEAR).

    s          = 1 / (deviation of f within its class, by channel)              (eq. 1 of the paper)
    mu_c       = mean of s f over the support images of class c
    logit_c(x) = -|| s f(x) - mu_c ||^2                                         (eq. 2)

s is learnt before the first episode, from training episodes of the stream's pool (`prepare`); s = 1 if the
stream has no pool. f is the frozen network. Nothing else trains.

Stored: s, and for each learnt class a sum and a count, 64 bits per value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from carryover import (
    Backbone,
    Context,
    Footprint,
    Inputs,
    Labelled,
    Method,
    Pool,
    Task,
    below,
    learnt_tensor,
    stored_bits,
)


class NewMethod(Method):
    """Prototypes with a scale learnt on the pool: say here in one line what `carryover ls` shows."""

    name = "new_method"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """
        episodes: episodes of the pool from which the scale is learnt; 0 leaves it at 1
        """

        # An option has a type (bool, int, float, str, a Literal, or one of these or None) and a default.
        episodes: int = 10
        # The values that a search tries on validation data.
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"episodes": (0, 10)}

    config: Config

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        backbone.freeze()
        self._scale = torch.ones(backbone.info.width, dtype=torch.float64)
        self._sums: dict[int, Tensor] = {}  # by class, (C + 1,): the sum of s f and, last, their number

    def prepare(self, pool: Pool | None) -> None:
        """Meta-training before the first task, on the episodes of seed 0 for every seed of the cell."""
        squares, images = torch.zeros_like(self._scale), 0
        for number in range(self.config.episodes if pool else 0):
            assert pool is not None
            support = pool.episode(0, number).support
            features = self.backbone.features(support.inputs).double()
            labels = torch.from_numpy(support.labels)
            sums = _sums_of(features, labels, len(support.class_names))
            means = sums[:, :-1] / sums[:, -1:].clamp_min(1)
            squares, images = squares + (features - means[labels]).square().sum(0), images + len(features)
        if images:
            self._scale = 1 / (squares / images + 1e-6).sqrt()

    def learn(self, task: Task) -> None:
        for cls, found in zip(task.classes, self._learnt(task.train), strict=True):
            self._sums[cls] = self._sums.get(cls, 0) + found
        self.passes = len(task.train)
        self.learnt.append(task.id)

    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        classes = self.columns() if task_id is None else self.context.info.classes[task_id]
        return self._logits(inputs, torch.stack([self._sums[cls] for cls in classes]))

    def score_episodes(self, episodes: Sequence[tuple[Task, Inputs]]) -> list[Tensor]:
        """Score many episodes with one instance; without this, a fresh instance learns each of them."""
        return [self._logits(queries, self._learnt(task.train)) for task, queries in episodes]

    def _learnt(self, support: Labelled) -> Tensor:
        """(N, C + 1): by class the sum of s f and, last, the number of images."""
        features = self.backbone.features(support.inputs).double() * self._scale
        return _sums_of(features, torch.from_numpy(support.labels), len(support.class_names))

    def _logits(self, inputs: Inputs, sums: Tensor) -> Tensor:
        features = self.backbone.features(inputs).double() * self._scale
        means = sums[:, :-1] / sums[:, -1:].clamp_min(1)
        return -torch.cdist(features, means).square().float()

    def state(self) -> dict[str, Tensor]:
        sums = {f"sum.{cls}": found for cls, found in self._sums.items()}
        return {"learnt": learnt_tensor(self.learnt), "scale": self._scale} | sums

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learnt = state["learnt"].tolist()
        self._scale = state["scale"]
        self._sums = {int(cls): found for cls, found in below("sum.", state).items()}

    def footprint(self) -> Footprint:
        kept = {name: tensor for name, tensor in self.state().items() if name != "learnt"}
        return Footprint(trainable=0, head=0, stored_bits=stored_bits(kept))


def _sums_of(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(classes, C + 1): by class the sum of features (N, C) and, last, their number."""
    counted = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    return counted.new_zeros(classes, counted.shape[1]).index_add_(0, labels, counted)
