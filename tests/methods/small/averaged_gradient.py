"""After A-GEM (Chaudhry et al., ICLR 2019): a gradient that would raise the loss on old images is projected.

    g~ = g - (<g, r> / <r, r>) r   where <g, r> < 0

g: of the batch, r: of a batch drawn from the memory, both over all parameters that train. The guarantee is
that of plain SGD.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carryover import Backbone, GradientMethod, Memory, Step, Task


class AveragedGradient(GradientMethod):
    """A gradient hook on a memory, as small as it gets."""

    name = "averaged_gradient"

    @dataclass(frozen=True)
    class Config(GradientMethod.Config):
        """
        memory: how many images are kept
        drawn: how many of them r is taken on
        """

        memory: int = 12
        drawn: int = 8
        optimizer: str = "sgd"  # type: ignore[assignment]

    config: Config

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze(except_=lambda name: True)
        self.exemplars = self.memory = Memory(self.context, self.config.memory, "class_balanced")
        self.projected = 0

    def after_backward(self, step: Step) -> None:
        drawn = self.exemplars.draw(self.config.drawn)
        if drawn is None:
            return
        inputs, targets = drawn
        images = self.backbone.prepare(torch.from_numpy(inputs.pixels()))
        with self.backbone.numerics.autocast():
            features = self.features(images)
            old = torch.from_numpy(targets).to(step.targets)
            loss = self.heads.loss(features, old, list(dict.fromkeys(old[:, 0].tolist())))
        trained = [p for group in self.groups() for p in group.parameters if p.grad is not None]
        wanted = torch.autograd.grad(loss, trained, allow_unused=True)
        pairs = [(p, torch.zeros_like(p) if w is None else w) for p, w in zip(trained, wanted, strict=True)]
        product = sum(((p.grad * w).sum() for p, w in pairs if p.grad is not None), torch.tensor(0.0))
        if product < 0:
            self.projected += 1
            share = product / sum((w.square().sum() for _, w in pairs), torch.tensor(0.0))
            for parameter, w in pairs:
                parameter.grad = _of(parameter) - share * w

    def end(self, task: Task) -> None:
        self.exemplars.offer(task.id, task.train)


def _of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
