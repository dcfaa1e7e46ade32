"""Meta-Dataset's converted records as a source of episodes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial

import numpy as np

from benchmarks.episodes.classes import ClassSet
from benchmarks.episodes.source import Bank, EpisodeSource, SplitName
from benchmarks.episodes.specification import read_specification
from benchmarks.images import Indices
from benchmarks.stream import Place
from benchmarks.tfrecords import (
    META_DATASET,
    ClassFile,
    RecordFile,
    check_there,
    open_images,
    open_records,
    source_folder,
    squash_rule,
)
from benchmarks.tfrecords.known import FOLDER

# A mirrored character, digit or sign is no longer the same one.
UNMIRRORED = frozenset({"omniglot", "mnist", "traffic_sign"})


class RecordedEpisodes(EpisodeSource):
    """One of Meta-Dataset's sources, from `$CARRYOVER_DATA/meta-dataset/<source>/`.

    Only the images that occur in episodes are read and decoded, once; a pool decodes all of its images, so
    limit them by per_class: there are 50 million. per_class: images of each class that may be drawn, None for
    all; splits: those in use. DataError if the file of one of their classes is missing or empty.
    """

    def __init__(
        self,
        name: str,
        size: int,
        place: Place,
        per_class: int | None = None,
        splits: Sequence[SplitName] = ("test",),
    ) -> None:
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
        self._splits = [split for split in splits if self.has(split)]
        for split in self._splits:
            check_there(f"{name} {split}", self._files(split))
        known = META_DATASET[name]
        if known.seen_by_imagenet:
            self.notes = (
                f"{name}: weights pretrained on ImageNet-1k have seen the classes that it is tested on",
            )

    @property
    def fingerprint(self) -> str:
        return self._content

    @cached_property
    def _content(self) -> str:
        """Hash of the specification and of the encoded images that may be drawn.

        Of these, where their records lie and the checksums stored with them: no payload is read.
        """
        digest = hashlib.sha256((self._folder / "dataset_spec.json").read_bytes())
        for split in self._splits:
            for file in self._records(split):
                digest.update(f"\0{split} {len(file)}\0".encode())
                digest.update(file.starts.astype("<i8").tobytes())
                digest.update(file.checksums.astype("<u4").tobytes())
        return digest.hexdigest()

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
            partial(self._records, split),
        )
        # Their order is by class and number, as that of keys.
        return Bank(found.images.inputs, keys)

    def _records(self, split: SplitName) -> tuple[RecordFile, ...]:
        """Of all classes of a split, of each the first `per_class`; found once per store."""
        place, title = self._place, f"{self.name} {split}"
        return open_records(title, self._files(split), place.store, place.progress, self._per_class)

    def _files(self, split: SplitName) -> list[ClassFile]:
        specification = self._specification
        found = specification.classes(split)
        return [
            ClassFile(specification.file(split, at), int(specification.ids[split][at]), name, int(count))
            for at, (name, count) in enumerate(zip(found.names, found.counts, strict=True))
        ]
