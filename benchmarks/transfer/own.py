"""Tasks of a user's own: any labelled source, cut to a thousand images as VTAB's tasks are.

    transfer:folder:~/birds+cifar100?train=800&val=200

The training images are drawn from the source's training split, of its classes in turn as far as each has
images, once and for every seed; the test split is the source's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from benchmarks.errors import DataError, RequestError
from benchmarks.images import Indices, Labelled
from benchmarks.seeds import generator
from benchmarks.sources import open_source
from benchmarks.sources.source import SourceData
from benchmarks.stream import Place
from benchmarks.transfer.task import TRAIN, VAL, Load, Parts, TransferTask

ANY = "transfer:"
FOLDER = "folder:"


@dataclass(frozen=True)
class SourceTask(TransferTask):
    """One source, loaded; `counts` are (train, val)."""

    data: SourceData | None = None
    counts: tuple[int, int] = (TRAIN, VAL)

    def find(self, roots: Sequence[Path]) -> Load | None:
        return self._cut

    def _cut(self, place: Place, size: int) -> Parts:
        assert self.data is not None
        data, (train, val) = self.data, self.counts
        rows, names = drawn(data.train.labels, train + val, self.name), self.class_names(data.class_names)
        fitted, chosen_on, test = (
            Labelled(part.inputs, part.labels, names)
            for part in (data.train.select(rows[:train]), data.train.select(rows[train:]), data.test)
        )
        rule = (
            f"{train} images to train and {val} to choose on, drawn from the training split, of the classes "
            f"in turn; test: {data.rule}"
        )
        return Parts(fitted, chosen_on, test, rule)


def tasks_of(name: str, place: Place, counts: tuple[int, int], size: int) -> tuple[SourceTask, ...]:
    """A task for each source that a `transfer:` name lists, in that order, called as it or as its folder.

    RequestError for two of one name; DataError for a source with fewer training images than `counts`, or with
    more classes than are trained on.
    """
    typed = [part for part in name.removeprefix(ANY).split("+") if part]
    if not typed:
        raise RequestError(f"{name} names no source; write {ANY}SOURCE, for example {ANY}{FOLDER}~/images")
    found: dict[str, SourceTask] = {}
    for source in typed:
        called = PurePath(source.removeprefix(FOLDER)).name if source.startswith(FOLDER) else source
        if called in found:
            raise RequestError(f"{name}: two sources are called {called}; take one of them at a time")
        data = open_source(source).load(place.store, place.progress, size=size)
        _check(called, data, counts)
        found[called] = SourceTask(called, "", len(data.class_names), data=data, counts=counts)
    return tuple(found.values())


def drawn(labels: Indices, count: int, name: str) -> Indices:
    """`count` rows: in an order that is drawn, the first of each class, then the second of each, and on."""
    order = generator("transfer", "own", name).permutation(len(labels))
    turns = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = labels[order] == label
        turns[own] = np.arange(own.sum())
    return order[np.argsort(turns, kind="stable")][:count]


def _check(called: str, data: SourceData, counts: tuple[int, int]) -> None:
    train, val = counts
    if min(counts) < 1:
        raise RequestError(f"{called}: train={train} and val={val} must be at least 1")
    if len(data.train) < train + val:
        raise DataError(
            f"{called} has {len(data.train)} training images, fewer than train={train} and val={val} need; "
            "give smaller ones"
        )
    if train < (classes := len(data.class_names)):
        raise DataError(f"{called} has {classes} classes, and train={train} is fewer; give a larger train")
