"""Splits that are opened together: several parts as one, and all that is broken in them named at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Indices, Labelled
from benchmarks.progress import Progress
from benchmarks.sources.source import DRAWN_RULE, Rows, draw_test
from benchmarks.sources.table import BrokenImages, Table, open_rows
from benchmarks.store import Store


class JoinedRows:
    """The rows of several parts, one after another (see `Rows`), over the classes of all of them."""

    def __init__(self, title: str, parts: Sequence[Rows]) -> None:
        self.title = title
        self._parts = parts

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(note for part in self._parts for note in part.notes)

    def identity(self) -> str:
        return "joined " + " ".join(part.identity() for part in self._parts)

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        read = [part.labels() for part in self._parts]
        names = read[0][1]
        if any(others != names for _, others in read):
            if any(list(others) != sorted(others) for _, others in read):
                raise DataError(
                    f"{self.title}: its parts name their classes differently; give them the same names"
                )
            names = tuple(sorted({name for _, others in read for name in others}))
        place = {name: number for number, name in enumerate(names)}
        labels = [np.array([place[name] for name in others], np.int64)[found] for found, others in read]
        return np.concatenate(labels), names

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        for part in self._parts:
            count = len(part.labels()[0])
            if start < count:
                yield from part.images(start)
            start = max(start - count, 0)


def open_all(
    rows: Mapping[str, Rows], store: Store, progress: Progress, size: int | None, bits: int | None
) -> dict[str, Table]:
    """Every split as a table; BrokenImages names what is broken in all of them.

    DataError also where 16-bit images of two splits have other significant bits.
    """
    tables: dict[str, Table] = {}
    broken: list[BrokenImages] = []
    for name, split in rows.items():
        try:
            tables[name] = open_rows(split, store, progress, size, bits=bits)
        except BrokenImages as error:
            broken.append(error)
    if broken:
        raise BrokenImages(
            " and ".join(error.title for error in broken),
            sum(error.total for error in broken),
            [image for error in broken for image in error.broken],
        )
    depths = {name: table.bits for name, table in tables.items() if table.bits}
    if len(set(depths.values())) > 1:
        said = ", ".join(f"{bits} in {name}" for name, bits in depths.items())
        raise DataError(
            f"16-bit images need {said} significant bits: which range is black to white cannot be told; add "
            f"bits={max(depths.values())}, or bits=16 for the full range"
        )
    return tables


def train_and_test(tables: Mapping[str, Table], rule: str, title: str) -> tuple[Labelled, Labelled, str]:
    """Both splits and the rule by which they were cut; test is drawn from train where there is none."""
    train = tables["train"].images
    if "test" in tables:
        return train, tables["test"].images, rule
    return *draw_test(train, title=title), "; ".join(filter(None, [DRAWN_RULE, rule]))
