"""Few-shot data sets whose training, validation and test classes are given: train/, val/ and test/ of other
classes.

miniImageNet, tieredImageNet and CUB's few-shot split are laid out so; nothing is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from benchmarks.episodes.classes import ClassSet
from benchmarks.episodes.source import Bank, EpisodeSource, SplitName, pack
from benchmarks.errors import DataError
from benchmarks.images import Digests, Indices, Labelled
from benchmarks.sources.paths import folder_name
from benchmarks.sources.source import copies


class OfficialEpisodes(EpisodeSource):
    """Episodes over classes that the data set itself splits.

    parts: train, test and, where there is one, valid, each over its own classes; fewest: classes of the
    smallest episode; per_class: images of each class that may be drawn.
    """

    def __init__(
        self,
        name: str,
        parts: Mapping[str, Labelled],
        mirror: bool,
        *,
        fewest: int,
        per_class: int | None,
    ) -> None:
        self.typed = name
        self._parts = dict(parts)
        prints = "".join(f"{split} {part.fingerprint}" for split, part in sorted(parts.items()))
        self._fingerprint = hashlib.sha256(prints.encode()).hexdigest()
        folder = folder_name(name)
        self.name = name if folder is None else f"folder {self._fingerprint[:8]}"
        notes = [] if folder is None else [f"{self.name}: the images of {folder}"]
        notes += copies(parts["train"], parts["test"], title=self.name)[:1]
        self.mirror = mirror
        self._fewest = fewest
        self.image_size = parts["test"].inputs.image_size
        if any(part.inputs.image_size != self.image_size for part in parts.values()):
            raise DataError(f"{name}: train and test have images of other sizes; add size=84, for example")
        self._rows = {split: _by_class(part, per_class) for split, part in parts.items()}
        said = ", ".join(f"{len(part.class_names)} for {split}" for split, part in parts.items())
        self.rule = f"{self.name}: classes split as the data set has them ({said})"
        self.rule += f", the first {per_class} of a class" if per_class else ""
        self.notes = tuple(notes)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def has(self, split: SplitName) -> bool:
        return split in self._parts and len(self._rows[split]) >= self._fewest

    def classes(self, split: SplitName) -> ClassSet:
        names = self._parts[split].class_names if split in self._parts else ()
        if len(names) < self._fewest:
            raise DataError(
                f"{self.typed}: its {split} split has {len(names)} classes, and an episode needs "
                f"{self._fewest}; "
                f"take way={max(2, len(names))}, or a source that has more"
            )
        counts = np.array([len(rows) for rows in self._rows[split]])
        return ClassSet(self.name, split, names, counts, shown=self.typed, fewest=self._fewest)

    def bank(self, split: SplitName, keys: Indices) -> Bank:
        """All images of the split: they are decoded already."""
        rows = self._rows[split]
        every = [pack(np.full(len(of), c), np.arange(len(of))) for c, of in enumerate(rows)]
        return Bank(self._parts[split].inputs.select(np.concatenate(rows)), np.concatenate(every))

    def digests(self, split: SplitName) -> Digests | None:
        return self._parts[split].inputs.digests if split in self._parts else None


def _by_class(data: Labelled, per_class: int | None) -> list[Indices]:
    by_label = np.argsort(data.labels, kind="stable")
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    return [rows[:per_class] for rows in np.split(by_label, np.cumsum(counts)[:-1])]
