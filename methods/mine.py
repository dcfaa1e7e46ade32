"""Mine: TITLE (AUTHORS, VENUE YEAR).

    L = CE(new images and replayed ones)                                        (eq. 1 of the paper)

As in experience replay (Chaudhry et al., 2019): a reservoir of `memory` images, of which `replayed` are drawn
with each batch. Each image of a task is offered to it once, in the first epoch, after its step.

Stored: the network, the heads, and `memory` images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from backbones.backbone import Backbone
from benchmarks.stream import Task
from methods.base import GradientMethod, Memory, Step


class Mine(GradientMethod):
    """Trains again on images of earlier tasks: say here in one line what `carryover ls` shows."""

    name = "mine"

    @dataclass(frozen=True)
    class Config(GradientMethod.Config):
        """
        memory: images that are kept
        replayed: how many of them are drawn with each batch
        """

        epochs: int = 2
        lr: float = 5e-4
        memory: int = 200
        replayed: int = 32
        # The values that a search tries; its budget counts passes over the task's own images only.
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"lr": (5e-4, 1e-4), "replayed": (32, 64)}

    config: Config

    def attach(self, backbone: Backbone) -> None:
        """The whole network trains."""
        backbone.freeze(except_=lambda name: True)
        self.exemplars = self.memory = Memory(self.context, self.config.memory, "reservoir")
        self.replay = self.config.replayed

    def begin(self, task: Task) -> None:
        super().begin(task)
        self.task = task

    def after_step(self, step: Step) -> None:
        if step.epoch == 0:
            self.exemplars.offer(self.task.id, self.task.train, step.positions)
