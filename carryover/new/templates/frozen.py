"""NewMethod: TITLE (AUTHORS, VENUE YEAR).

    g(x)       = sign(f(x)) |f(x)|^power
    mu_c       = mean of g over the training images of class c                  (eq. 1 of the paper)
    logit_c(x) = cos(g(x), mu_c)                                                (eq. 2)

f is the frozen network; its features are computed once and kept in the cache. Nothing trains.

Stored per task: a sum and a count for each class, 64 bits per value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from carryover import Backbone, Context, Footprint, Inputs, Method, Task, below, learnt_tensor, stored_bits


class NewMethod(Method):
    """Class means of powers of features: say here in one line what `carryover ls` shows."""

    name = "new_method"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """
        power: exponent of the absolute features; their sign is kept
        """

        # An option has a type (bool, int, float, str, a Literal, or one of these or None) and a default.
        power: float = 0.5
        # The values that a search tries on validation data.
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"power": (0.25, 0.5, 1.0)}

    config: Config

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        backbone.freeze()
        self._sums: dict[int, Tensor] = {}  # by class, (C + 1,): the sum of g and, last, the number of images

    def learn(self, task: Task) -> None:
        found = self._g(task.train.inputs)
        counted = torch.cat([found, found.new_ones(len(found), 1)], dim=1)
        labels = torch.from_numpy(task.train.labels)  # positions in task.classes
        for label, cls in enumerate(task.classes):
            # In a domain-incremental stream, every task has the same classes.
            self._sums[cls] = self._sums.get(cls, 0) + counted[labels == label].sum(0)
        self.passes = len(found)
        self.learnt.append(task.id)

    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        sums = torch.stack([self._sums[cls] for cls in self._classes(task_id)])
        means = sums[:, :-1] / sums[:, -1:].clamp_min(1)
        return (normalize(self._g(inputs), dim=1) @ normalize(means, dim=1).T).float()

    def _g(self, inputs: Inputs) -> Tensor:
        """(N, C) in float64, so that sums do not depend on the order in which tasks arrive."""
        features = self.backbone.features(inputs, progress=self.context.progress).double()
        return features.sign() * features.abs() ** self.config.power

    def _classes(self, task_id: int | None) -> tuple[int, ...]:
        """The classes of the columns: of one task if it is known, otherwise of all learnt tasks."""
        return self.columns() if task_id is None else self.context.info.classes[task_id]

    def state(self) -> dict[str, Tensor]:
        sums = {f"sum.{cls}": found for cls, found in self._sums.items()}
        return {"learnt": learnt_tensor(self.learnt)} | sums

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        """The state that a prediction depends on: while it stays the same, so do the scores."""
        return {f"sum.{cls}": self._sums[cls] for cls in self._classes(task_id)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learnt = state["learnt"].tolist()
        self._sums = {int(cls): found for cls, found in below("sum.", state).items()}

    def footprint(self) -> Footprint:
        return Footprint(trainable=0, head=0, stored_bits=stored_bits(below("sum.", self.state())))
