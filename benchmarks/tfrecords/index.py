"""Finds the records of TFRecord files once and keeps their offsets; reads a record by its number.

The starts of all records of a set of files, and the checksums stored with them, are one entry of kind
"records" in the store, whose key is what the files look like from outside. An index file beside a record
file (`12.index` for `12.tfrecords`, lines "offset length" of whole frames, as tfrecord2idx writes them)
spares the walk.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Indices
from benchmarks.progress import Progress, Silent
from benchmarks.sources.table import stamp
from benchmarks.store import Store
from benchmarks.tfrecords.framing import (
    DAMAGED,
    FRAME,
    Checksums,
    opened,
    payload_length,
    read_payload,
    stored_checksums,
    walk,
)

FORMAT = "starts-2"
_CHECKED = 16  # frames of a file that are compared with an index file beside it; every other when it is read


@dataclass(frozen=True, eq=False)
class RecordFile:
    """One file of n records; open only while it is read, so that any number of these can be held.

    starts: (n + 1,) offsets of the frames in bytes, and where the last ends; index: the index file that they
    come from, if any; checksums: (n,) of the payloads, as stored.
    """

    path: Path
    starts: Indices
    index: Path | None = None
    checksums: Checksums = field(default_factory=lambda: np.empty(0, np.uint32))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def payload(self, number: int) -> bytes:
        """The payload of record `number`; safe in any thread; errors as in `payloads`."""
        return next(self.payloads([number]))

    def payloads(self, numbers: Iterable[int]) -> Iterator[bytes]:
        """The payloads of some records in the given order, through one open file.

        DataError, with file and offset, for a wrong CRC, a record cut off, an index that does not fit
        and a missing file. IndexError for a number outside [0, n).
        """
        with opened(self.path) as (descriptor, size):
            for number in numbers:
                if not 0 <= number < len(self):
                    raise IndexError(f"{self.path} has no record {number}, only {len(self)}")
                start = int(self.starts[number])
                length = int(self.starts[number + 1]) - start - FRAME
                if payload_length(descriptor, self.path, start, size) != length:
                    raise DataError(
                        f"{self.path}: the record at offset {start} is not as long as {self._source} says; "
                        + (f"remove {self.index}" if self.index else DAMAGED)
                    )
                yield read_payload(descriptor, self.path, start, length)

    @property
    def _source(self) -> str:
        return f"its index file {self.index.name}" if self.index else "its index"


def open_files(
    paths: Sequence[Path],
    store: Store,
    progress: Progress | None = None,
    title: str = "records",
    most: int | None = None,
) -> tuple[RecordFile, ...]:
    """The record files at `paths`; their frames are walked, or their index files read, once per store.

    title: for the bar; most: how many records of each file, from the first; all by default. DataError for a
    missing file, a damaged frame, an index file that does not fit.
    """
    beside: list[Path | None] = [
        index if (index := path.with_suffix(".index")).is_file() else None for path in paths
    ]
    looks = stamp(file for pair in zip(paths, beside, strict=True) for file in pair if file)
    key = hashlib.sha256(f"{FORMAT}\0{most}\0{looks}".encode()).hexdigest()[:32]

    def make(folder: Path) -> None:
        found, stored = [], []
        with (progress or Silent()).bar(f"index {title}", len(paths), "files") as bar:
            for path, index in zip(paths, beside, strict=True):
                starts = walk(path, most) if index is None else read_index(path, index)
                found.append(starts[: None if most is None else most + 1])
                stored.append(stored_checksums(path, found[-1]))
                bar.advance()
        np.save(folder / "starts.npy", np.concatenate([*found, np.empty(0, dtype=np.int64)]))
        np.save(folder / "checksums.npy", np.concatenate([*stored, np.empty(0, dtype=np.uint32)]))
        np.save(folder / "counts.npy", np.array([len(starts) for starts in found], dtype=np.int64))

    def load(folder: Path) -> tuple[RecordFile, ...]:
        names = ("starts", "counts", "checksums")
        starts, counts, stored = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in names)
        if (
            len(counts) != len(paths)
            or counts.sum() != len(starts)
            or len(stored) + len(paths) != len(starts)
        ):
            raise ValueError(f"{folder} is damaged")
        split = np.split(starts, np.cumsum(counts)[:-1])
        return tuple(map(RecordFile, paths, split, beside, np.split(stored, np.cumsum(counts - 1)[:-1])))

    folder = store.get("records", key, make)
    try:
        return load(folder)
    except (OSError, ValueError, EOFError):  # damaged, or evicted by another process just now
        shutil.rmtree(folder, ignore_errors=True)
        return load(store.get("records", key, make))


def read_index(path: Path, index: Path) -> Indices:
    """The starts as in `walk`, from an index file; DataError, naming the line, if it does not fit."""

    def refuse(reason: str) -> DataError:
        return DataError(f"{index} does not fit {path.name}: {reason}; remove it, it is not needed")

    starts = [0]
    for number, line in enumerate(index.read_bytes().splitlines(), 1):
        words = line.split()
        if len(words) != 2 or not all(word.isdigit() for word in words):
            raise refuse(f'line {number} is not "offset length"')
        offset, length = map(int, words)
        if offset != starts[-1]:
            raise refuse(f"line {number} gives offset {offset}, but a record starts at {starts[-1]}")
        if length < FRAME:
            raise refuse(f"line {number} gives a record {length} bytes, less than its frame has")
        starts.append(offset + length)
    with opened(path) as (descriptor, size):
        if starts[-1] != size:
            raise refuse(f"its records end at {starts[-1]} bytes, the file at {size}")
        last = len(starts) - 2
        for number in sorted({*range(0, last, max(1, last // _CHECKED)), *([last] if last >= 0 else [])}):
            start, due = starts[number], starts[number + 1] - starts[number] - FRAME
            try:
                length = payload_length(descriptor, path, start, size)
            except DataError as error:
                raise refuse(
                    f"no record starts at offset {start}, or the file is damaged ({error})"
                ) from error
            if length != due:
                raise refuse(f"the record at offset {start} has {length + FRAME} bytes, not {due + FRAME}")
    return np.array(starts, dtype=np.int64)
