"""A task learnt in four trainings: the head, everything, the rest once half of a matrix is zeroed, the head.

After the warm-up of LwF (Li and Hoiem, ECCV 2016), the retraining of PackNet (Mallya and Lazebnik, CVPR
2018), and the alignment of the head on features drawn around class means of SLCA (Zhang et al., ICCV 2023).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from carryover import Backbone, GradientMethod, Stage, Step, Task
from carryover import ParameterGroup as Group


class TwoStages(GradientMethod):
    """Stages, what stands between them, and what is kept zero after each step."""

    name = "two_stages"
    seen: list[str] = []  # the stages whose steps were taken, for the tests

    @dataclass(frozen=True)
    class Config(GradientMethod.Config):
        """
        share: of the last block's first MLP matrix that is zeroed
        """

        share: float = 0.5

    config: Config

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze(except_=lambda name: True)
        self.stage = ""
        self.zeros: torch.Tensor | None = None

    @property
    def matrix(self) -> torch.nn.Parameter:
        found = self.backbone.sites()[-1].block.get_submodule("mlp.fc1").weight
        assert isinstance(found, torch.nn.Parameter)
        return found

    def stages(self, task: Task) -> Iterator[Stage]:
        self.stage, self.zeros = "warm-up", None
        yield Stage("warm-up", groups=[Group(list(self.heads.trained([task.id]).values()), 0.02)], epochs=1)
        self.stage = "all"
        yield Stage("all")
        flat = self.matrix.detach().abs().flatten()
        smallest = flat.argsort(stable=True)[: int(self.config.share * len(flat))]
        zeros = torch.zeros_like(flat, dtype=torch.bool)
        zeros[smallest] = True
        self.zeros = zeros.view_as(self.matrix)
        self._clear()
        self.stage = "rest"
        yield Stage("rest", epochs=2)
        self.stage = "alignment"
        means = torch.randn(len(task.classes), self.backbone.info.width, generator=self._drawn(0))

        def batches(epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for _ in range(2):
                labels = torch.arange(len(task.classes)).repeat(4)
                noise = torch.randn(len(labels), means.shape[1], generator=self._drawn(epoch + 1))
                yield means[labels] + noise, torch.stack([torch.full_like(labels, task.id), labels], 1)

        heads = [Group(list(self.heads.trained([task.id]).values()), 0.01)]
        yield Stage("alignment", groups=heads, epochs=2, batches=batches, steps=2)

    def after_step(self, step: Step) -> None:
        self.seen.append(self.stage)
        self._clear()

    def _clear(self) -> None:
        if self.zeros is not None:
            with torch.no_grad():
                self.matrix.masked_fill_(self.zeros, 0.0)

    def _drawn(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.context.seeds.own("alignment", number))
