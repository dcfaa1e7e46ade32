"""Where episodes come from: classes to draw from, and the images that were drawn.

An `EpisodeSource` knows the classes of its splits and their numbers of images, which is all that the
sampler needs; pixels are fetched for the images that occur, once, as a `Bank`. Any labelled source is
one (`LabelledEpisodes`); the records of Meta-Dataset are another (`recorded`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.episodes.classes import FEWEST_CLASSES, ClassSet
from benchmarks.episodes.sampler import Draw
from benchmarks.errors import DataError
from benchmarks.images import Digests, Indices, Inputs, Labelled
from benchmarks.seeds import generator
from benchmarks.sources.paths import folder_name
from benchmarks.sources.source import SourceData

SplitName = Literal["train", "valid", "test"]
HELD_OUT = 0.2  # of the classes, for each of test and valid
ALPHABETS = frozenset({"omniglot", "glyphs"})  # whose class names are alphabet/character


@dataclass(frozen=True, eq=False)
class Bank:
    """Images by (class, number within the class).

    inputs: (M) images of one table; keys: (M,) ascending, `class << 32 | number`.
    """

    inputs: Inputs
    keys: Indices

    def positions(self, classes: Indices, images: Indices) -> Indices:
        """Positions in `inputs` of the images (n,) of `classes` (n,); KeyError for one that is missing."""
        wanted = pack(classes, images)
        found = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        if not np.array_equal(self.keys[found], wanted):
            raise KeyError("the bank does not hold an image that was asked for")
        return found

    def parts(self, draw: Draw, names: Sequence[str]) -> tuple[Labelled, Labelled]:
        """Support and queries of an episode over classes called `names` (C,)."""
        called = tuple(names[c] for c in draw.classes)
        support = self.positions(draw.classes[draw.support_labels], draw.support_images)
        query = self.positions(draw.classes[draw.query_labels], draw.query_images)
        return (
            Labelled(self.inputs.select(support), draw.support_labels, called),
            Labelled(self.inputs.select(query), draw.query_labels, called),
        )


class EpisodeSource(ABC):
    """Classes in splits, and their images.

    name: what seeds and results call it, for a folder made of its content; typed: the name as typed; mirror:
    whether a flipped image keeps its class; rule: how classes were split and images sized, in words; notes:
    what a reader of a table must know.
    """

    name: str
    typed: str
    mirror: bool
    rule: str
    image_size: tuple[int, int]
    notes: tuple[str, ...] = ()

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identity of the images and labels."""

    @abstractmethod
    def has(self, split: SplitName) -> bool:
        """Whether a split has enough classes for an episode."""

    @abstractmethod
    def classes(self, split: SplitName) -> ClassSet:
        """The classes of a split; DataError if they are too few for an episode."""

    @abstractmethod
    def bank(self, split: SplitName, keys: Indices) -> Bank:
        """At least the images `keys` (see `Bank`) of a split, decoded."""

    def digests(self, split: SplitName) -> Digests | None:
        """A hash of each image of a split, None if they are not known."""
        return None


