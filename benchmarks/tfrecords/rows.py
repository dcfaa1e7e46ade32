"""The wanted images of a source's class files -> one table in the store.

Episodes name images as (class, number within the class). All images that any of them wants are decoded once;
`RecordImages.rows` says where an image went.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Indices, Labelled
from benchmarks.progress import Progress
from benchmarks.sources.table import open_table, stamp
from benchmarks.store import Store
from benchmarks.tfrecords.example import image_and_label
from benchmarks.tfrecords.index import RecordFile, open_files


@dataclass(frozen=True)
class ClassFile:
    """The records of one class.

    class_id: their label; images: how many there are by dataset_spec.json.
    """

    path: Path
    class_id: int
    name: str
    images: int


@dataclass(frozen=True, eq=False)
class RecordImages:
    """Decoded images of a source.

    images: labels are positions in the list of class files; pairs: (N, 2) class position and image number
    of each row, in increasing order; rule: how they were resized, in words.
    """

    images: Labelled
    pairs: Indices
    rule: str

    def rows(self, classes: Indices, numbers: Indices) -> Indices:
        """The rows (n,) of the images `numbers` (n,) of `classes` (n,); KeyError for one not decoded."""
        stride = 1 + max(int(self.pairs[:, 1].max()), int(numbers.max(initial=0)))
        there = self.pairs[:, 0] * stride + self.pairs[:, 1]
        wanted = classes * stride + numbers
        found = np.searchsorted(there, wanted).clip(max=len(there) - 1)
        if (missing := np.flatnonzero(there[found] != wanted)).size:
            first = missing[0]
            raise KeyError(f"image {numbers[first]} of class {classes[first]} is not among the decoded ones")
        return found


def check_there(title: str, files: Iterable[ClassFile]) -> None:
    """DataError for a class file that is missing or empty; none is opened. title: the source."""
    for file in files:
        if not file.path.is_file() or not file.path.stat().st_size:
            what = "is empty" if file.path.is_file() else "is missing"
            raise DataError(
                f"{file.path} {what}: the records of class {file.class_id} ({file.name!r}) of {title}; "
                "convert the source again or restore the file"
            )


def open_records(
    title: str, files: Sequence[ClassFile], store: Store, progress: Progress, most: int | None = None
) -> tuple[RecordFile, ...]:
    """The records of class files, as `open_files` finds them.

    most: how many records of each class, from the first; all by default. DataError for a file that is
    missing or damaged, or has more or fewer records than promised.
    """
    opened = open_files([file.path for file in files], store, progress, title, most)
    for file, found in zip(files, opened, strict=True):
        if len(found) != (file.images if most is None else min(file.images, most)):
            raise DataError(
                f"{file.path} holds {len(found)} records, but dataset_spec.json promises {file.images} "
                f"images of class {file.class_id} ({file.name!r}); convert the source again, or use the "
                "dataset_spec.json that was written with these records"
            )
    return opened


def squash_rule(size: int) -> str:
    """What `open_images` does to an image, for contract and record."""
    return (
        f"squashed to {size}x{size} pixels, PIL bilinear with antialias, EXIF orientation applied "
        "(Meta-Dataset's reader: TF1 bilinear, aligned corners, neither of the two)"
    )


def open_images(
    title: str,
    files: Sequence[ClassFile],
    classes: Indices,
    numbers: Indices,
    store: Store,
    progress: Progress,
    size: int,
    workers: int | None = None,
    records: Callable[[], Sequence[RecordFile]] | None = None,
) -> RecordImages:
    """The images `numbers` (M,) of `classes` (M,), positions in `files`; decoded if the store lacks them.

    title: the source, for bars and errors; a pair may be named several times; size: side in pixels to
    which images are squashed; workers: as in `open_table`; records: finds the records of all `files`, if the
    caller does that anyway; otherwise only files of wanted classes are opened. DataError, naming the file,
    if one is missing, damaged or not what dataset_spec.json promises.
    """
    rows = RecordRows(title, files, classes, numbers, store, progress, records)
    images = open_table(rows, store, progress, size, workers, resample="bilinear")
    return RecordImages(images, rows.pairs, squash_rule(size))


class RecordRows:
    """Wanted records as `Rows`: in order of class and number, each once."""

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        title: str,
        files: Sequence[ClassFile],
        classes: Indices,
        numbers: Indices,
        store: Store,
        progress: Progress,
        records: Callable[[], Sequence[RecordFile]] | None = None,
    ) -> None:
        """Arguments as in `open_images`; ValueError for a class or an image number that is out of range."""
        self.title = title
        self.files = tuple(files)
        self._store = store
        self._progress = progress
        self._records = records
        counts = np.array([file.images for file in files], dtype=np.int64)
        if len(classes) and (classes.min() < 0 or classes.max() >= len(files)):
            raise ValueError(f"{title}: classes run from {classes.min()} to {classes.max()} of {len(files)}")
        if (wrong := np.flatnonzero((numbers < 0) | (numbers >= counts[classes]))).size:
            file = self.files[classes[wrong[0]]]
            raise ValueError(f"{title}: class {file.name!r} has {file.images} images, no {numbers[wrong[0]]}")
        stride = int(counts.max(initial=1))
        flat = np.unique(classes * stride + numbers)
        self.pairs: Indices = np.stack([flat // stride, flat % stride], axis=1)

    def identity(self) -> str:
        """Hash of the wanted pairs and of how their files look; DataError for a missing file."""
        wanted = [self.files[position] for position in self._classes]
        check_there(self.title, wanted)
        names = "\0".join(f"{file.class_id} {file.name} {file.images}" for file in self.files)
        digest = hashlib.sha256(names.encode())
        digest.update(self.pairs.astype("<i8").tobytes())
        return f"records {stamp(file.path for file in wanted)} {digest.hexdigest()}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        """Positions of classes; DataError for a class file with more or fewer records than promised."""
        _ = self._opened  # counts them
        return self.pairs[:, 0].copy(), tuple(file.name for file in self.files)

    def images(self, start: int) -> Iterator[tuple[str, bytes]]:
        """Encoded images with file and offset; one file is open at a time."""
        for position, run in groupby(self.pairs[start:].tolist(), key=lambda pair: int(pair[0])):
            file, opened = self.files[position], self._opened[position]
            numbers = [number for _, number in run]
            for number, payload in zip(numbers, opened.payloads(numbers), strict=True):
                where = f"{file.path}: the record at offset {opened.starts[number]}"
                try:
                    image, label = image_and_label(payload)
                except ValueError as error:
                    raise DataError(
                        f"{where} is no Example with an image and a label: {error}; convert the source again"
                    ) from error
                if label != file.class_id:
                    raise DataError(
                        f"{where} has label {label}, but the file is of class {file.class_id} "
                        f"({file.name!r}); convert the source again, or restore the file under its own name"
                    )
                yield where, image

    @cached_property
    def _classes(self) -> list[int]:
        return sorted({int(position) for position in self.pairs[:, 0]})

    @cached_property
    def _opened(self) -> dict[int, RecordFile]:
        if self._records is not None:
            every = self._records()
            return {position: every[position] for position in self._classes}
        wanted = [self.files[position] for position in self._classes]
        opened = open_records(self.title, wanted, self._store, self._progress)
        return dict(zip(self._classes, opened, strict=True))
