"""What a reader must know of a protocol: its metrics, which of them counts, and how a table shows them.

`protocols/X.py` makes rows and enters the key; `metrics/X.py` declares a `Kind`, reads them and enters none,
so that another metric makes no record stale. Metrics are computed when a record is read.
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
    """
    name: the protocol's, as streams and records spell it; title: as people do
    primary: the metric by which tables are sorted and methods compared
    unit: what counts once in a paired test: each image, or the images of an episode together
    when: what "image by image" leaves unsaid, when only some rows count; untested: why there is no such test
    selection: how options are chosen unless the stream or the user says otherwise
    notes: what every table says of its numbers
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
        """Every metric that the rows allow, as fractions; tasks: their names; groups: those they are in."""

    def metrics_of(self, record: Record) -> dict[str, float]:
        """A record's metrics, computed from its rows: what its file says of them is not asked."""
        return self.metrics(record.rows, record.tasks, record.groups) if record.rows else {}

    @abstractmethod
    def columns(self, lines: Sequence[Line], parts: Sequence[str], groups: Sequence[str]) -> list[Column]:
        """The columns of a table that show metrics; parts: the tasks' names; groups: those they are in."""

    def counting(self, record: Record, metric: str) -> dict[Entry, Row]:
        """The test rows on which two methods are compared; `metric` may be of one task or group alone."""
        rows = [row for row in record.rows if row.split == "test"]
        kind, _, name = metric.partition("/")
        names = {"accuracy": record.tasks, "accuracy_group": record.groups}.get(kind, ())
        if name in names:
            rows = [row for row in rows if row.task < len(names) and names[row.task] == name]
        return {(row.step, row.task): row for row in rows}

    def units(self, wins: Sequence[Wins]) -> Wins:
        """What counts once of the wins minus losses of each row's images."""
        return np.concatenate(wins)

    def ranked(self, lines: Sequence[Line], parts: Sequence[str]) -> list[Line]:
        """The lines with the metrics that only a whole table has."""
        return list(lines)

    def work(self, info: StreamInfo) -> tuple[float, float]:
        """How much there is to learn and to score on a stream, each in a unit of its own."""
        tested = float(sum(test for _, _, test in info.sizes))
        return tested, tested

    def worked(self, record: Record) -> tuple[float, float]:
        """How much of the same was learnt and scored for a record."""
        tested = float(sum({row.task: row.n for row in record.rows}.values()))
        return tested, tested


def wins_of(a: Mapping[Entry, Row], b: Mapping[Entry, Row], place: Entry) -> Wins | None:
    """Of one row: 1 where only a was right, -1 where only b was; None where a record holds no hits of it."""
    first, second = a.get(place), b.get(place)
    if first is None or second is None or first.hits is None or second.hits is None:
        return None
    return unpack_hits(first.hits, first.n).astype(np.int64) - unpack_hits(second.hits, second.n)
