"""Transfer: every task on its own, from the pretrained network; no task uses what another one learnt.

Options are chosen on val after training on train (`validation_runs`), then the method is trained on both
together and the test set is scored, once. Splits are fixed; the seed of a cell draws initial weights, order
and noise.
A row is one task, at step 1. A run resumes after the last journaled task, or within a long one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.images import Labelled
from benchmarks.stream import Stream, StreamInfo, Task
from carryover.protocols.journal import Done
from carryover.protocols.per_sample import check
from carryover.protocols.work import (
    NothingToChooseError,
    Result,
    ValidationRun,
    Work,
    count,
    hand_over,
    macs_of,
    pick,
    predictions,
    prepared,
)
from carryover.records.row import Row
from methods.base import Footprint, Method

VERSION = "transfer 2: each task from the start, refitted on train and val, test images shuffled, scored once"


def scenario(info: StreamInfo) -> str:
    return "transfer: a task is scored among its own classes"


def unchosen(stream: Stream) -> str | None:
    return None


def validation_runs(work: Work) -> list[ValidationRun]:
    """One validation run per task: trained on train, scored on val after the last epoch."""
    for task in work.tasks:
        if not len(task.val):
            raise NothingToChooseError(
                f"{name_of(work.info, task)} has no validation images to choose options on; "
                "write --selection default"
            )
    return [_validation_run(work, task) for task in work.tasks]


def run(work: Work) -> Result:
    """Train on and score every task, continuing from the journal."""
    done, _ = work.journal.resume()
    scored = {row.task for row in done.rows}
    with work.progress.bar("tasks", len(work.tasks), "task") as bar:
        bar.advance(len(scored))
        for task in work.tasks:
            if task.id not in scored:
                method = _score(work, task, done)
                if work.journal.states is None:
                    work.journal.commit(done)
                else:
                    done.learnt = task.id + 1
                    work.journal.commit(done, method.state())
                bar.advance(1)
    return Result(
        rows=done.rows,
        predicted=predictions(done),
        done=done,
        footprint=_mean(done.footprints),
        units=1,
        fingerprints={task: work.exam.fingerprint(task) for task in work.exam.tasks},
    )


def _validation_run(work: Work, task: Task) -> ValidationRun:
    name = name_of(work.info, task)

    def score(config: Any) -> tuple[float, int]:
        method = _fresh(work, task, f"candidate {name}", config, Done(), journaled=False)
        method.learn(alone(task, task.train))
        val = task.val.shuffled()
        logits = method.predict(val.inputs, 0)
        chosen = pick(logits, range(len(task.classes)), len(val), f"the validation images of {name}")
        return float(np.mean(chosen == val.labels)), method.passes

    return ValidationRun(name, len(task.train), score)


def _score(work: Work, task: Task, done: Done) -> Method:
    """Train on and score a task; returns its method."""
    name = name_of(work.info, task)
    method = _fresh(work, task, f"task {name}", work.configs.get(name), done)
    work.journal.begin()
    method.learn(alone(task, Labelled.join([task.train, task.val])))
    done.train_s += work.journal.spent()
    count(method, done)
    done.observations.append(method.observations())
    started = time.monotonic()
    inputs = work.exam.inputs(task.id)
    where = f"the test images of {name}"
    chosen = pick(method.predict(inputs, 0), task.classes, len(inputs), where)
    check(
        partial(method.predict, task_id=0), inputs, chosen, task.classes, where=where, share=len(work.tasks)
    )
    done.eval_s += time.monotonic() - started
    done.predicted[f"1/{task.id}"] = chosen.astype("<i8").tobytes()
    done.rows.append(Row.scored(1, task.id, work.exam.score(task.id, chosen)))
    if done.macs is None:
        done.macs = macs_of(method, inputs, 0)
    done.footprints.append(dataclasses.asdict(method.footprint()))
    return method


def _fresh(work: Work, task: Task, part: str, config: Any, done: Done, *, journaled: bool = True) -> Method:
    hand_over(task, work.tables)
    method = work.make(only(work.info, task), part=part, config=config, journaled=journaled)
    return prepared(method, work.pool, done)


def name_of(info: StreamInfo, task: Task) -> str:
    """The name of a task in choices and metrics."""
    return info.task_names[task.id] if info.task_names else f"task {task.id}"


def only(info: StreamInfo, task: Task) -> StreamInfo:
    """`info` reduced to one task, which gets id 0."""
    return replace(
        info,
        classes=(task.classes,),
        sizes=(info.sizes[task.id],),
        task_names=info.task_names[task.id : task.id + 1],
        groups=info.groups[task.id : task.id + 1],
    )


def alone(task: Task, train: Labelled) -> Task:
    """The task as the only one, with `train` as its training set and without a validation set."""
    return Task(0, train, train.select(np.arange(0)), task.classes)


def _mean(kept: Sequence[Mapping[str, int]]) -> Footprint:
    """The mean footprint of a task."""
    return Footprint(**{name: round(float(np.mean([one[name] for one in kept]))) for name in kept[0]})
