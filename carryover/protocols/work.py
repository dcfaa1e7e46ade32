"""The interface of a protocol: what it implements, what it gets to run a cell, and what it returns."""

from __future__ import annotations

import time
import typing
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from backbones.backbone import Backbone
from benchmarks.images import Indices, Inputs, Pixels
from benchmarks.progress import Progress
from benchmarks.stream import Exam, Pool, Stream, StreamInfo, Task
from carryover.protocols.journal import CellJournal, Done
from carryover.records.row import Row
from methods.base import Footprint, Method

if typing.TYPE_CHECKING:
    from carryover.records.record import Selection


class PredictionError(RuntimeError):
    """The logits of a method cannot be scored; the message names the task and the problem."""


class NothingToChooseError(RuntimeError):
    """A validation run has no images, or all its candidates diverged or exceeded their budget.

    selection: what was tried, for the record.
    """

    selection: Selection | None = None


class Make(typing.Protocol):
    """Makes a fresh, unprepared instance of the cell's method on its own copy of the backbone.

    info: what it knows of its stream; part: names a piece of the cell with random numbers of its own, such
    as an episode; config: that of the cell by default; journaled: whether it may journal its training.
    """

    def __call__(
        self, info: StreamInfo, *, part: str = "", config: Any = None, journaled: bool = True
    ) -> Method: ...


@dataclass(frozen=True)
class Work:
    """Everything that a protocol needs to run a cell.

    tables: to be filled with the image tables of the tasks that the method has received (`Context.tables`);
    reuse: whether an evaluation may be reused if its state did not change; configs: the chosen config of
    each validation run, by name; empty without a choice.
    """

    make: Make
    backbone: Backbone
    info: StreamInfo
    tasks: Sequence[Task]
    exam: Exam
    pool: Pool | None
    journal: CellJournal
    progress: Progress
    tables: MutableMapping[str, Pixels]
    reuse: bool = True
    configs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationRun:
    """What a config is chosen on: a task, or the first tasks of a stream.

    images: number of training images; score(config): the accuracy on validation data and the image passes
    of the training.
    """

    name: str
    images: int
    score: Callable[[Any], tuple[float, int]]


@dataclass(frozen=True)
class Result:
    """The result of a cell.

    predicted: global classes by "step/task"; done: the final progress; footprint: of the method at the end;
    units: number of tasks that share its stored bits; fingerprints: of the test images by task.
    """

    rows: list[Row]
    predicted: Mapping[str, Indices]
    done: Done
    footprint: Footprint
    units: int
    fingerprints: Mapping[int, str]


class Protocol(typing.Protocol):
    """The functions of a protocol's module.

    VERSION: its name, a number and what it does, for the contract.
    """

    VERSION: str

    def scenario(self, info: StreamInfo) -> str:
        """What is known at test time, in words for the contract."""
        ...

    def unchosen(self, stream: Stream) -> str | None:
        """Why options cannot be chosen on that stream; None if they can."""
        ...

    def validation_runs(self, work: Work) -> list[ValidationRun]:
        """The validation runs that choose options; NothingToChooseError if one has no images."""
        ...

    def run(self, work: Work) -> Result:
        """Learn and score everything, continuing from the journal."""
        ...


def prepared(method: Method, pool: Pool | None, done: Done, journal: CellJournal | None = None) -> Method:
    """`method` after its `prepare`, whose time is added to `done`; journal: from which it may continue."""
    started = time.monotonic()
    if journal is not None:
        journal.begin()
    method.prepare(pool)
    done.prepare_s += time.monotonic() - started if journal is None else journal.spent()
    return method


def count(method: Method, done: Done) -> None:
    """Add the image passes of the last `learn`, and its replayed images."""
    done.passes += method.passes
    done.replayed += method.replayed


def macs_of(method: Method, inputs: Inputs, task_id: int | None) -> int | None:
    """The multiply-adds of predicting one image, with the network; None if they cannot be counted.

    Half of the operations that torch's FlopCounterMode counts: matrix products, convolutions and attention.
    """
    store, method.backbone.store = method.backbone.store, None  # cached features would cost nothing
    try:
        with FlopCounterMode(display=False) as counted:
            method.predict(inputs.select(np.arange(1)), task_id)
    except Exception:  # the method uses operations that the counter does not know
        return None
    finally:
        method.backbone.store = store
    return counted.get_total_flops() // 2


def hand_over(task: Task, tables: MutableMapping[str, Pixels]) -> None:
    """Give the method access to the images of `task`, which it may keep from now on."""
    for part in (task.train, task.val):
        for chunk in part.inputs.chunks:
            tables[chunk.content] = chunk.table


def predictions(done: Done) -> dict[str, Indices]:
    """The predicted classes in the journal, by "step/task"."""
    return {place: np.frombuffer(kept, dtype="<i8") for place, kept in done.predicted.items()}


def pick(logits: Tensor, classes: Sequence[int], images: int, where: str) -> Indices:
    """The global class ids (N,) of the largest logits (N, columns); the first of equal ones.

    PredictionError if the shape is not (images, len(classes)) or a logit is NaN.
    """
    if tuple(logits.shape) != (images, len(classes)):
        raise PredictionError(
            f"predict gave logits of shape {tuple(logits.shape)} for {where}, not ({images}, {len(classes)})"
        )
    if torch.isnan(logits).any():
        row = int(torch.isnan(logits).any(1).nonzero()[0])
        raise PredictionError(f"predict gave NaN logits for {where}, first at image {row}")
    return np.asarray(classes, dtype=np.int64)[logits.numpy().argmax(1)]
