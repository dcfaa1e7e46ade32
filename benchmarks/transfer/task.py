"""A task to transfer to, and its three parts: train, val and test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.images import Labelled
from benchmarks.stream import Place

TRAIN, VAL = 800, 200  # images of a task with a thousand


@dataclass(frozen=True, eq=False)
class Parts:
    """A task's images, all over the same class names.

    rule: how the parts were cut, in words; notes: what a reader of a table must know of the files.
    """

    train: Labelled
    val: Labelled
    test: Labelled
    rule: str
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[tuple[int, int], ...]:
        """(train and val, test) images of each class."""
        train, val, test = (
            np.bincount(part.labels, minlength=len(part.class_names))
            for part in (self.train, self.val, self.test)
        )
        return tuple(zip((train + val).tolist(), test.tolist(), strict=True))


class Load(Protocol):
    """Data that were found; a call decodes them into the store unless that is done."""

    def __call__(self, place: Place, size: int) -> Parts:
        """Images squashed to size x size pixels; DataError for damaged data."""
        ...


@dataclass(frozen=True)
class TransferTask(ABC):
    """One task of a stream.

    group: tasks of one group share a reported mean; classes: their number, never counted in the data; note:
    what a reader of a table must know.
    """

    name: str
    group: str
    classes: int
    note: str = ""

    @abstractmethod
    def find(self, roots: Sequence[Path]) -> Load | None:
        """How to load it from the data folders `roots`; None if it is in none and cannot be had elsewhere."""

    def class_names(self, names: Sequence[object]) -> tuple[str, ...]:
        """`names` with the task's name before each, so that no two tasks share a class name."""
        return tuple(f"{self.name}/{name}" for name in names)
