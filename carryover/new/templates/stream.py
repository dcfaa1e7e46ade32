"""new_stream: noisy bars, one angle per class: say here what is learnt.

Source and licence of the images: computed here.
`images` returns the data; everything below it works for any labelled arrays. Images in folders or parquet
files need no stream of their own: `split:folder:PATH` is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from carryover import (
    Chunk,
    Exam,
    Inputs,
    Labelled,
    Place,
    RequestError,
    Stream,
    StreamInfo,
    Task,
    canonical,
    generator,
)

CLASSES = ("0 degrees", "30 degrees", "60 degrees", "90 degrees", "120 degrees", "150 degrees")
SIZE, TRAIN, TEST = 32, 20, 10  # pixels; images per class


def images(split: str, each: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, SIZE, SIZE, 3) uint8 and labels (N,) int64, sorted by class; the same bytes each time."""
    noise = generator("new_stream", split)
    row, column = np.mgrid[:SIZE, :SIZE]
    labels = np.repeat(np.arange(len(CLASSES)), each)
    angles = np.pi * labels / len(CLASSES)
    across = np.cos(angles)[:, None, None] * column + np.sin(angles)[:, None, None] * row
    waves = 127 + 80 * np.sin(across + noise.uniform(0, 2 * np.pi, (len(labels), 1, 1)))
    pixels = waves[..., None] + noise.normal(0, 40, (len(labels), SIZE, SIZE, 3))
    return pixels.clip(0, 255).astype(np.uint8), labels


class NewStream(Stream):
    """The classes in equal parts, one part a task."""

    catalogue: ClassVar[Mapping[str, str]] = {"new_stream": "bars at 6 angles, 3 tasks of 2 classes"}

    @dataclass(frozen=True)
    class Parameters:
        """
        tasks: number of tasks; it divides the number of classes
        scenario: task (the task of a test image is known) or class (one growing label space)
        """

        tasks: int = 3
        scenario: Literal["task", "class"] = "task"

    def __init__(self, name: str, parameters: Parameters, place: Place) -> None:
        count = len(CLASSES)
        if parameters.tasks < 1 or count % parameters.tasks:
            raise RequestError(
                f"{name}: tasks={parameters.tasks} does not divide the {count} classes; take a divisor"
            )
        each = count // parameters.tasks
        self._train, self._test = _table(*images("train", TRAIN)), _table(*images("test", TEST))
        fingerprint = hashlib.sha256((self._train.fingerprint + self._test.fingerprint).encode()).hexdigest()
        held = TRAIN // 10
        self._info = StreamInfo(
            name=canonical(name, parameters),
            protocol="continual",
            scenario=parameters.scenario,
            classes=tuple(tuple(range(start, start + each)) for start in range(0, count, each)),
            class_names=CLASSES,
            order=None,
            data=fingerprint,
            rule=f"drawn; val: {held} images of each class of train, drawn per seed",
            image_size=(SIZE, SIZE),
            sizes=((each * (TRAIN - held), each * held, each * TEST),) * parameters.tasks,
            mirror=False,  # whether an image keeps its class when it is flipped left to right
        )

    @property
    def info(self) -> StreamInfo:
        return self._info

    def open(self, seed: int) -> tuple[Sequence[Task], Exam]:
        """The tasks, and the test sets, whose labels no method ever sees."""
        held = np.zeros(len(self._train), dtype=bool)
        for cls in range(len(CLASSES)):
            rows = np.flatnonzero(self._train.labels == cls)
            held[generator("val", self._info.data, seed, cls).permutation(rows)[: TRAIN // 10]] = True
        tasks, test = [], {}
        for number, classes in enumerate(self._info.classes):
            train = _part(self._train, classes, ~held)
            tasks.append(Task(number, train, _part(self._train, classes, held), classes))
            test[number] = _part(self._test, classes, np.ones(len(self._test), dtype=bool))
        return tasks, Exam(test, dict(enumerate(self._info.classes)))


def _table(pixels: np.ndarray, labels: np.ndarray) -> Labelled:
    """Arrays as images of one table, identified by a hash of its pixels."""
    content = hashlib.sha256(pixels.tobytes()).hexdigest()
    return Labelled(Inputs([Chunk(pixels, np.arange(len(pixels)), content)]), labels, CLASSES)


def _part(data: Labelled, classes: tuple[int, ...], wanted: np.ndarray) -> Labelled:
    """The images of `classes` where `wanted` (N,) is true; labels are positions in `classes`."""
    rows = np.flatnonzero(np.isin(data.labels, classes) & wanted)
    labels = np.searchsorted(classes, data.labels[rows])
    return Labelled(data.inputs.select(rows), labels, tuple(CLASSES[cls] for cls in classes))
