"""What episodes are drawn from: the classes of one split of one source, and how they are grouped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Indices

Structure = Literal["flat", "alphabets", "graph"]

FEWEST_CLASSES = 5  # of an episode of Meta-Dataset
FEWEST_WAY = 2  # of any episode
FEWEST_IMAGES = 2  # one to learn from, one to ask
_MOST_IMAGES = 2**31  # numbers of images are drawn from 32 random bits


@dataclass(frozen=True, eq=False)
class ClassSet:
    """The classes of one split of one source.

    names: of the C classes; counts: (C,) images of each class; structure: how classes are chosen; groups:
    positions of classes: for "alphabets" the characters of each alphabet, for "graph" the leaves of each node
    that an episode may be drawn from, for "flat" none; shown: the source's name in errors, if it differs from
    the one in seeds; fewest: classes. DataError, naming source, split and class, for fewer than those, fewer
    than 5 in any group, or fewer than 2 images of a class.
    """

    source: str
    split: str
    names: tuple[str, ...]
    counts: Indices
    structure: Structure = "flat"
    groups: tuple[Indices, ...] = ()
    shown: str = ""
    fewest: int = FEWEST_CLASSES

    @property
    def where(self) -> str:
        """Source and split, for errors."""
        return f"{self.shown or self.source}, split {self.split}"

    def __post_init__(self) -> None:
        where = self.where
        self._check_classes(where)
        if (self.structure == "flat") != (not self.groups):
            raise DataError(
                f"{where}: {self.structure} classes in {len(self.groups)} groups; flat classes have no "
                "groups, and alphabets and graphs at least one."
            )
        for number, group in enumerate(self.groups):
            self._check_group(f"{where}: group {number}", group)

    def _check_classes(self, where: str) -> None:
        if self.counts.shape != (len(self.names),):
            raise DataError(
                f"{where}: {len(self.names)} classes, but image counts of {self.counts.size}; give one for "
                "each class."
            )
        if len(self.names) < self.fewest:
            raise DataError(
                f"{where}: {len(self.names)} classes; an episode needs at least {self.fewest}, so add "
                "classes or leave the split out."
            )
        for position in np.flatnonzero((self.counts < FEWEST_IMAGES) | (self.counts >= _MOST_IMAGES))[:1]:
            raise DataError(
                f"{where}: class {self.names[position]!r} has {self.counts[position]} images; an episode "
                f"needs at least {FEWEST_IMAGES} (and fewer than 2^31), so add images or remove the class."
            )

    def _check_group(self, where: str, group: Indices) -> None:
        if len(group) < FEWEST_CLASSES:
            named = ", ".join(repr(self.names[position]) for position in group[:FEWEST_CLASSES])
            raise DataError(
                f"{where} ({named}) has {len(group)} classes; an episode needs at least "
                f"{FEWEST_CLASSES}, so add classes or leave the group out."
            )
        if group.min() < 0 or group.max() >= len(self.names) or len(np.unique(group)) < len(group):
            raise DataError(
                f"{where} names a class twice, or one that does not exist; take positions from 0 to "
                f"{len(self.names) - 1}, each once."
            )
