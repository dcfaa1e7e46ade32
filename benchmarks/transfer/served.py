"""A task cut from a whole data set (a folder of data, or the hub) by VTAB's rule.

Zhai et al., A Large-scale Study of Representation Learning with the Visual Task Adaptation Benchmark (2019):
the first 800 of the first nine tenths of the training split, the first 200 of its last tenth, the whole test
split. VTAB counts in the order of TensorFlow Datasets, which other copies lack. Here the stored order counts,
or a drawn order if the copy is sorted by class (a folder for each).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Indices, Inputs, Labelled
from benchmarks.seeds import generator
from benchmarks.sources.lookup import KNOWN, open_source
from benchmarks.sources.reading import Reading
from benchmarks.sources.source import Source
from benchmarks.stream import Place
from benchmarks.transfer.task import TRAIN, VAL, Parts, TransferTask

_READ = 64  # images held in memory


@dataclass(frozen=True)
class Served:
    """The data set `source`: a name that `open_source` knows, or else a folder of that name with the data."""

    source: str

    def open(self, roots: Sequence[Path]) -> Source | None:
        from benchmarks.sources.local import LocalSource

        if self.source in KNOWN:
            return open_source(self.source, roots=roots)
        for root in roots:
            if (root / self.source).is_dir():
                # VTAB's images are of train and test alone, whatever else there is (SVHN's extra).
                reading = Reading(train_split="train", test_split="test")
                return LocalSource(
                    self.source, (root / self.source).absolute(), official=True, reading=reading
                )
        return None


def cut(task: TransferTask, source: Source, place: Place, size: int) -> Parts:
    """The task's parts; DataError if the data set has too few images or other classes."""
    data = source.load(place.store, place.progress)  # in its own size, as every other stream takes it
    count = len(data.train)
    held = count * 9 // 10
    if held < TRAIN or count - held < VAL:
        raise DataError(
            f"{task.name}: {source.name} has {count} training images, of which {VAL} must lie in the last "
            "tenth; put the whole data set there"
        )
    if len(data.class_names) != task.classes:
        raise DataError(
            f"{task.name} has {task.classes} classes, but {source.name} has {len(data.class_names)}; "
            "put the right data set there"
        )
    by_class = bool((np.diff(data.train.labels) >= 0).all())
    order = generator("transfer", "order", task.name).permutation(count) if by_class else np.arange(count)
    rows = np.concatenate([order[:TRAIN], order[held : held + VAL]])
    names = task.class_names(data.class_names)
    fitted, test = (
        Labelled(_squashed(f"{task.name} {part}", chosen.inputs, place, size), chosen.labels, names)
        for part, chosen in (("train and val", data.train.select(rows)), ("test", data.test))
    )
    rule = (
        f"train800 is rows 0 to {TRAIN - 1} of the training split, val200 rows {held} to {held + VAL - 1}, "
        f"the first of its last tenth, in {'an order that is drawn' if by_class else 'the stored order'}, "
        "which is not VTAB's; official test split"
    )
    return Parts(
        fitted.select(np.arange(TRAIN)), fitted.select(np.arange(TRAIN, TRAIN + VAL)), test, rule, data.notes
    )


def _squashed(title: str, inputs: Inputs, place: Place, size: int) -> Inputs:
    """The images at size x size, from the table as it is where that is their size."""
    from benchmarks.sources.table import open_table

    if inputs.image_size == (size, size):
        return inputs
    return open_table(_Decoded(title, inputs), place.store, place.progress, size).inputs


class _Decoded:
    """Images that are decoded already, to be resized (see `Rows`)."""

    notes: tuple[str, ...] = ()

    def __init__(self, title: str, inputs: Inputs) -> None:
        self.title = title
        self._inputs = inputs

    def identity(self) -> str:
        return f"decoded {self._inputs.fingerprint}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        return np.zeros(len(self._inputs), np.int64), ("",)

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        for first in range(start, len(self._inputs), _READ):
            for row, pixels in enumerate(self._inputs.pixels(slice(first, first + _READ)), first):
                height, width, _ = pixels.shape
                yield f"{self.title}, row {row}", b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()
