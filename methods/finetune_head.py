"""A head trained for a fixed number of steps on frozen features: Meta-Dataset's "finetune" baseline.

    linear    W_c f(x) + b_c
    cosine    s <W_c, f(x)> / (|W_c| |f(x)|)         Baseline++ (Chen et al., ICLR 2019)

The reference tunes the embedding too where its search found that better; here it stays frozen. A support of
up to `batch_size` images is one batch; a larger task gives other images at each step. Where the task is not
known the head goes on training, and forgets (class: it grows; domain: one for all).

Stored per task: the head.
"""

from __future__ import annotations

import math
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


class FinetuneHead(Method):
    name = "finetune_head"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """
        head: "linear" or "cosine"
        steps: of the optimiser, on each task
        epochs: passes over a task, in place of `steps`; none: `steps`
        batch_size: the most images of a step
        optimizer: "adamw", or "sgd" with momentum 0.9; the rate falls along a cosine
        lr: its rate
        weight_decay: on the weights
        scale: s, of the cosine head
        """

        head: Literal["linear", "cosine"] = "linear"
        steps: int = 100
        epochs: int | None = None
        batch_size: int = 512
        optimizer: Literal["adamw", "sgd"] = "adamw"
        lr: float = 0.01
        weight_decay: float = 5e-4
        scale: float = 10.0
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"lr": (0.1, 0.01, 1e-3), "steps": (50, 100, 200)}

        def space(self) -> Mapping[str, Sequence[Any]]:
            """The search space; if `epochs` is given, it sets the number of steps."""
            return self.search if self.epochs is None else {"lr": self.search["lr"]}

    config: Config

    @classmethod
    def supports(cls, config: Config, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if min(config.steps, config.batch_size) < 1:
            return f"steps={config.steps} and batch_size={config.batch_size} must be at least 1"
        return None

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        backbone.freeze()
        kind, scale = config.head, config.scale
        wanted = context.info, backbone.info.width, context.seeds
        self.heads = Heads(*wanted, kind=kind, scale=scale, learn_scale=False)

    def learn(self, task: Task) -> None:
        config, seeds, stage = self.config, self.context.seeds, f"task {task.id}"
        features = self.backbone.features(task.train.inputs, progress=self.context.progress)
        targets = torch.stack([torch.full((len(features),), task.id), torch.from_numpy(task.train.labels)], 1)
        batch = min(len(features), config.batch_size)
        per_epoch = 1 if config.epochs is None else math.ceil(len(features) / batch)
        steps = config.steps if config.epochs is None else config.epochs * per_epoch
        self.heads.open(task.id)

        def step_of(number: int) -> Iterator[Batch]:
            epoch, part = divmod(number, per_epoch)
            rng = np.random.default_rng(seeds.shared("order", stage, epoch))
            order = rng.permutation(len(features))[part * batch : (part + 1) * batch]
            chosen = torch.from_numpy(order)
            yield features[chosen], targets[chosen]

        fit(
            lambda x, y: self.heads.loss(x, y, [task.id]),
            groups_of(self.heads.trained([task.id]).items(), config.lr, config.weight_decay),
            step_of,  # an epoch of `fit` is a step
            1,
            Optimization(steps, optimizer=config.optimizer),
            numerics=self.backbone.numerics.on_cpu(),
            seed_of=lambda number: seeds.shared("global", stage, number),
            stage=stage,
            journal=self.context.journal,
            progress=self.context.progress,
        )
        self.passes = steps * batch if config.epochs is None else config.epochs * len(features)
        self.learnt.append(task.id)

    @torch.no_grad()
    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        return self.heads(self.backbone.features(inputs, progress=self.context.progress), task_id)

    def state(self) -> dict[str, Tensor]:
        stored = {f"head.{name}": tensor for name, tensor in self.heads.stored().items()}
        return {"learnt": learnt_tensor(self.learnt)} | stored

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        return self.heads.state_of(task_id)

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learnt = state["learnt"].tolist()
        self.heads.restore(below("head.", state), self.learnt)

    def footprint(self) -> Footprint:
        head = sum(p.numel() for p in self.heads.trained(self.learnt[-1:]).values())
        return Footprint(trainable=0, head=head, stored_bits=stored_bits(below("head.", self.state())))
