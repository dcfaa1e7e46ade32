"""`Kind`: how the records of a protocol are read: its metrics, the primary one, the columns of a table.

`protocols/X.py` makes rows and enters the key. `metrics/X.py` declares a `Kind`, reads rows and enters none,
so that a new metric makes no record stale. Metrics are computed when a record is read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.stream import StreamInfo
from carryover.metrics.line import Column, Line
from carryover.records.record import Record
from carryover.records.row import Row, unpack_hits

Entry = tuple[int, int]  # of a matrix: step and task
Wins = NDArray[np.int64]


class Kind(ABC):
    """How the records of one protocol are read.

    name: of the protocol, as in streams and records; title: as shown to people
    primary: the metric that sorts tables and compares methods
    unit: what counts once in a paired test: each image, or the images of an episode together
    when: which rows a comparison uses, if not all; untested: why there is no paired test
    selection: how options are chosen by default
    notes: notes under every table
    """

    name: ClassVar[str]
    title: ClassVar[str]
    primary: ClassVar[str]
    unit: ClassVar[Literal["image", "episode"]] = "image"
    when: ClassVar[str] = ""
    untested: ClassVar[str] = "the records hold no per-sample hits"
    selection: ClassVar[Literal["default", "search"]] = "default"
    notes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def metrics(self, rows: Sequence[Row], tasks: Sequence[str], groups: Sequence[str]) -> dict[str, float]:
        """Every metric that the rows allow, as fractions; tasks: their names; groups: the group of each."""

    def metrics_of(self, record: Record) -> dict[str, float]:
        """The metrics of a record, computed from its rows; those in its file are ignored."""
        return self.metrics(record.rows, record.tasks, record.groups) if record.rows else {}

    @abstractmethod
    def columns(self, lines: Sequence[Line], parts: Sequence[str], groups: Sequence[str]) -> list[Column]:
        """The metric columns of a table; parts: the names of the tasks; groups: those that they are in."""

    def counting(self, record: Record, metric: str) -> dict[Entry, Row]:
        """The test rows on which two methods are compared; `metric` may be that of one task or group."""
        rows = [row for row in record.rows if row.split == "test"]
        kind, _, name = metric.partition("/")
        names = {"accuracy": record.tasks, "accuracy_group": record.groups}.get(kind, ())
        if name in names:
            rows = [row for row in rows if row.task < len(names) and names[row.task] == name]
        return {(row.step, row.task): row for row in rows}

    def units(self, wins: Sequence[Wins]) -> Wins:
        """Wins minus losses per unit, from those of the images of each row."""
        return np.concatenate(wins)

    def ranked(self, lines: Sequence[Line], parts: Sequence[str]) -> list[Line]:
        """The lines, with the metrics that depend on the whole table."""
        return list(lines)

    def work(self, info: StreamInfo) -> tuple[float, float]:
        """(to learn, to score) on a stream, each in a unit of its own."""
        tested = float(sum(test for _, _, test in info.sizes))
        return tested, tested

    def worked(self, record: Record) -> tuple[float, float]:
        """(learnt, scored) for a record, in the units of `work`."""
        tested = float(sum({row.task: row.n for row in record.rows}.values()))
        return tested, tested


def wins_of(a: Mapping[Entry, Row], b: Mapping[Entry, Row], place: Entry) -> Wins | None:
    """For each image of a row: 1 if only a was right, -1 if only b was; None if a record lacks its hits."""
    first, second = a.get(place), b.get(place)
    if first is None or second is None or first.hits is None or second.hits is None:
        return None
    return unpack_hits(first.hits, first.n).astype(np.int64) - unpack_hits(second.hits, second.n)
