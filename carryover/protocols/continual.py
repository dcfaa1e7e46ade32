"""Continual learning: tasks in order, every task scored after each (the matrix a[t, i]).

Row 0 is before learning anything. If a method has no head for a task yet (row 0, and task-incremental
every i > t), the entry holds its n and null; images of classes not yet seen count as wrong. The test sets
stay here: a method gets tasks and images without labels.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.images import Indices, Inputs, Pixels
from benchmarks.progress import Progress
from benchmarks.stream import Exam, Stream, StreamInfo, Task
from carryover.protocols.journal import CellJournal, Done
from carryover.protocols.per_sample import check
from carryover.protocols.work import (
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
from methods.base import Method

VERSION = "continual 2: every task scored after each, row 0 before learning, test images shuffled"
TRIED = 3  # tasks that options are chosen on (Chaudhry et al., 2019)


SCENARIOS = {
    "task": "task-incremental: the task is known at test time",
    "class": "class-incremental: one growing label space, the task is not known",
    "domain": "domain-incremental: one label space, shifting inputs",
}


def scenario(info: StreamInfo) -> str:
    return SCENARIOS[info.scenario]


def unchosen(stream: Stream) -> str | None:
    """Options are chosen on the validation images of the first tasks."""
    if all(val for _, val, _ in stream.info.sizes[:TRIED]):
        return None
    return (
        f"some of the first {min(TRIED, stream.info.tasks)} tasks have no validation images to choose options"
        " on; leave --selection out, or take a stream with val above 0 and without shots"
    )


def run(work: Work) -> Result:
    """Prepare one method, let it learn all tasks in order, and score all tasks after each."""
    spent = Done()
    # Asked in ever more mixtures; their features are computed once.
    work.backbone.share(Inputs.join([work.exam.inputs(task) for task in work.exam.tasks]))
    chosen = next(iter(work.configs.values()), None)
    method = prepared(work.make(work.info, config=chosen), work.pool, spent, work.journal)
    done = learn_in_turn(
        method,
        work.info,
        work.tasks,
        work.exam,
        journal=work.journal,
        progress=work.progress,
        tables=work.tables,
        reuse=work.reuse,
        prepare_s=spent.prepare_s,
    )
    _check_per_sample(method, work, done)
    if done.macs is None:
        task = work.tasks[-1].id
        known = task if work.info.scenario == "task" else None
        done.macs = macs_of(method, work.exam.inputs(task), known)
    return Result(
        rows=done.rows,
        predicted=predictions(done),
        done=done,
        footprint=method.footprint(),
        units=len(work.tasks),
        fingerprints={task: work.exam.fingerprint(task) for task in work.exam.tasks},
    )


def validation_runs(work: Work) -> list[ValidationRun]:
    """One validation run: the first three tasks, learnt in order, then scored on their validation images.

    The scored run learns them again, with a fresh instance.
    """
    tasks = work.tasks[:TRIED]
    info = replace(work.info, classes=work.info.classes[:TRIED], sizes=work.info.sizes[:TRIED])

    def score(config: Any) -> tuple[float, int]:
        method = work.make(info, part="candidate", config=config, journaled=False)
        method.prepare(work.pool)
        passes = 0
        for task in tasks:
            hand_over(task, work.tables)
            method.learn(task)
            passes += method.passes
        columns = seen_classes(info, len(tasks))
        accuracies = []
        for task in tasks:
            known = task.id if info.scenario == "task" else None
            classes = task.classes if known is not None else columns
            where = f"the validation images of task {task.id}"
            val = task.val.shuffled()
            chosen = pick(method.predict(val.inputs, known), classes, len(val), where)
            accuracies.append(np.mean(chosen == np.asarray(task.classes)[val.labels]))
        return float(np.mean(accuracies)), passes

    return [ValidationRun(f"the first {len(tasks)} tasks", sum(len(task.train) for task in tasks), score)]


def learn_in_turn(
    method: Method,
    info: StreamInfo,
    tasks: Sequence[Task],
    exam: Exam,
    *,
    journal: CellJournal,
    progress: Progress,
    tables: MutableMapping[str, Pixels],
    reuse: bool = True,
    prepare_s: float = 0.0,
) -> Done:
    """Let `method` learn `tasks` in order and score all tasks after each, continuing from the journal.

    tables: is filled with the image tables of the tasks that the method has received (`Context.tables`);
    reuse: the evaluation of a task is reused from the previous step if the state that it depends on has
    not changed; prepare_s: seconds of the preparation.
    """
    done, state = journal.resume()
    done.prepare_s = max(done.prepare_s, prepare_s)  # a resumed run finds the preparation ready
    if state is not None:
        for task in tasks[: done.learnt]:
            hand_over(task, tables)
        method.restore(state)
    if done.learnt == 0 and not done.rows:
        done.rows = [Row(step=0, task=i, n=len(exam.inputs(i))) for i in exam.tasks]
    with progress.bar("tasks", len(tasks), "task") as bar:
        bar.advance(done.learnt)
        if done.learnt:
            _evaluate(method, info, done, exam, journal, progress, reuse)
        for task in tasks[done.learnt :]:
            hand_over(task, tables)
            journal.begin()
            method.learn(task)
            done.train_s += journal.spent()
            count(method, done)
            done.learnt = task.id + 1
            done.observations.append(method.observations())
            journal.commit(done, method.state())
            _evaluate(method, info, done, exam, journal, progress, reuse)
            bar.advance(1)
    return done


def _evaluate(
    method: Method,
    info: StreamInfo,
    done: Done,
    exam: Exam,
    journal: CellJournal,
    progress: Progress,
    reuse: bool,
) -> None:
    """Score the tasks that are not yet scored at step `done.learnt`."""
    step = done.learnt
    scored = {(row.step, row.task): row for row in done.rows}
    waiting = [task for task in exam.tasks if (step, task) not in scored]
    if not waiting:  # resumed after the last score of a step
        return
    with progress.bar(f"scoring after task {step - 1}", len(waiting), "task") as bar:
        for group in _asked_together(info, waiting):
            started = time.monotonic()
            done.rows += _score(method, info, done, exam, group, reuse)
            done.eval_s += time.monotonic() - started
            bar.advance(len(group))
            if journal.due():
                journal.commit(done)
    journal.commit(done)


def _asked_together(info: StreamInfo, tasks: Sequence[int]) -> list[list[int]]:
    """Each task alone if it is told; else all at once, so that a batch tells nothing of their task."""
    return [[task] for task in tasks] if info.scenario == "task" else [list(tasks)]


def _score(
    method: Method, info: StreamInfo, done: Done, exam: Exam, group: Sequence[int], reuse: bool
) -> list[Row]:
    """The rows of tasks that are asked together."""
    step = done.learnt
    rows, asked = [], []
    for task in group:
        if task < step or info.scenario == "domain":
            asked.append(task)
        elif info.scenario == "task":
            rows.append(Row(step=step, task=task, n=len(exam.inputs(task))))
        else:
            rows.append(Row.scored(step, task, np.zeros(len(exam.inputs(task)), dtype=bool)))
    if not asked:
        return rows
    known = _known(info, asked)
    digest = state_digest(method.state_for(known))
    if reuse and all(done.digests.get(task) == digest for task in asked):
        return [*(_unchanged(done, task) for task in asked), *rows]
    inputs, owners = mixed(exam, asked)
    logits = method.predict(inputs, known)
    where = f"task {known}" if known is not None else "all tasks" if len(asked) > 1 else f"task {asked[0]}"
    chosen = pick(logits, _columns(info, known, step), len(inputs), where=f"{where} after {step} learnt")
    for task in asked:
        answers = chosen[owners == task]
        done.digests[task] = digest
        done.predicted[f"{step}/{task}"] = answers.astype("<i8").tobytes()
        rows.append(Row.scored(step, task, exam.score(task, answers)))
    return sorted(rows, key=lambda row: row.task)


def _unchanged(done: Done, task: int) -> Row:
    """The row of a task whose state is as it was when it was scored last."""
    before = next(row for row in reversed(done.rows) if row.task == task and row.hits is not None)
    done.predicted[f"{done.learnt}/{task}"] = done.predicted[f"{before.step}/{task}"]
    return Row(step=done.learnt, task=task, n=before.n, correct=before.correct, hits=before.hits)


def mixed(exam: Exam, tasks: Sequence[int]) -> tuple[Inputs, Indices]:
    """The test images of `tasks` in one random order, those of each in the exam's; (N,) whose each is."""
    owners = np.repeat(np.asarray(tasks), [len(exam.inputs(task)) for task in tasks])
    together = Inputs.join([exam.inputs(task) for task in tasks])
    if len(tasks) == 1:
        return together, owners
    shuffled = owners[together.random_order()]
    places = np.empty(len(owners), dtype=np.int64)
    for task in tasks:  # each place of a task gets its next image
        places[shuffled == task] = np.flatnonzero(owners == task)
    return together.select(places), shuffled


