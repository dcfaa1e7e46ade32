"""Tasks that need no download, cut like VTAB-1k's: procedural images (`benchmarks.procedural`) and digits.

The images have a seed of their own, so they share none with the streams that split the same families.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.images import Indices, Labelled
from benchmarks.procedural.family import Family
from benchmarks.sources.digits import Digits
from benchmarks.sources.procedural import PROCEDURAL, ProceduralRows, at_level
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
        data = Digits().load(place.store, place.progress, size)
        rule = f"train800 and val200: of the classes in turn; {DRAWN_RULE}"
        return _parts(self, data.train, data.test, rule)


@dataclass(frozen=True)
class ProceduralTask(TransferTask):
    """A source in `PROCEDURAL`, by its name; tasks of one family share their images."""

    def find(self, roots: Sequence[Path]) -> Load | None:
        return self._load

    def _load(self, place: Place, size: int) -> Parts:
        from benchmarks.sources.table import open_table

        spec = PROCEDURAL[self.name]
        # Not by an import statement, as in `sources.procedural`: the code that draws is no part of a key.
        family: Family = import_module("benchmarks.procedural.families").FAMILIES[spec.family]
        kinds = len(family.class_names)
        test, fitted = TEST // kinds, -(-(TRAIN + VAL) // kinds)
        whole, held = (
            at_level(open_table(rows, place.store, place.progress, size), spec.level)
            for rows in (
                ProceduralRows(
                    f"{family.name} train800 and val200", family, range(test, test + fitted), SEED
                ),
                ProceduralRows(f"{family.name} test", family, range(test), SEED),
            )
        )
        rule = (
            f"drawn with seed {SEED}: train800 and val200 of the classes in turn; "
            f"test {test} images of each of {kinds} kinds"
        )
        return _parts(self, whole, held, rule)


def _parts(task: TransferTask, fitted: Labelled, test: Labelled, rule: str) -> Parts:
    turns = in_turn(fitted.labels, TRAIN + VAL)
    names = task.class_names(fitted.class_names)
    train, val, held = (
        Labelled(part.inputs, part.labels, names)
        for part in (fitted.select(turns[:TRAIN]), fitted.select(turns[TRAIN:]), test)
    )
    return Parts(train, val, held, rule)


def in_turn(labels: Indices, count: int) -> Indices:
    """`count` rows that take the classes in turn, each class in its own order until its rows run out.

    While all classes have rows left, any consecutive rows are balanced.
    """
    turns = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = labels == label
        turns[own] = np.arange(own.sum())
    return np.lexsort((labels, turns))[:count]


APPEARANCE, STRUCTURED = "appearance", "structured"

TASKS = (
    DigitsTask("digits", APPEARANCE, 10),
    ProceduralTask("glyphs", APPEARANCE, 144),
    ProceduralTask("textures", APPEARANCE, 30),
    ProceduralTask("objects-shape", APPEARANCE, 5),
    ProceduralTask("objects-pattern", APPEARANCE, 4),
    ProceduralTask("objects-colour", APPEARANCE, 4),
    ProceduralTask("scenes-count", STRUCTURED, 8),
    ProceduralTask("scenes-distance", STRUCTURED, 6),
    ProceduralTask("scenes-location", STRUCTURED, 9),
    ProceduralTask("scenes-orientation", STRUCTURED, 8),
)
