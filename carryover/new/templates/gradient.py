"""NewMethod: TITLE (AUTHORS, VENUE YEAR).

    h <- h + B A h                                                              (eq. 1 of the paper)

h, (..., C), is what the MLP of a block returns; A is (rank, C) and B is (C, rank), zero at the start.
Trained are `step.down` (A) and `step.up` (B) of every block, and the head; the network is frozen.

Step 0: the plain network, since B = 0. Count: blocks * 2 rank C.
Stored per task (or once, where no task is known): A and B of every block, and the head.
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
    families = ("vit", "swin")  # the networks whose blocks it knows

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        """
        rank: of the step after each MLP
        """

        # An option is typed (bool, int, float, str, a Literal, or None beside one) and has a default.
        rank: int = 4
        lr: float = 2e-3
        # What is tried where options are searched for, on validation data.
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"lr": (5e-4, 2e-3, 8e-3), "rank": (2, 8)}

    config: Config

    def attach(self, backbone: Backbone) -> None:
        """What is inserted, and what trains: all that is added after `freeze`."""
        backbone.freeze()
        for site in backbone.sites():
            step = Step(site.width, self.config.rank)
            insert(site.block.get_submodule("mlp"), "step", step, lambda step, _, h: h + step(h))
