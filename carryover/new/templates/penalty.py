"""NewMethod: TITLE (AUTHORS, VENUE YEAR).

    L = CE + strength * sum_i Omega_i (theta_i - theta*_i)^2                    (eq. 1 of the paper)
    Omega_i <- Omega_i + mean_x | d ||z(x)||^2 / d theta_i |

As in memory aware synapses (Aljundi et al., ECCV 2018): theta* are the weights after the last task, z the
logits of one image x of the task just learnt.

Stored: the network and the heads, and for each trained weight its importance and theta*.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carryover import Backbone, GradientMethod, Step, Task, below


class NewMethod(GradientMethod):
    """Keeps important weights in place: say here in one line what `carryover ls` shows."""

    name = "new_method"

    @dataclass(frozen=True)
    class Config(GradientMethod.Config):
        """
        strength: weight of the penalty in the loss
        """

        epochs: int = 2
        lr: float = 5e-4
        strength: float = 1.0

    config: Config

    def attach(self, backbone: Backbone) -> None:
        """The whole network trains."""
        backbone.freeze(except_=lambda name: True)
        self.omega: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}

    def loss(self, step: Step) -> Tensor:
        loss, weights = super().loss(step), dict(self.backbone.net.named_parameters())
        moved = [(o * (weights[name] - self.anchor[name]) ** 2).sum() for name, o in self.omega.items()]
        return loss + self.config.strength * torch.stack(moved).sum() if moved else loss

    def end(self, task: Task) -> None:
        weights = dict(self.backbone.net.named_parameters())
        found = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.backbone.eval()
        for _, image in self.images(task.train.inputs, 1):
            logits = self.heads(self.features(image).float(), task.id)
            gradients = torch.autograd.grad(logits.square().sum(), list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, gradients, strict=True):
                found[name] += 0 if gradient is None else gradient.abs() / len(task.train)
        self.omega = {name: self.omega.get(name, 0) + tensor for name, tensor in found.items()}
        self.anchor = {name: weight.detach().clone() for name, weight in weights.items()}

    def state(self) -> dict[str, Tensor]:
        kept = {"omega": self.omega, "anchor": self.anchor}
        return super().state() | {f"{kind}.{n}": t.cpu() for kind, of in kept.items() for n, t in of.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        device = self.backbone.device
        self.omega = {name: tensor.to(device) for name, tensor in below("omega.", state).items()}
        self.anchor = {name: tensor.to(device) for name, tensor in below("anchor.", state).items()}
