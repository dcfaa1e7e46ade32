"""NewMethod: TITLE (AUTHORS, VENUE YEAR).

    h <- h + B A h                                                              (eq. 1 of the paper)

h, (..., C), is the output of the MLP of a block; A is (rank, C) and B is (C, rank), zero at the start.
Trained are `step.down` (A) and `step.up` (B) of every block, and the head; the network is frozen.

Identity at init, since B = 0. Count: blocks * 2 rank C.
Stored per task (or once, if the task is unknown at test time): A and B of every block, and the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from carryover import Backbone, ParameterEfficient, insert


class Step(nn.Module):
    """B A h of h (..., C)."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, h: Tensor) -> Tensor:
        return self.up(self.down(h))


class NewMethod(ParameterEfficient):
    """A low-rank step after every MLP: say here in one line what `carryover ls` shows."""

    name = "new_method"
    needs = ("mlp",)  # what it asks of a network; others are refused by its name

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        """
        rank: rank of the step after each MLP
        """

        # An option has a type (bool, int, float, str, a Literal, or one of these or None) and a default.
        rank: int = 4
        lr: float = 2e-3
        # The values that a search tries on validation data.
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"lr": (5e-4, 2e-3, 8e-3), "rank": (2, 8)}

    config: Config

    def attach(self, backbone: Backbone) -> None:
        """Insert what trains: everything that is added after `freeze`."""
        backbone.freeze()
        for site in backbone.sites():
            step = Step(site.width, self.config.rank)
            insert(site.mlp, "step", step, lambda step, _, h: h + step(h))
