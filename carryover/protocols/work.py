"""What a protocol is, what it is given to run a cell, and what it gives back."""

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
    """A method's logits cannot be scored; names task and what is wrong."""


class NothingToChooseError(RuntimeError):
    """A validation run has no images, or all its candidates diverged or were over their budget.

    selection: what was tried, for the record.
    """

    selection: Selection | None = None


class Make(typing.Protocol):
    """A fresh, unprepared instance of the cell's method on its own copy of the backbone.

    info: what it is told of its stream; part: names a piece of the cell that draws for itself, such as
    an episode; config: the cell's own by default; journaled: whether it may journal its training.
    """

    def __call__(
        self, info: StreamInfo, *, part: str = "", config: Any = None, journaled: bool = True
    ) -> Method: ...


@dataclass(frozen=True)
class Work:
    """A cell about to be run.

    tables: to be filled with the image tables of the tasks handed over so far (`Context.tables`);
    reuse: whether an evaluation whose state did not change since may be taken over; configs: what was
    chosen for each validation run, by name; empty where nothing was.
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
    """Something to choose a config for: a task, or the first tasks of a stream.

    images: to train on; score(config) gives the accuracy on validation data and the image passes of the
    training.
    """

    name: str
    images: int
    score: Callable[[Any], tuple[float, int]]


@dataclass(frozen=True)
class Result:
    """What became of it.

    predicted: global classes by "step/task"; done: the journal's last word; footprint: of the method at the
    end; units: the tasks that its stored bits are shared by; fingerprints: of the test images by task.
    """

    rows: list[Row]
    predicted: Mapping[str, Indices]
    done: Done
    footprint: Footprint
    units: int
    fingerprints: Mapping[int, str]


class Protocol(typing.Protocol):
    """What the module of a protocol has.

    VERSION: its name, a number and what it does, for the contract.
    """

    VERSION: str

    def scenario(self, info: StreamInfo) -> str:
        """What is known at test time, in words, for the contract."""
        ...

    def unchosen(self, stream: Stream) -> str | None:
        """Why no options can be chosen on that stream; None where they can."""
        ...

    def validation_runs(self, work: Work) -> list[ValidationRun]:
        """What options are chosen on; NothingToChooseError where that lacks images."""
        ...

    def run(self, work: Work) -> Result:
        """Learn and score everything, from wherever the journal says that an earlier process was."""
        ...


def prepared(method: Method, pool: Pool | None, done: Done, journal: CellJournal | None = None) -> Method:
    """`method` after its `prepare`, the time taken added to `done`; journal: that it may go on from."""
    started = time.monotonic()
    if journal is not None:
        journal.begin()
    method.prepare(pool)
    done.prepare_s += time.monotonic() - started if journal is None else journal.spent()
    return method


def count(method: Method, done: Done) -> None:
    """Add what the last `learn` was trained with."""
    done.passes += method.passes
    done.replayed += method.replayed


def macs_of(method: Method, inputs: Inputs, task_id: int | None) -> int | None:
    """Multiply-adds of the prediction of one image, the network included; None where they cannot be counted.

    Half of what torch's FlopCounterMode counts: matrix products, convolutions and attention.
    """
    store, method.backbone.store = method.backbone.store, None  # features that are read cost nothing
    try:
        with FlopCounterMode(display=False) as counted:
            method.predict(inputs.select(np.arange(1)), task_id)
    except Exception:  # a method that is not made of operations which it can see through
        return None
    finally:
        method.backbone.store = store
    return counted.get_total_flops() // 2


def hand_over(task: Task, tables: MutableMapping[str, Pixels]) -> None:
    """A method may keep images of `task` from now on."""
    for part in (task.train, task.val):
        for chunk in part.inputs.chunks:
            tables[chunk.content] = chunk.table


def predictions(done: Done) -> dict[str, Indices]:
    """The predicted classes in the journal, by "step/task"."""
    return {place: np.frombuffer(kept, dtype="<i8") for place, kept in done.predicted.items()}


def pick(logits: Tensor, classes: Sequence[int], images: int, where: str) -> Indices:
    """Global class ids (N,) of the largest logits (N, columns); the first of equal ones.

    PredictionError where the shape is not (images, len(classes)) or a logit is NaN.
    """
    if tuple(logits.shape) != (images, len(classes)):
        raise PredictionError(
            f"predict gave logits of shape {tuple(logits.shape)} for {where}, not ({images}, {len(classes)})"
        )
    if torch.isnan(logits).any():
        row = int(torch.isnan(logits).any(1).nonzero()[0])
        raise PredictionError(f"predict gave NaN logits for {where}, first at image {row}")
    return np.asarray(classes, dtype=np.int64)[logits.numpy().argmax(1)]
