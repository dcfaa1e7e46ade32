"""k nearest neighbours on the frozen backbone's features: Meta-Dataset's simplest baseline.

    logit_c(x) = mean of the k largest similarities s(f(x), f_i) over the images i of class c

With k = 1, the default and Meta-Dataset's choice, the class of the nearest image wins. With k > 1 it is
the class whose k nearest images are nearest on average (fewer where it has fewer), so that logits have no
ties, unlike a vote among five classes. s: the cosine, or minus the squared distance.

Stored per task: the feature of every training image, float32, with its class; no image is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from backbones.backbone import Backbone, BackboneInfo
from benchmarks.images import Inputs
from benchmarks.stream import StreamInfo, Task
from methods.base import Context, Footprint, Method
from methods.base.method import below, episode_features, learnt_tensor, stored_bits

Metric = Literal["cosine", "euclidean"]


class KNN(Method):
    name = "knn"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """
        k: nearest neighbours in each class
        metric: "cosine" or "euclidean" (minus the squared distance)
        """

        k: int = 1
        metric: Metric = "cosine"
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"k": (1, 3, 5)}

    config: Config

    @classmethod
    def supports(cls, config: Config, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        return None if config.k >= 1 else f"k={config.k} must be at least 1, the nearest image"

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        backbone.freeze()
        self._kept: dict[tuple[int, int], Tensor] = {}  # features (n, C) by task and class

    def learn(self, task: Task) -> None:
        features = self.backbone.features(task.train.inputs, progress=self.context.progress)
        for label, found in enumerate(by_class(features, task)):
            self._kept[task.id, task.classes[label]] = found
        self.passes = len(features)
        self.learnt.append(task.id)

    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        classes = self.columns() if task_id is None else self.context.info.classes[task_id]
        tasks = self.learnt if task_id is None else [task_id]
        kept = [torch.cat([self._kept[t, c] for t in tasks if (t, c) in self._kept]) for c in classes]
        return self._logits(self.backbone.features(inputs, progress=self.context.progress), kept)

    def score_episodes(self, episodes: Sequence[tuple[Task, Inputs]]) -> list[Tensor]:
        read = episode_features(self.backbone, episodes)
        return [
            self._logits(queries, by_class(support, task))
            for (task, _), (support, queries) in zip(episodes, read, strict=True)
        ]

    def _logits(self, features: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """(N, classes) of features (N, C), by those kept (n, C) of each class."""
        return torch.stack([self._nearness(features, known) for known in kept], dim=1)

    def _nearness(self, features: Tensor, known: Tensor) -> Tensor:
        if not len(known):
            return features.new_full((len(features),), -1e9)  # never the answer
        if self.config.metric == "cosine":
            unit = torch.nn.functional.normalize
            near = unit(features, dim=1) @ unit(known, dim=1).T
        else:
            near = -torch.cdist(features.double(), known.double()).square().float()
        return near.topk(min(self.config.k, len(known)), dim=1).values.mean(1)

    def state(self) -> dict[str, Tensor]:
        kept = {f"features.{task}.{cls}": found for (task, cls), found in self._kept.items()}
        return {"learnt": learnt_tensor(self.learnt)} | kept

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        kept = below("features.", self.state())
        return {n: t for n, t in kept.items() if task_id is None or n.startswith(f"{task_id}.")}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learnt = state["learnt"].tolist()
        named = [(name.split("."), found) for name, found in below("features.", state).items()]
        self._kept = {(int(task), int(cls)): found for (task, cls), found in named}

    def footprint(self) -> Footprint:
        return Footprint(trainable=0, head=0, stored_bits=stored_bits(below("features.", self.state())))


def by_class(features: Tensor, task: Task) -> list[Tensor]:
    """The features of each class of a task."""
    labels = torch.from_numpy(task.train.labels)
    return [features[labels == label] for label in range(len(task.classes))]
