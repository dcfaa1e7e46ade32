"""Meta-Dataset's converted records as a source of episodes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from benchmarks.episodes.classes import ClassSet
from benchmarks.episodes.source import Bank, EpisodeSource, SplitName
from benchmarks.episodes.specification import read_specification
from benchmarks.images import Indices
from benchmarks.records import META_DATASET, ClassFile, open_images, source_folder, squash_rule
from benchmarks.records.known import FOLDER
from benchmarks.stream import Place

# A mirrored character, digit or sign is another one or none.
UNMIRRORED = frozenset({"omniglot", "mnist", "traffic_sign"})


class RecordedEpisodes(EpisodeSource):
    """One of Meta-Dataset's sources, from `$CARRYOVER_DATA/meta-dataset/<source>/`.

    Only the images that occur in episodes are read and decoded, once; of a pool all are, so that there
    per_class, the images of each class that may be drawn, should not be None: there are 50 million.
    """

    def __init__(self, name: str, size: int, place: Place, per_class: int | None = None) -> None:
        self._folder = source_folder(name)
        self._specification = read_specification(self._folder / "dataset_spec.json")
        self._place = place
        self._per_class = per_class
        self.name = name
        self.typed = f"{FOLDER}/{name}"
        self.mirror = name not in UNMIRRORED
        self.image_size = (size, size)
        self.rule = f"{name}: Meta-Dataset's official classes, {squash_rule(size)}"
        self.rule += f", the first {per_class} of a class" if per_class else ""
        known = META_DATASET[name]
        if known.seen_by_imagenet:
            self.notes = (
                f"{name}: weights pretrained on ImageNet-1k have seen the classes that it is tested on",
            )

    @property
    def fingerprint(self) -> str:
        """Of the specification: pixels are known once they are decoded, and enter the exam's fingerprints."""
        return hashlib.sha256((self._folder / "dataset_spec.json").read_bytes()).hexdigest()

    def has(self, split: SplitName) -> bool:
        return split in self._specification.splits

    def classes(self, split: SplitName) -> ClassSet:
        found = self._specification.classes(split)
        if self._per_class is None:
            return found
        return replace(found, counts=np.minimum(found.counts, self._per_class))

    def bank(self, split: SplitName, keys: Indices) -> Bank:
        found = open_images(
            f"{self.name} {split}",
            self._files(split),
            keys >> 32,
            keys & 0xFFFFFFFF,
            self._place.store,
            self._place.progress,
            self.image_size[0],
            self._place.workers or None,
        )
        # Their order is by class and number, as that of keys.
        return Bank(found.images.inputs, keys)

    def _files(self, split: SplitName) -> list[ClassFile]:
        specification = self._specification
        found = specification.classes(split)
        return [
            ClassFile(specification.file(split, at), int(specification.ids[split][at]), name, int(count))
            for at, (name, count) in enumerate(zip(found.names, found.counts, strict=True))
        ]