class LabelledEpisodes(EpisodeSource):
    """A labelled source whose classes are split by a draw that depends on their names alone.

    60 % of the classes are for training, 20 % for validation and 20 % for testing; Omniglot and the glyphs
    are split by whole alphabets. whole: all classes are for testing; per_class: images of each class that
    may be drawn; fewest: classes of the smallest episode.
    """

    def __init__(
        self,
        name: str,
        data: SourceData,
        mirror: bool,
        *,
        whole: bool,
        per_class: int | None,
        fewest: int = FEWEST_CLASSES,
    ) -> None:
        self.typed = name
        self.name = name
        folder = folder_name(name)
        if folder is not None:  # it may be moved or copied: its episodes stay those of its images
            self.name = f"folder {data.fingerprint[:8]}"
            self.notes = (f"{self.name}: the images of {folder}",)
        self.notes += data.notes
        self._fewest = fewest
        self.mirror = mirror
        self._whole = whole
        self._data = data
        images, part = _one_table(data)
        self._inputs = images.inputs
        self.image_size = images.inputs.image_size
        self._splits = _split(data.class_names, alphabets=name in ALPHABETS, whole=whole)
        by_label = np.argsort(images.labels, kind="stable")
        counts = np.bincount(images.labels, minlength=len(data.class_names))
        rows = np.split(by_label, np.cumsum(counts)[:-1])
        self._rows = [of[:per_class] for of in rows]
        cut = "all classes" if whole else "classes split 60/20/20 by their names"
        self.rule = f"{self.name}: {cut}{' by alphabets' * (name in ALPHABETS and not whole)}, {part}"
        self.rule += f", the first {per_class} of a class" if per_class else ""

    @property
    def fingerprint(self) -> str:
        return self._data.fingerprint

    def has(self, split: SplitName) -> bool:
        return len(self._splits[split]) >= self._fewest

    def classes(self, split: SplitName) -> ClassSet:
        names = self._data.class_names
        members = self._splits[split]
        if len(members) < self._fewest:
            if self._whole:
                raise DataError(
                    f"{self.typed} has {len(names)} classes, and an episode needs {self._fewest}; take "
                    f"way={max(2, len(names))} for episodes of so many, or a source that has more"
                )
            raise DataError(
                f"{self.typed}: the {split} split has {len(members)} of {len(names)} classes, and an episode "
                f"needs {self._fewest}; take classes=all to test on all of them, or a source that has more"
            )
        counts = np.array([len(self._rows[c]) for c in members])
        called = tuple(names[c] for c in members)
        if self.name not in ALPHABETS:
            return ClassSet(self.name, split, called, counts, shown=self.typed, fewest=self._fewest)
        alphabets = np.array([name.partition("/")[0] for name in called])
        groups = tuple(np.flatnonzero(alphabets == alphabet) for alphabet in dict.fromkeys(alphabets))
        return ClassSet(self.name, split, called, counts, "alphabets", groups)

    def bank(self, split: SplitName, keys: Indices) -> Bank:
        """All images of the split: they are decoded already."""
        rows = [self._rows[c] for c in self._splits[split]]
        every = [pack(np.full(len(of), c), np.arange(len(of))) for c, of in enumerate(rows)]
        return Bank(self._inputs.select(np.concatenate(rows)), np.concatenate(every))

    def digests(self, split: SplitName) -> Digests | None:
        found, rows = self._inputs.digests, [self._rows[c] for c in self._splits[split]]
        return None if found is None or not rows else found[np.concatenate(rows)]


def pack(classes: Indices, images: Indices) -> Indices:
    """Keys of images by class and number, in an order that sorts by both."""
    return (np.asarray(classes, np.int64) << 32) | np.asarray(images, np.int64)


def drawn_keys(draws: Sequence[Draw]) -> Indices:
    """The keys of all images that occur in `draws`, ascending, each once."""
    found = []
    for draw in draws:
        found.append(pack(draw.classes[draw.support_labels], draw.support_images))
        found.append(pack(draw.classes[draw.query_labels], draw.query_images))
    return np.unique(np.concatenate(found))


def _one_table(data: SourceData) -> tuple[Labelled, str]:
    """Images that lie in one table: train and test where they were cut from one, otherwise train."""
    train, test = data.train, data.test
    (first, *more), (second, *others) = train.inputs.chunks, test.inputs.chunks
    if more or others or first.content != second.content:
        return train, "images of its training split"
    joined = Labelled.join([train, test])
    rows = np.concatenate([first.rows, second.rows])
    order = np.argsort(rows)
    chunk = type(first)(first.table, rows[order], first.content)
    return Labelled(Inputs([chunk]), joined.labels[order], data.class_names), "all its images"


def _split(names: Sequence[str], *, alphabets: bool, whole: bool) -> dict[SplitName, Indices]:
    """Class numbers of each split, ascending."""
    everything = np.arange(len(names))
    if whole:
        return {"train": everything[:0], "valid": everything[:0], "test": everything}
    units = [name.partition("/")[0] for name in names] if alphabets else list(names)
    distinct = sorted(set(units))
    order = generator("classes of episodes", *distinct).permutation(len(distinct))
    held = round(HELD_OUT * len(distinct))
    ends: dict[SplitName, Indices] = {"test": order[:held], "valid": order[held : 2 * held]}
    ends["train"] = order[2 * held :]
    return {
        split: np.flatnonzero(np.isin(units, [distinct[u] for u in members]))
        for split, members in ends.items()
    }
