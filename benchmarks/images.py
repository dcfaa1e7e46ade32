"""Images as rows of memory-mapped uint8 tables, with their labels kept apart.

A table is an array (M, H, W, 3) that was decoded once (`sources/`). `Inputs` names some rows of one
or more tables and holds no labels; `Labelled` adds them. Both are cheap to select from and to join:
no pixel is copied before it is read.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.seeds import generator

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]
Digests = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some rows of one table.

    table: (M, H, W, 3) uint8, usually memory-mapped; rows: (N,) int64 into it; content: the
    fingerprint of the whole table's pixels; digests: (M,) a hash of each image's pixels
    before they were squashed to one size, if known.
    """

    table: Pixels
    rows: Indices
    content: str
    digests: Digests | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the table's content and of the rows, in order."""
        rows = np.ascontiguousarray(self.rows, dtype="<i8").tobytes()
        return hashlib.sha256(self.content.encode() + b"\0" + rows).hexdigest()


class Inputs:
    """N images without labels.

    chunks: the tables and rows they come from; all tables share H and W (ValueError otherwise).
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        sizes = {chunk.table.shape[1:] for chunk in chunks}
        if len(sizes) != 1:
            raise ValueError(f"the chunks of one Inputs must share one image size, not {sorted(sizes)}")
        self.chunks = tuple(chunks)
        self._ends = np.cumsum([len(chunk.rows) for chunk in chunks])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        _, height, width, _ = self.chunks[0].table.shape
        return height, width

    @property
    def ids(self) -> Indices:
        """(N,) row ids, each within its own table."""
        return np.concatenate([chunk.rows for chunk in self.chunks])

    @property
    def digests(self) -> Digests | None:
        """(N,) a hash of each image's pixels, None if a table has none."""
        found = [chunk.digests[chunk.rows] for chunk in self.chunks if chunk.digests is not None]
        return np.concatenate(found) if len(found) == len(self.chunks) else None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the pixels' identity and order; equal for equal images in equal order of chunks."""
        return hashlib.sha256("".join(chunk.fingerprint for chunk in self.chunks).encode()).hexdigest()

    def pixels(self, indices: Indices | slice = slice(None)) -> Pixels:
        """The images at `indices` (all by default) as a new array (n, H, W, 3) uint8."""
        wanted = np.arange(len(self))[indices]
        if len(self.chunks) == 1:
            return np.asarray(self.chunks[0].table[self.chunks[0].rows[wanted]])
        out = np.empty((len(wanted), *self.chunks[0].table.shape[1:]), dtype=np.uint8)
        for place, chunk, local in self._locate(wanted):
            out[place] = chunk.table[chunk.rows[local]]
        return out

    def select(self, indices: Indices) -> Inputs:
        """The images at `indices` (n,), in that order."""
        wanted = np.arange(len(self))[indices]
        if len(self.chunks) == 1:
            chunk = self.chunks[0]
            return Inputs([Chunk(chunk.table, chunk.rows[wanted], chunk.content, chunk.digests)])
        # Runs of one chunk stay together, so that the given order is kept.
        owner = np.searchsorted(self._ends, wanted, side="right")
        cuts = np.flatnonzero(np.diff(owner)) + 1
        picked = []
        for run in np.split(np.arange(len(wanted)), cuts):
            number = int(owner[run[0]]) if len(run) else 0
            chunk = self.chunks[number]
            start = self._ends[number] - len(chunk.rows)
            rows = chunk.rows[wanted[run] - start]
            picked.append(Chunk(chunk.table, rows, chunk.content, chunk.digests))
        return Inputs(list(_joined(picked)))

    def random_order(self) -> Indices:
        """(N,) a permutation that is always the same for these images."""
        return generator("order of images", self.fingerprint).permutation(len(self))

    def _locate(self, wanted: Indices) -> list[tuple[Indices, Chunk, Indices]]:
        owner = np.searchsorted(self._ends, wanted, side="right")
        found = []
        for number in np.unique(owner):  # of thousands of chunks, a batch touches few
            chunk = self.chunks[number]
            place = np.flatnonzero(owner == number)
            start = self._ends[number] - len(chunk.rows)
            found.append((place, chunk, wanted[place] - start))
        return found

    @staticmethod
    def join(parts: Sequence[Inputs]) -> Inputs:
        """All images of `parts`, one after another."""
        return Inputs([chunk for part in parts for chunk in part.chunks])


def _joined(chunks: Sequence[Chunk]) -> Iterator[Chunk]:
    """The same images in as few chunks as can be: parts of one table that follow each other are one."""
    for _, run in itertools.groupby(chunks, key=lambda chunk: chunk.content):
        first, *others = run
        rows = [first.rows, *(chunk.rows for chunk in others)]
        joined = Chunk(first.table, np.concatenate(rows), first.content, first.digests)
        yield joined if others else first


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with labels.

    labels: (N,) int64 in [0, len(class_names)); ValueError for another shape or range.
    """

    inputs: Inputs
    labels: Indices
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.inputs),):
            raise ValueError(f"{len(self.inputs)} images have labels of shape {self.labels.shape}")
        if len(self.labels) and (self.labels.min() < 0 or self.labels.max() >= len(self.class_names)):
            raise ValueError(
                f"labels run from {self.labels.min()} to {self.labels.max()}, "
                f"but there are {len(self.class_names)} classes"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Indices) -> Labelled:
        """The images at `indices` with their labels."""
        return Labelled(self.inputs.select(indices), self.labels[indices], self.class_names)

    def shuffled(self) -> Labelled:
        """In a random order that these images always come in: sorted by class, positions tell the answer."""
        return self.select(self.inputs.random_order())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the images, their labels and the class names."""
        digest = hashlib.sha256(self.inputs.fingerprint.encode())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        digest.update("\0".join(self.class_names).encode())
        return digest.hexdigest()

    @staticmethod
    def join(parts: Sequence[Labelled]) -> Labelled:
        """All of `parts` one after another; ValueError unless they share their class names."""
        if len({part.class_names for part in parts}) != 1:
            raise ValueError("only data over the same classes can be joined; map the labels first")
        labels = np.concatenate([part.labels for part in parts])
        return Labelled(Inputs.join([part.inputs for part in parts]), labels, parts[0].class_names)
