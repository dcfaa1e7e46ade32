"""The classes of a benchmark: a stream opens into tasks to learn and an exam that scores predictions.

The exam holds the test sets. Only the protocol holds the exam: a method receives tasks and, to predict,
bare `Inputs`, and nothing reachable from either leads to a test label.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.images import Indices, Inputs, Labelled
from benchmarks.orders import Order
from benchmarks.progress import Progress, Silent
from benchmarks.store import Store

Scenario = Literal["task", "class", "domain"]


@dataclass(frozen=True, eq=False)
class Task:
    """Images of some classes to learn, in training and validation sets.

    id: position in the stream, from 0. Labels of train and val are positions in `classes`, the
    global class ids; val is never trained on outside a refit.
    """

    id: int
    train: Labelled
    val: Labelled
    classes: tuple[int, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a stream before it is opened, with all that makes its numbers comparable.

    name: canonical, with its parameters, the order left out: that is a coordinate of a cell, beside its seed;
    classes: the global class ids of each task, in order; order: of all classes, None if there is none to
    choose; data: fingerprint of the source's pixels and labels; rule: how train, val and test were cut, in
    words; image_size: (H, W) of the stored pixels; sizes: (train, val, test) images of each task;
    sizes_by_order: whether the training images of a class depend on its place in the order;
    mirror: whether an image flipped left to right keeps its class; notes: what a reader of a table
    must know; task_names: shown to people, if tasks have names; groups: the group of each task, if means
    over groups are reported; counts: (training, test) images of each class, in the order of class_names, if
    known; selection: how options are chosen by default, "" for the protocol's default.
    A few-shot stream has one "task" per source with `episodes` episodes each; episode e of source s has the
    id s * episodes + e.
    """

    name: str
    protocol: str
    scenario: Scenario
    classes: tuple[tuple[int, ...], ...]
    class_names: tuple[str, ...]
    order: Order | None
    data: str
    rule: str
    image_size: tuple[int, int]
    sizes: tuple[tuple[int, int, int], ...]
    mirror: bool = True
    notes: tuple[str, ...] = ()
    task_names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    episodes: int = 0
    selection: str = ""
    sizes_by_order: bool = False
    counts: tuple[tuple[int, int], ...] = ()

    @property
    def tasks(self) -> int:
        return len(self.classes)

    @property
    def of_one_class(self) -> tuple[int, ...]:
        """The tasks that have a single class."""
        return tuple(number for number, classes in enumerate(self.classes) if len(classes) < 2)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and one on tasks of a single class where the task is known at test time."""
        if not self.of_one_class or self.scenario != "task" or not self.in_sequence:
            return self.notes
        said = ", ".join(map(str, self.of_one_class[:6])) + " ..." * (len(self.of_one_class) > 6)
        alone = f"every method is right on tasks of one class where the task is known: {said}"
        return (*self.notes, alone)

    @property
    def in_sequence(self) -> bool:
        """Whether one learner meets the tasks one after another; otherwise each has a fresh one."""
        return self.protocol not in ("few_shot", "transfer")

    @property
    def identity(self) -> str:
        """Hash of all that shapes the stream, names and paths left out; draws are seeded by it.

        The order of classes is in it as a list, however it was written.
        """
        classes = (self.protocol, self.scenario, self.classes, self.class_names)
        images = (self.data, self.rule, self.image_size, self.sizes, self.mirror)
        return hashlib.sha256(repr((*classes, *images)).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Episode:
    """A task to meta-train on; labels of both parts are positions in the same class names."""

    support: Labelled
    query: Labelled


class Pool(ABC):
    """Images to prepare on (meta-training, pre-tuning), disjoint from every test set.

    images: all of them, under one label space; mirror: whether a flipped image keeps its class;
    validation: a pool of other classes to choose a checkpoint with, or None.
    """

    images: Labelled
    mirror: bool = True
    validation: Pool | None = None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identity of images, labels and the rule by which episodes are drawn."""

    @abstractmethod
    def episode(self, seed: int, number: int) -> Episode:
        """The training episode `number`; the same for every method with one seed."""


class Exam:
    """The test sets of a stream; scores predicted classes.

    test: per task id, images with labels that are positions in `classes[task]`; they are asked in a fixed
    random order, so that positions tell nothing of the answers. While it is `sealed` (until options are
    chosen), asking for images or scores raises RuntimeError.
    """

    def __init__(self, test: Mapping[int, Labelled], classes: Mapping[int, Sequence[int]]) -> None:
        self.sealed = False
        asked = {task: part.shuffled() for task, part in test.items()}
        self._inputs = {task: part.inputs for task, part in asked.items()}
        self._answers = {
            task: np.asarray(classes[task], dtype=np.int64)[part.labels] for task, part in asked.items()
        }

    @property
    def tasks(self) -> tuple[int, ...]:
        return tuple(self._inputs)

    def inputs(self, task: int) -> Inputs:
        """The test images of `task`."""
        self._check_open()
        return self._inputs[task]

    def score(self, task: int, predicted: Indices) -> NDArray[np.bool_]:
        """Per-sample correctness (N,) of `predicted`, global class ids (N,); ValueError for another shape."""
        self._check_open()
        answers = self._answers[task]
        if predicted.shape != answers.shape:
            raise ValueError(
                f"task {task} has {answers.shape} test images, predictions are {predicted.shape}"
            )
        return np.asarray(predicted == answers)

    def fingerprint(self, task: int) -> str:
        """Identity of the test images of `task`."""
        return self._inputs[task].fingerprint

    def _check_open(self) -> None:
        if self.sealed:
            raise RuntimeError("the test sets are sealed: nothing may be tested before options are chosen")


@dataclass(frozen=True)
class Place:
    """What a stream works with: the store for decoded images, progress bars, decoding threads."""

    store: Store
    progress: Progress = field(default_factory=Silent)
    workers: int = 2


class Stream(ABC):
    """A sequence of tasks over some source. Made once, opened with a seed for each cell.

    A subclass lists its names in `catalogue` and declares a frozen dataclass `Parameters` for what
    may follow the name (`split-cifar100?tasks=20&per_class=50`). It is constructed from the name, the
    parameters and a `Place`; the constructor raises RequestError for parameters that cannot be used. Classes
    may come in orders to choose from: then there is a parameter `order`, which `--order` sets, and `info` has
    an `Order` and a name without it.
    """

    catalogue: ClassVar[Mapping[str, str]]

    @dataclass(frozen=True)
    class Parameters:
        pass

    @classmethod
    def accepts(cls, name: str) -> bool:
        """Whether `name` (without parameters) is one of this class."""
        return name in cls.catalogue

    @abstractmethod
    def __init__(self, name: str, parameters: Any, place: Place) -> None: ...

    @property
    @abstractmethod
    def info(self) -> StreamInfo:
        """The frozen description."""

    @abstractmethod
    def open(self, seed: int) -> tuple[Sequence[Task], Exam]:
        """The tasks in order and the exam; the split is drawn from hash(purpose, stream, seed)."""

    @property
    def pool(self) -> Pool | None:
        """The images that a method may prepare on before the first task, or None."""
        return None
