"""NewMethod: TITLE (AUTHORS, VENUE YEAR).

    L = CE + strength * T^2 KL(softmax(z~ / T) || softmax(z / T))               (eq. 1 of the paper)

As in learning without forgetting (Li and Hoiem, ECCV 2016): z~ are the logits of the old network, as it was
before the task, and z those of the network in training, for the same images and the classes known before.

Stored: the network and the heads, which become the old network when the next task comes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch.nn.functional import kl_div, log_softmax

from carryover import Backbone, GradientMethod, Heads, Step, Task


class NewMethod(GradientMethod):
    """Keeps the answers of the old network: say here in one line what `carryover ls` shows."""

    name = "new_method"

    @dataclass(frozen=True)
    class Config(GradientMethod.Config):
        """
        strength: weight of the distillation in the loss
        temperature: T, of both softmaxes
        """

        epochs: int = 2
        lr: float = 5e-4
        strength: float = 1.0
        temperature: float = 2.0

    config: Config

    def attach(self, backbone: Backbone) -> None:
        """The whole network trains."""
        backbone.freeze(except_=lambda name: True)
        self.before: tuple[Backbone, Heads] | None = None

    def begin(self, task: Task) -> None:
        super().begin(task)
        if self.learnt:  # equal after `restore`, so that a killed training can continue
            self.before = self.backbone.copy().eval(), copy.deepcopy(self.heads)

    def loss(self, step: Step) -> torch.Tensor:
        loss = super().loss(step)
        if self.before is None or step.images is None:
            return loss
        backbone, heads = self.before
        with torch.no_grad():
            features = backbone(step.images)
        for known in self.learnt if self.context.info.scenario == "task" else self.learnt[:1]:
            wanted = log_softmax(heads(features, known) / self.config.temperature, dim=1)
            found = self.heads(step.features, known)[:, : wanted.shape[1]] / self.config.temperature
            apart = kl_div(log_softmax(found, dim=1), wanted, log_target=True, reduction="batchmean")
            loss = loss + self.config.strength * self.config.temperature**2 * apart
        return loss
