"""Linear probe: a linear head on the features of the frozen backbone.

solver="sgd"    a head per scenario (`Heads`), trained by SGD on the cached features
solver="exact"  multinomial logistic regression to the optimum (scikit-learn), which needs all data of
                a classifier at once, so task-incremental streams only

Features are standardised by the mean and deviation of the training features of the first task
(sgd, class and domain), or of each task (task-incremental).

Stored per task: the head; the mean and deviation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from backbones.backbone import Backbone, BackboneInfo
from backbones.training import Batch, Optimization, fit, groups_of
from benchmarks.images import Inputs
from benchmarks.stream import StreamInfo, Task
from methods.base import Context, Footprint, Heads, Method
from methods.base.method import below, learnt_tensor, stored_bits


class LinearProbe(Method):
    name = "linear_probe"
    reference = True

    @dataclass(frozen=True)
    class Config(Method.Config):
        """
        solver: "sgd" or "exact"
        epochs: passes of SGD over a task's cached features
        batch_size: features per step
        lr: SGD's learning rate (momentum 0.9, cosine)
        weight_decay: SGD's, on the weights
        C: inverse regularisation of the exact solution, as in scikit-learn
        """

        solver: Literal["sgd", "exact"] = "sgd"
        epochs: int = 30
        batch_size: int = 128
        lr: float = 0.01
        weight_decay: float = 5e-4
        C: float = 0.1
        search: ClassVar[Mapping[str, Sequence[Any]]] = {
            "lr": (0.01, 0.03, 0.1, 0.003, 0.3, 0.001, 1.0),
            "weight_decay": (5e-4, 0.0, 5e-3, 5e-5),
        }

        def space(self) -> Mapping[str, Sequence[Any]]:
            """The search space; the exact solution has none of SGD's options."""
            return {"C": (0.1, 1.0, 0.01, 10.0)} if self.solver == "exact" else self.search

    config: Config

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if config.solver == "exact" and info.scenario != "task" and info.tasks > 1:
            return (
                "the exact solution needs all data of a classifier at once, and a "
                f"{info.scenario}-incremental stream brings them one task after another; "
                "take solver=sgd, or joint with probe=true"
            )
        return None

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        backbone.freeze()
        self.heads = Heads(context.info, backbone.info.width, context.seeds)
        self._scales: dict[str, Tensor] = {}  # (2, C): mean and deviation of the features

    def _scale_key(self, task_id: int | None) -> str:
        return str(task_id) if self.context.info.scenario == "task" else "shared"

    def _features(self, inputs: Inputs, task_id: int | None) -> Tensor:
        mean, deviation = self._scales[self._scale_key(task_id)]
        features = self.backbone.features(inputs, progress=self.context.progress)
        return (features - mean) / deviation

    def learn(self, task: Task) -> None:
        key = self._scale_key(task.id)
        if key not in self._scales:
            raw = self.backbone.features(task.train.inputs, progress=self.context.progress)
            deviation = raw.std(0, correction=0) + 1e-6
            self._scales[key] = torch.stack([raw.mean(0), deviation])
        self.heads.open(task.id)
        features = self._features(task.train.inputs, task.id)
        labels = torch.from_numpy(task.train.labels)
        if self.config.solver == "exact":
            self.passes = len(features)
            self._solve(task, features.numpy(), task.train.labels)
        else:
            self.passes = self.config.epochs * len(features)
            self._descend(task, features, labels)
        self.learnt.append(task.id)

    def _solve(self, task: Task, features: np.ndarray, labels: np.ndarray) -> None:
        """Put the optimum of multinomial logistic regression into the task's head."""
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        # Products of so few columns: one thread is the fastest, and bits do not depend on how many there are.
        with threadpool_limits(1), warnings.catch_warnings():
            # With one or two shots of a class it suspects a regression.
            warnings.filterwarnings("ignore", message="The number of unique classes is greater")
            solution = LogisticRegression(C=self.config.C, max_iter=1000).fit(features, labels)
        head = self.heads.linear(next(iter(self.heads.trained_on([task.id]))))
        weight, bias = solution.coef_, solution.intercept_
        if len(solution.classes_) == 2:  # scikit-learn keeps one row for two classes
            weight, bias = np.stack([-weight[0], weight[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
        with torch.no_grad():
            head.weight.zero_()
            head.bias.fill_(-1e9)  # a class without a training image is never the answer
            head.weight[solution.classes_] = torch.from_numpy(weight).to(head.weight)
            head.bias[solution.classes_] = torch.from_numpy(bias).to(head.bias)

    def _descend(self, task: Task, features: Tensor, labels: Tensor) -> None:
        config, seeds, stage = self.config, self.context.seeds, f"task {task.id}"
        targets = torch.stack([torch.full_like(labels, task.id), labels], dim=1)

        def epoch_of(epoch: int) -> Iterator[Batch]:
            rng = np.random.default_rng(seeds.shared("order", stage, epoch))
            order = torch.from_numpy(rng.permutation(len(features)))
            for positions in order.split(config.batch_size):
                yield features[positions], targets[positions]

        fit(
            lambda x, y: self.heads.loss(x, y, [task.id]),
            groups_of(self.heads.trained([task.id]).items(), config.lr, config.weight_decay),
            epoch_of,
            math.ceil(len(features) / config.batch_size),
            Optimization(config.epochs, optimizer="sgd"),
            numerics=self.backbone.numerics.on_cpu(),
            seed_of=lambda epoch: seeds.shared("global", stage, epoch),
            stage=stage,
            journal=self.context.journal,
            progress=self.context.progress,
        )

    @torch.no_grad()
    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        return self.heads(self._features(inputs, task_id), task_id)

    def state(self) -> dict[str, Tensor]:
        stored = {f"head.{name}": tensor for name, tensor in self.heads.stored().items()}
        stored |= {f"scale.{key}": tensor for key, tensor in self._scales.items()}
        return {"learnt": learnt_tensor(self.learnt)} | stored

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        return self.heads.state_of(task_id) | {"scale": self._scales[self._scale_key(task_id)]}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learnt = state["learnt"].tolist()
        self.heads.restore(below("head.", state), self.learnt)
        self._scales = below("scale.", state)

    def footprint(self) -> Footprint:
        head = sum(p.numel() for p in self.heads.trained(self.learnt[-1:]).values())
        kept = {name: tensor for name, tensor in self.state().items() if name != "learnt"}
        return Footprint(trainable=0, head=head, stored_bits=stored_bits(kept))
