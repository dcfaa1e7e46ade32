"""The nouns of a benchmark: a stream opens into tasks, which are learnt, and an exam, which scores.

The exam holds the test sets. Only the protocol holds the exam; a method is handed tasks and, to
predict, bare `Inputs`, and nothing reachable from either leads to a test label.
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
from benchmarks.progress import Progress, Silent
from benchmarks.store import Store

Scenario = Literal["task", "class", "domain"]


@dataclass(frozen=True, eq=False)
class Task:
    """One thing to learn.

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
    """What is known of a stream before it is opened; every part that makes numbers comparable is here.

    name: canonical, with its parameters; classes: the global class ids of each task, in order;
    data: fingerprint of the source's pixels and labels; rule: how train, val and test were cut, in
    words; image_size: (H, W) of the stored pixels; sizes: (train, val, test) images of each task;
    mirror: whether an image flipped left to right keeps its class; notes: what a reader of a table
    must know; task_names: for people, where tasks have names; groups: of each task, where means over
    groups are reported. A few-shot stream has one "task" for each source, `episodes` of each, and its
    episode e of source s has the id s * episodes + e. selection: how options are chosen on it unless
    a user says otherwise; "": as the protocol has it.
    """

    name: str
    protocol: str
    scenario: Scenario
    classes: tuple[tuple[int, ...], ...]
    class_names: tuple[str, ...]
    order: int | None
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

    @property
    def tasks(self) -> int:
        return len(self.classes)

    @property
    def in_sequence(self) -> bool:
        """Whether one learner meets the tasks one after another; otherwise each has a fresh one."""
        return self.protocol not in ("few_shot", "transfer")

    @property
    def identity(self) -> str:
        """Hash of all that shapes the stream, names and paths left out; draws are seeded by it."""
        order = (self.protocol, self.scenario, self.classes, self.class_names, self.order)
        images = (self.data, self.rule, self.image_size, self.sizes, self.mirror)
        return hashlib.sha256(repr((*order, *images)).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Episode:
    """A task to meta-train on; labels of both parts are positions in the same class names."""

    support: Labelled
    query: Labelled


class Pool(ABC):
    """Images to prepare on (meta-training, pre-tuning), disjoint from every exam.

    images: all of them, under one label space; mirror: whether a flipped image keeps its class;
    validation: other classes, to choose a checkpoint with, where there are any.
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

    test: per task id, images with labels that are positions in `classes[task]`. While it is `sealed`, as
    it is until options are chosen, neither images nor scores can be had (RuntimeError).
    """

    def __init__(self, test: Mapping[int, Labelled], classes: Mapping[int, Sequence[int]]) -> None:
        self.sealed = False
        self._inputs = {task: part.inputs for task, part in test.items()}
        self._answers = {
            task: np.asarray(classes[task], dtype=np.int64)[part.labels] for task, part in test.items()
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
            raise RuntimeError("the exam is sealed: nothing may be tested before options are chosen")


@dataclass(frozen=True)
class Place:
    """Where and how a stream may work: the store for what it decodes, bars, threads for decoding."""

    store: Store
    progress: Progress = field(default_factory=Silent)
    workers: int = 2


class Stream(ABC):
    """A sequence of tasks over some source. Made once, opened with a seed for each cell.

    A subclass lists its names in `catalogue` and declares a frozen dataclass `Parameters` for what
    may follow the name (`split-cifar100?tasks=20&per_class=50`); it is made with the name, the
    parameters and a place to work. A constructor raises RequestError for what cannot be.
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
        """What a method may be prepared on before the first task; None without one."""
        return None
