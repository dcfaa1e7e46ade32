"""Nearest class mean: the class whose mean feature is closest, on the frozen backbone.

    logit_c(x) = -|| f(x) - mu_c ||^2,   mu_c = mean of f over the training images of class c

(Mensink et al., TPAMI 2013; with a pretrained backbone the SimpleCIL of Zhou et al., 2024, up to its
cosine.) Learns each class once and forgets nothing; a domain-incremental stream updates the means of the
shared classes. Nothing trains.

Stored per task: one mean and one count per class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from backbones.backbone import Backbone
from benchmarks.images import Inputs
from benchmarks.stream import Task
from methods.base import Context, Footprint, Method
from methods.base.method import learnt_tensor, stored_bits


class NCM(Method):
    name = "ncm"
    reference = True

    @dataclass(frozen=True)
    class Config(Method.Config):
        """
        metric: "euclidean" (squared distance) or "cosine" (similarity with the mean)
        """

        metric: Literal["euclidean", "cosine"] = "euclidean"

    config: Config

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        backbone.freeze()
        # Sums in float64: means do not depend on the order in which domains arrive.
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def learn(self, task: Task) -> None:
        features = self.backbone.features(task.train.inputs, progress=self.context.progress).double()
        labels = torch.from_numpy(task.train.labels)
        for label, cls in enumerate(task.classes):
            chosen = features[labels == label]
            self._sums[cls] = self._sums.get(cls, 0) + chosen.sum(0)
            self._counts[cls] = self._counts.get(cls, 0) + len(chosen)
        self.passes = len(features)
        self.learnt.append(task.id)

    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        classes = self.columns() if task_id is None else self.context.info.classes[task_id]
        means = torch.stack([self._sums[cls] / max(self._counts[cls], 1) for cls in classes])
        features = self.backbone.features(inputs, progress=self.context.progress).double()
        if self.config.metric == "cosine":
            unit = torch.nn.functional.normalize
            return (unit(features, dim=1) @ unit(means, dim=1).T).float()
        return -torch.cdist(features, means).square().float()

    def state(self) -> dict[str, Tensor]:
        stored = {f"sum.{cls}": total for cls, total in self._sums.items()}
        stored |= {f"count.{cls}": torch.tensor(count) for cls, count in self._counts.items()}
        return {"learnt": learnt_tensor(self.learnt)} | stored

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        classes = self.columns() if task_id is None else self.context.info.classes[task_id]
        return {f"sum.{cls}": self._sums[cls] for cls in classes} | {
            f"count.{cls}": torch.tensor(self._counts[cls]) for cls in classes
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learnt = state["learnt"].tolist()
        self._sums = {int(n.split(".")[1]): t for n, t in state.items() if n.startswith("sum.")}
        self._counts = {int(n.split(".")[1]): int(t) for n, t in state.items() if n.startswith("count.")}

    def footprint(self) -> Footprint:
        kept = {name: tensor for name, tensor in self.state().items() if name != "learnt"}
        return Footprint(trainable=0, head=0, stored_bits=stored_bits(kept))