def _known(info: StreamInfo, tasks: Sequence[int]) -> int | None:
    """The task id that `predict` gets."""
    return tasks[0] if info.scenario == "task" else None


def _columns(info: StreamInfo, known: int | None, learnt: int) -> tuple[int, ...]:
    """The global classes of the logits' columns."""
    return info.classes[known] if known is not None else seen_classes(info, learnt)


def _check_per_sample(method: Method, work: Work, done: Done) -> None:
    """PredictionError unless the last answers are given for each image by itself."""
    info, step = work.info, done.learnt
    groups = _asked_together(info, work.exam.tasks)
    for group in groups:
        inputs, owners = mixed(work.exam, group)
        answers = np.empty(len(inputs), dtype=np.int64)
        for task in group:
            answers[owners == task] = np.frombuffer(done.predicted[f"{step}/{task}"], dtype="<i8")
        known = _known(info, group)
        where = f"task {known}" if known is not None else "all tasks"
        columns = _columns(info, known, step)
        check(
            partial(method.predict, task_id=known), inputs, answers, columns, where=where, share=len(groups)
        )


def seen_classes(info: StreamInfo, learnt: int) -> tuple[int, ...]:
    """The global ids of the classes of the first `learnt` tasks, in the order learnt."""
    return tuple(dict.fromkeys(cls for task in info.classes[:learnt] for cls in task))


def state_digest(state: dict[str, Tensor]) -> str:
    """The sha256 of a state: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
