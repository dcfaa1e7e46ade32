"""Runs a cell: makes instances of its method, chooses options, runs the protocol. This file enters the key.

It does not know what becomes of the result (record, table, page).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from backbones.training import Journal, NoJournal
from benchmarks.images import Pixels
from benchmarks.progress import Progress
from benchmarks.seeds import Seeds
from benchmarks.stream import Exam, StreamInfo, Task
from carryover.cells.selection import select
from carryover.protocols.journal import CellJournal
from carryover.protocols.work import Result, Work
from methods.base import Context, Method

if TYPE_CHECKING:
    from carryover.cells.ready import ReadyCell
    from carryover.records.record import Selection


@dataclass
class Maker:
    """Makes fresh, unprepared instances of the method of a cell, each on its own copy of the backbone.

    tables: image tables of the tasks that the method has received; last: the newest instance.
    """

    ready: ReadyCell
    journal: CellJournal
    progress: Progress
    workers: int = 2
    tables: dict[str, Pixels] = field(default_factory=dict)
    last: Method | None = None

    def __call__(
        self,
        info: StreamInfo,
        *,
        part: str = "",
        config: Any = None,
        journaled: bool = True,
        seed: int | None = None,
    ) -> Method:
        """A fresh instance.

        info: what it knows of the stream; part: names a piece of the cell with random numbers of its own;
        config, seed: those of the cell by default; journaled: whether it may journal its training.
        """
        ready = self.ready
        context = Context(
            info=info,
            seeds=Seeds(
                ready.stream.info.identity + part,
                ready.cell.seed if seed is None else seed,
                # Without the hash of a file: such a method draws the same random numbers after an edit.
                ready.cell.method.partition("@")[0],
            ),
            progress=self.progress,
            journal=_Piece(self.journal, part) if journaled else NoJournal(),
            tables=self.tables,
            eval_batch=ready.conditions.eval_batch,
            workers=self.workers,
        )
        # Modules of the method may use torch's global generator: seed it for them.
        torch.manual_seed(context.seeds.own("modules"))
        self.last = ready.method(config or ready.config, ready.backbone.copy(), context)
        return self.last


@dataclass(frozen=True)
class Learnt:
    """The result of the protocol; chosen: configs by validation run, empty without a search.

    selection: what the search tried, None without one; method: a prepared instance; tasks, exam: of the
    stream, as opened.
    """

    result: Result
    chosen: Mapping[str, Any]
    selection: Selection | None
    method: Method
    tasks: Sequence[Task]
    exam: Exam


def learn(ready: ReadyCell, make: Maker, choice: Path, asides: Progress) -> Learnt:
    """Learn and score a cell, continuing from its journal.

    choice: the file of its choice of options; asides: progress for messages that do not belong in the record.
    """
    info = ready.stream.info
    tasks, exam = ready.stream.open(ready.cell.seed)
    work = Work(
        make=make,
        backbone=ready.backbone,
        info=info,
        tasks=tasks,
        exam=exam,
        pool=ready.stream.pool,
        journal=make.journal,
        progress=make.progress,
        tables=make.tables,
        reuse=ready.conditions.reuse,
    )
    selection = None
    if ready.rule is not None:
        exam.sealed = True
        configs, selection = _choose(ready, work, make, choice, asides)
        work = replace(work, configs=configs)
        exam.sealed = False
    result = ready.protocol.run(work)
    method = make.last
    if method is None:  # every task was learnt before the process was killed
        method = make(info, journaled=False)
        method.prepare(work.pool)
    return Learnt(result, work.configs, selection, method, tasks, exam)


def _choose(
    ready: ReadyCell, work: Work, make: Maker, choice: Path, asides: Progress
) -> tuple[Mapping[str, Any], Selection]:
    """The config for each validation run, always chosen with the splits and random numbers of seed 0."""
    first = work if ready.cell.seed == 0 else replace(work, tasks=ready.stream.open(0)[0])
    runs = ready.protocol.validation_runs(replace(first, make=partial(make, seed=0)))
    assert ready.rule is not None
    return select(runs, ready.config, ready.cell.options, ready.rule, choice, asides)


class _Piece:
    """The journal of one piece of a cell, which never resumes a stage of another piece."""

    def __init__(self, journal: CellJournal, part: str) -> None:
        self._journal: Journal = journal
        self._part = f"{part}/" if part else ""

    def due(self) -> bool:
        return self._journal.due()

    def load(self, stage: str) -> dict[str, Tensor] | None:
        return self._journal.load(self._part + stage)

    def save(self, stage: str, tensors: dict[str, Tensor]) -> None:
        self._journal.save(self._part + stage, tensors)
