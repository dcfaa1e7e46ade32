"""What an executor is: it takes cells, tells where they stand, and stops them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from carryover.cells.executors.submission import Submission
from carryover.records.record import Cell

# "lost": nothing computes it any more, and nobody saw how it ended. "unknown": it cannot be told from here.
Phase = Literal["waiting", "running", "ended", "lost", "unknown"]


@dataclass(frozen=True)
class Planned:
    """One cell to compute.

    key: as whoever submits it expects it; words: the command line that computes it, given a device (None:
    as the machine that computes has it).
    """

    cell: Cell
    key: str
    words: Callable[[str | None], Sequence[str]]


@dataclass(frozen=True)
class Polled:
    """Where a submission stands.

    phases: of its cells, in their order; submission: as it stands now; watched: whether the process that
    submitted it is still there to collect the records.
    """

    submission: Submission
    phases: tuple[Phase, ...]
    watched: bool


class Executor(Protocol):
    """Runs cells somewhere. Each is the command line asked for one cell, which reports the record it wrote.

    A submission is known by its file alone: any process may poll and stop what another one submitted.
    """

    name: str
    pause: float  # seconds between two polls

    def submit(self, cells: Sequence[Planned], command: str) -> Submission:
        """Take over the cells and write the submission; each starts when there is room for it.

        command: what to type to go on with what is left of them.
        """
        ...

    def poll(self, submission: Submission) -> Polled:
        """Start what there is room for, if it is this process that submitted; tell where all stand."""
        ...

    def stop(self, submission: Submission) -> None:
        """Stop what runs, so that its journal is whole, and start no more.

        RequestError for a submission that cannot be stopped from here.
        """
        ...
