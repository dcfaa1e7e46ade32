"""Streams of every protocol over a few images in memory, small enough to test any plugin.

The images have 32 x 32 pixels; colour and position tell their classes apart. Their tables are read-only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np

from benchmarks.images import Chunk, Indices, Inputs, Labelled
from benchmarks.seeds import generator
from benchmarks.stream import Episode, Exam, Pool, Stream, StreamInfo, Task

Kind = Literal["task", "class", "domain", "few_shot", "transfer"]
KINDS: tuple[Kind, ...] = ("task", "class", "domain", "few_shot", "transfer")
WORDS = {
    "task": "task-incremental",
    "class": "class-incremental",
    "domain": "domain-incremental",
    "few_shot": "few-shot",
    "transfer": "transfer",
}
CLASSES, SIDE = 6, 32
TRAIN, VAL, TEST = 11, 1, 5  # images of each class
EPISODES, WAY, SHOTS, QUERIES = 2, 3, 4, 2


def pictures(each: int, seed: int, tint: int = 0) -> Labelled:
    """`each` images of six classes, sorted by class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), each)
    table = rng.integers(0, 90, (len(labels), SIDE, SIDE, 3))
    for image, label in zip(table, labels, strict=True):
        row, column = divmod(int(label), 3)
        image[16 * row : 16 * row + 16, 10 * column : 10 * column + 10, label % 3] += 150
    pixels = np.minimum(table + tint, 255).astype(np.uint8)
    pixels.flags.writeable = False
    content = hashlib.sha256(pixels.tobytes()).hexdigest()
    return Labelled(Inputs([Chunk(pixels, np.arange(len(labels)), content)]), labels, tuple("abcdef"))


def _of(data: Labelled, classes: Sequence[int], picked: slice = slice(None)) -> Labelled:
    """The images of `classes`, restricted to `picked` per class; labels are positions in `classes`."""
    rows = [np.flatnonzero(data.labels == cls)[picked] for cls in classes]
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in rows])
    names = tuple(data.class_names[cls] for cls in classes)
    return Labelled(data.inputs.select(np.concatenate(rows)), labels, names)


class Pictures(Stream):
    """A tiny stream of one kind.

    continual: three tasks of two classes (domain: of all classes, in other light); few-shot: two episodes;
    transfer: two tasks.
    """

    catalogue = {}

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._tasks, self._test, self._info = {"few_shot": self._episodes, "transfer": self._alone}.get(
            kind, self._continual
        )()

    @property
    def info(self) -> StreamInfo:
        return self._info

    def open(self, seed: int) -> tuple[Sequence[Task], Exam]:
        return list(self._tasks), Exam(self._test, {task.id: task.classes for task in self._tasks})

    @cached_property
    def _pool(self) -> PicturePool:
        return PicturePool()

    @property
    def pool(self) -> Pool | None:
        return self._pool if self.kind == "few_shot" else None

    def _continual(self) -> tuple[list[Task], dict[int, Labelled], StreamInfo]:
        # No class is where it would be in ascending order: columns follow the order learnt.
        parts = [(4, 2), (0, 5), (1, 3)]
        tasks, test = [], {}
        for number, part in enumerate(parts):
            classes = tuple(range(CLASSES)) if self.kind == "domain" else part
            tint = 40 * number if self.kind == "domain" else 0
            data, asked = pictures(TRAIN + VAL, 7, tint), pictures(TEST, 8, tint)
            train, val = _of(data, classes, slice(VAL, None)), _of(data, classes, slice(VAL))
            tasks.append(Task(number, train, val, classes))
            test[number] = _of(asked, classes)
        return tasks, test, _describe(self.kind, tasks, test)

    def _episodes(self) -> tuple[list[Task], dict[int, Labelled], StreamInfo]:
        data = pictures(SHOTS + QUERIES, 9)
        tasks, test = [], {}
        for number, classes in enumerate([(5, 0, 3), (1, 4, 2)]):
            support = _of(data, classes, slice(number, SHOTS))
            tasks.append(Task(number, support, support.select(np.arange(0)), classes))
            test[number] = _of(data, classes, slice(SHOTS, None))
        info = _describe(self.kind, tasks, test)
        train, val, asked = (sum(column) for column in zip(*info.sizes, strict=True))
        sizes = ((train, val, asked),)
        every = (tuple(range(CLASSES)),)
        info = replace(info, classes=every, sizes=sizes, task_names=("pictures",), episodes=EPISODES)
        return tasks, test, info

    def _alone(self) -> tuple[list[Task], dict[int, Labelled], StreamInfo]:
        data, asked = pictures(TRAIN + VAL, 7), pictures(TEST, 8)
        tasks, test = [], {}
        for number, classes in enumerate([(2, 0, 1), (5, 4)]):
            train, val = _of(data, classes, slice(VAL, None)), _of(data, classes, slice(VAL))
            tasks.append(Task(number, train, val, classes))
            test[number] = _of(asked, classes)
        return tasks, test, _describe(self.kind, tasks, test, ("warm", "cold"))


class PicturePool(Pool):
    """A pool: images of the six classes in another tint, and three-way episodes of them."""

    def __init__(self, seed: int = 10, validated: bool = True) -> None:
        self.images = pictures(SHOTS + QUERIES, seed, tint=20)
        self.validation = PicturePool(seed + 1, validated=False) if validated else None

    @property
    def fingerprint(self) -> str:
        return self.images.fingerprint

    def episode(self, seed: int, number: int) -> Episode:
        classes: Indices = generator("episode", seed, number).permutation(CLASSES)[:WAY]
        chosen = [int(cls) for cls in classes]
        return Episode(_of(self.images, chosen, slice(SHOTS)), _of(self.images, chosen, slice(SHOTS, None)))


def _describe(
    kind: Kind,
    tasks: Sequence[Task],
    test: dict[int, Labelled],
    names: tuple[str, ...] = (),
) -> StreamInfo:
    sizes = tuple((len(task.train), len(task.val), len(test[task.id])) for task in tasks)
    return StreamInfo(
        name=f"pictures, {WORDS[kind]}",
        protocol=kind if kind in ("few_shot", "transfer") else "continual",
        scenario=kind if kind in ("class", "domain") else "task",
        classes=tuple(task.classes for task in tasks),
        class_names=tuple("abcdef"),
        order=None,
        data="pictures in memory",
        rule="as made",
        image_size=(SIDE, SIDE),
        sizes=sizes,
        task_names=names,
    )
