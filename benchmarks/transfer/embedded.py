"""Tasks that are always there, cut as VTAB-1k's: drawn images (`benchmarks.procedural`) and digits.

Drawn with a seed of their own, so that they share no image with the streams that split the same families.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.images import Indices, Labelled
from benchmarks.procedural.family import Family
from benchmarks.sources import open_source
from benchmarks.sources.procedural import DRAWN
from benchmarks.sources.source import DRAWN_RULE
from benchmarks.stream import Place
from benchmarks.transfer.task import TRAIN, VAL, Load, Parts, TransferTask

SEED = 1  # that of the sources is 0
TEST = 1000  # images at most, equally many of each class


@dataclass(frozen=True)
class DigitsTask(TransferTask):
    def find(self, roots: Sequence[Path]) -> Load | None:
        return self._load

    def _load(self, place: Place, size: int) -> Parts:
        data = open_source("digits").load(place.store, place.progress, size)
        rule = f"train800 and val200: of the classes in turn; {DRAWN_RULE}"
        return _parts(self, data.train, data.test, rule)


@dataclass(frozen=True)
class DrawnTask(TransferTask):
    """A source of `DRAWN` by its name; tasks of one family share their images."""

    def find(self, roots: Sequence[Path]) -> Load | None:
        return self._load

    def _load(self, place: Place, size: int) -> Parts:
        from benchmarks.sources.table import open_table

        drawn = DRAWN[self.name]
        # Not by an import statement, as in `sources.procedural`: the code that draws is no part of a key.
        family: Family = import_module("benchmarks.procedural.families").FAMILIES[drawn.family]
        kinds = len(family.class_names)
        test, fitted = TEST // kinds, -(-(TRAIN + VAL) // kinds)
        whole, held = (
            _at_level(open_table(rows, place.store, place.progress, size), drawn.level)
            for rows in (
                _Drawings(f"{family.name} train800 and val200", family, range(test, test + fitted)),
                _Drawings(f"{family.name} test", family, range(test)),
            )
        )
        rule = (
            f"drawn with seed {SEED}: train800 and val200 of the classes in turn; "
            f"test {test} images of each of {kinds} kinds"
        )
        return _parts(self, whole, held, rule)


def _parts(task: TransferTask, fitted: Labelled, test: Labelled, rule: str) -> Parts:
    turns = in_turn(fitted.labels, task.classes, TRAIN + VAL)
    names = task.class_names(fitted.class_names)
    train, val, held = (
        Labelled(part.inputs, part.labels, names)
        for part in (fitted.select(turns[:TRAIN]), fitted.select(turns[TRAIN:]), test)
    )
    return Parts(train, val, held, rule)


def in_turn(labels: Indices, classes: int, count: int) -> Indices:
    """`count` rows, one class after another and each class in its own order: any run of them is balanced."""
    rows = [np.flatnonzero(labels == label) for label in range(classes)]
    return np.array([rows[number % classes][number // classes] for number in range(count)], np.int64)


def _at_level(data: Labelled, level: int | None) -> Labelled:
    """The same images, labelled with one level of their names."""
    if level is None:
        return data
    parts = [name.split("/")[level] for name in data.class_names]
    names = tuple(sorted(set(parts)))
    return Labelled(data.inputs, np.array([names.index(part) for part in parts])[data.labels], names)


class _Drawings:
    """Some indices of every class of a family before they are drawn, the classes in turn (see `Rows`)."""

    def __init__(self, title: str, family: Family, indices: range) -> None:
        self.title = title
        self._family = family
        self._indices = indices

    def identity(self) -> str:
        return f"procedural {self._family.name} version {self._family.version} seed {SEED} {self._indices}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        names = self._family.class_names
        return np.tile(np.arange(len(names)), len(self._indices)), names

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        classes = len(self._family.class_names)
        for row in range(start, classes * len(self._indices)):
            number, label = divmod(row, classes)
            pixels = self._family.draw(label, SEED, self._indices[number])
            height, width, _ = pixels.shape
            yield f"{self.title}, row {row}", b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()


APPEARANCE, STRUCTURED = "appearance", "structured"

TASKS = (
    DigitsTask("digits", APPEARANCE, 10),
    DrawnTask("glyphs", APPEARANCE, 144),
    DrawnTask("textures", APPEARANCE, 30),
    DrawnTask("objects-shape", APPEARANCE, 5),
    DrawnTask("objects-pattern", APPEARANCE, 4),
    DrawnTask("objects-colour", APPEARANCE, 4),
    DrawnTask("scenes-count", STRUCTURED, 8),
    DrawnTask("scenes-distance", STRUCTURED, 6),
    DrawnTask("scenes-location", STRUCTURED, 9),
    DrawnTask("scenes-orientation", STRUCTURED, 8),
)
