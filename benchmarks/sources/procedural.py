"""Procedural images as sources: the families, and coarser labels of the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.images import Indices, Labelled
from benchmarks.procedural.family import Family
from benchmarks.progress import Progress
from benchmarks.sources.source import SourceData, pair
from benchmarks.store import Store

TERMS = "drawn by Carryover, no terms"
SEED = 0


@dataclass(frozen=True)
class ProceduralSpec:
    """What a procedural source shows.

    level: which part of a class name, between "/", is the label; None for the whole name; mirror:
    whether an image flipped left to right keeps its class.
    """

    family: str
    summary: str
    level: int | None = None
    mirror: bool = True


PROCEDURAL = {
    "glyphs": ProceduralSpec("glyphs", "characters of 12 made-up alphabets, 144 classes", mirror=False),
    "glyph-alphabets": ProceduralSpec(
        "glyphs", "which of 12 alphabets a character belongs to", 0, mirror=False
    ),
    "textures": ProceduralSpec("textures", "surfaces of any colours, 30 classes"),
    "texture-groups": ProceduralSpec("textures", "which of 5 groups a texture belongs to", 0),
    "objects": ProceduralSpec("objects", "5 shapes x 4 patterns x 4 colours before clutter, 80 classes"),
    "objects-shape": ProceduralSpec("objects", "the shape alone, 5 classes", 0),
    "objects-pattern": ProceduralSpec("objects", "the pattern alone, 4 classes", 1),
    "objects-colour": ProceduralSpec("objects", "the colour alone, 4 classes", 2),
    "scenes-count": ProceduralSpec("scenes-count", "how many solids stand on a floor, 8 classes"),
    "scenes-distance": ProceduralSpec("scenes-distance", "how far the nearest solid is, 6 classes"),
    "scenes-location": ProceduralSpec(
        "scenes-location", "where on the floor the pawn stands, 9 classes", mirror=False
    ),
    "scenes-orientation": ProceduralSpec(
        "scenes-orientation", "which way the truck faces, 8 classes", mirror=False
    ),
}


class ProceduralSource:
    """One of the sources in `PROCEDURAL`, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self, store: Store, progress: Progress, size: int | None = None) -> SourceData:
        """See `Source.load`; sources of one family share its table."""
        from benchmarks.sources.table import open_table

        spec = PROCEDURAL[self.name]
        # Not by an import statement, which would make the code that draws a part of the key of every record,
        # also of those on other data. What it draws is in the key: the fingerprint of the pixels.
        family: Family = import_module("benchmarks.procedural.families").FAMILIES[spec.family]
        train, test = (
            at_level(open_table(_split(family, split), store, progress, size), spec.level)
            for split in ("train", "test")
        )
        rule = f"drawn with seed {SEED}: {family.train} training and {family.test} test images of each of "
        rule += f"{len(family.class_names)} classes"
        return pair(train, test, title=self.name, rule=rule, size=size, terms=TERMS)


def _split(family: Family, split: str) -> ProceduralRows:
    return ProceduralRows(f"{family.name} {split}", family, family.indices(split), SEED)


def at_level(data: Labelled, level: int | None) -> Labelled:
    """The same images, labelled with one level of the hierarchy."""
    if level is None:
        return data
    parts = [name.split("/")[level] for name in data.class_names]
    names = tuple(sorted(set(parts)))
    return Labelled(data.inputs, np.array([names.index(part) for part in parts])[data.labels], names)


class ProceduralRows:
    """Images of a family before they are drawn: the same indices of every class, in turn (see `Rows`)."""

    notes: tuple[str, ...] = ()

    def __init__(self, title: str, family: Family, indices: range, seed: int) -> None:
        self.title = title
        self._family = family
        self._indices = indices
        self._seed = seed

    def identity(self) -> str:
        family = self._family
        return f"procedural {family.name} version {family.version} seed {self._seed} {self._indices}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        names = self._family.class_names
        return np.tile(np.arange(len(names)), len(self._indices)), names

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        """As PPM (a line of text, then the pixels), so that they are decoded like every other image."""
        # glibc returns each large array to the system and faults it in again for the next, which takes longer
        # than drawing; from the first block of this size that is freed, it keeps what it has.
        np.empty(2**24, dtype=np.uint8)
        classes = len(self._family.class_names)
        for row in range(start, classes * len(self._indices)):
            number, label = divmod(row, classes)
            pixels = self._family.draw(label, self._seed, self._indices[number])
            height, width, _ = pixels.shape
            yield f"{self.title}, row {row}", b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()
