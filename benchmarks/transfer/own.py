"""A user's own tasks: any labelled source, cut to a thousand images like VTAB's tasks.

    transfer:folder:~/birds+cifar100?train=800&val=200

The training images are drawn from the source's training split, taking its classes in turn while they have
images, once for all seeds; the test split is the source's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import DataError, RequestError
from benchmarks.images import Labelled
from benchmarks.seeds import generator
from benchmarks.sources.lookup import open_source
from benchmarks.sources.paths import folder_name, parts_of
from benchmarks.sources.reading import Reading
from benchmarks.sources.source import SourceData
from benchmarks.stream import Place
from benchmarks.transfer.embedded import in_turn
from benchmarks.transfer.task import Load, Parts, TransferTask

ANY = "transfer:"


@dataclass(frozen=True, kw_only=True)
class SourceTask(TransferTask):
    """One source, loaded; `counts` are (train, val)."""

    data: SourceData
    counts: tuple[int, int]

    def find(self, roots: Sequence[Path]) -> Load | None:
        return self._cut

    def _cut(self, place: Place, size: int) -> Parts:
        data, (train, val) = self.data, self.counts
        order = generator("transfer", "own", self.name).permutation(len(data.train))
        rows = order[in_turn(data.train.labels[order], train + val)]
        names = self.class_names(data.class_names)
        fitted, chosen_on, test = (
            Labelled(part.inputs, part.labels, names)
            for part in (data.train.select(rows[:train]), data.train.select(rows[train:]), data.test)
        )
        rule = (
            f"{train} images to train and {val} to choose on, drawn from the training split, of the classes "
            f"in turn; test: {data.rule}"
        )
        return Parts(fitted, chosen_on, test, rule, data.notes)


def tasks_of(
    name: str, place: Place, counts: tuple[int, int], size: int, reading: Reading
) -> tuple[SourceTask, ...]:
    """One task for each source that a `transfer:` name lists, in that order, named after it or its folder.

    RequestError for two of one name; DataError for a source with fewer training images than `counts` need, or
    more classes than images to train on.
    """
    typed = parts_of(name.removeprefix(ANY), "+")
    if not typed:
        raise RequestError(f"{name} names no source; write {ANY}SOURCE, for example {ANY}folder:~/images")
    found: dict[str, SourceTask] = {}
    for source in typed:
        called = folder_name(source) or source
        if called in found:
            raise RequestError(f"{name}: two sources are called {called}; take one of them at a time")
        data = open_source(source, reading).load(place.store, place.progress, size=size)
        _check(called, data, counts)
        found[called] = SourceTask(
            name=called, group="", classes=len(data.class_names), data=data, counts=counts
        )
    return tuple(found.values())


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
        raise DataError(f"{called} has {classes} classes, more than train={train}; give a larger train")
