"""Few-shot learning: every episode starts fresh, learns its support images and is scored on its queries.

Nothing is carried from one episode to the next except the result of `prepare`. A method with
`score_episodes` gets episodes in batches, each journaled as a whole; otherwise every episode is journaled.
A row is one episode: `task` is its source, `step` its number within the source. A run resumes after the
last journaled episode.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.images import Inputs
from benchmarks.stream import Exam, Stream, StreamInfo, Task
from carryover.protocols.journal import Done
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
from methods.base import Footprint, Method

VERSION = "few_shot 2: fresh for each episode, which counts the same as every other, queries shuffled"
VALIDATED = 50  # episodes that options are chosen on
BATCH = 16  # episodes per call of `score_episodes`


def scenario(info: StreamInfo) -> str:
    return "few-shot: an episode is scored among its own classes"


def unchosen(stream: Stream) -> str | None:
    """The reason if the stream has no validation classes."""
    if stream.pool is not None and stream.pool.validation is not None:
        return None
    return f"{stream.info.name} has no validation classes to choose options on; take --selection default"


def run(work: Work) -> Result:
    """Score every episode, continuing from the journal."""
    done, _ = work.journal.resume()
    share(work)
    batched = prepared(work.make(work.info, config=_chosen(work)), work.pool, done, work.journal)
    begun = {(row.task, row.step) for row in done.rows}
    waiting = [task for task in work.tasks if _place(work.info, task) not in begun]
    with work.progress.bar("episodes", len(work.tasks), "episode") as bar:
        bar.advance(len(begun))
        for start in range(0, len(waiting), BATCH):
            for finished in _score_group(work, batched, waiting[start : start + BATCH], done):
                bar.advance(finished)
                if work.journal.due():
                    work.journal.commit(done)
    work.journal.commit(done)
    footprint = _footprint(work, batched, done)
    return Result(
        rows=done.rows,
        predicted=predictions(done),
        done=done,
        footprint=footprint,
        units=1,
        fingerprints=_fingerprints(work.info, work.exam),
    )


def validation_runs(work: Work) -> list[ValidationRun]:
    """One validation run: episodes of the pool's validation classes, learnt and scored like test episodes."""
    assert work.pool is not None
    validation = work.pool.validation
    assert validation is not None, "a cell without validation classes is refused before it runs"
    episodes = [validation.episode(0, number) for number in range(VALIDATED)]
    work.backbone.share(Inputs.join([part.inputs for e in episodes for part in (e.support, e.query)]))

    def score(config: Any) -> tuple[float, int]:
        accuracies, passes = [], 0
        for number, episode in enumerate(episodes):
            support, query = episode.support, episode.query.shuffled()
            ways = tuple(range(len(support.class_names)))
            task = Task(number, support, support.select(np.arange(0)), ways)
            method = _fresh(work, task, len(query), Done(), part=f"candidate {number}", config=config)
            method.learn(_alone(task))
            passes += method.passes
            where = f"validation episode {number}"
            chosen = pick(method.predict(query.inputs, 0), ways, len(query), where)
            accuracies.append(np.mean(chosen == query.labels))
        return float(np.mean(accuracies)), passes

    return [ValidationRun("validation episodes", sum(len(e.support) for e in episodes), score)]


def share(work: Work) -> None:
    """Compute features once for every image, in however many episodes it occurs."""
    parts = [part for task in work.tasks for part in (task.train.inputs, work.exam.inputs(task.id))]
    work.backbone.share(Inputs.join(parts))


def _score_group(work: Work, batched: Method, group: Sequence[Task], done: Done) -> Iterator[int]:
    """Add rows and predictions of some episodes; yields the number finished, 1 if each is learnt alone."""
    started = time.monotonic()
    queries = [work.exam.inputs(task.id) for task in group]
    scored = batched.score_episodes([(_alone(task), part) for task, part in zip(group, queries, strict=True)])
    done.eval_s += time.monotonic() - started
    if scored is None:
        for task, part in zip(group, queries, strict=True):
            _enter(work, task, _learnt(work, task, part, done), len(part), done)
            yield 1
        return
    done.passes += sum(len(task.train) for task in group)
    for task, part, logits in zip(group, queries, scored, strict=True):
        _enter(work, task, logits, len(part), done)
    yield len(group)


def _enter(work: Work, task: Task, logits: Tensor, queries: int, done: Done) -> None:
    """Add row and predictions of an episode."""
    source, episode = _place(work.info, task)
    where = f"episode {episode} of {work.info.task_names[source]}"
    chosen = pick(logits, task.classes, queries, where)
    done.predicted[f"{episode}/{source}"] = chosen.astype("<i8").tobytes()
    done.rows.append(Row.scored(episode, source, work.exam.score(task.id, chosen)))


def _learnt(work: Work, task: Task, queries: Inputs, done: Done) -> Tensor:
    """Logits (Q, N) of a fresh instance that learnt this episode."""
    method = _fresh(work, task, len(queries), done, part=f"episode {task.id}", config=_chosen(work))
    started = time.monotonic()
    method.learn(_alone(task))
    done.train_s += time.monotonic() - started
    count(method, done)
    started = time.monotonic()
    logits = method.predict(queries, 0)
    done.eval_s += time.monotonic() - started
    return logits


def _chosen(work: Work) -> Any:
    return next(iter(work.configs.values()), None)


def _fresh(work: Work, task: Task, queries: int, done: Done, *, part: str, config: Any) -> Method:
    info = replace(
        work.info,
        classes=(task.classes,),
        sizes=((len(task.train), 0, queries),),
        task_names=task.class_names,
        episodes=1,
    )
    hand_over(task, work.tables)
    # An episode is too short to be resumed, and must not resume from the journal of another one.
    method = work.make(info, part=part, config=config, journaled=False)
    return prepared(method, work.pool, done)


def _alone(task: Task) -> Task:
    """The episode as the only task that its method knows."""
    return replace(task, id=0)


def _place(info: StreamInfo, task: Task) -> tuple[int, int]:
    """(source, number within it) of an episode."""
    return divmod(task.id, info.episodes)


def _footprint(work: Work, batched: Method, done: Done) -> Footprint:
    """The footprint of the first episode; adds its observations and multiply-adds to `done`.

    PredictionError unless its queries are scored each by itself.
    """
    first = work.tasks[0]
    queries = work.exam.inputs(first.id)
    method = _fresh(work, first, len(queries), Done(), part=f"episode {first.id}", config=_chosen(work))
    method.learn(_alone(first))
    _check_per_sample(work, first, batched, method, done)
    done.macs = macs_of(method, queries, 0)
    if not done.observations and (seen := method.observations()):
        done.observations.append(seen)
    return method.footprint()


def _check_per_sample(work: Work, task: Task, batched: Method, learnt: Method, done: Done) -> None:
    """batched: if it scores episodes, it is asked again, else `learnt`, which has learnt this one."""
    queries, episode = work.exam.inputs(task.id), _alone(task)

    def predict(inputs: Inputs) -> Tensor:
        scored = batched.score_episodes([(episode, inputs)])
        return learnt.predict(inputs, 0) if scored is None else scored[0]

    source, number = _place(work.info, task)
    answers = np.frombuffer(done.predicted[f"{number}/{source}"], dtype="<i8")
    where = f"the queries of episode {number} of {work.info.task_names[source]}"
    check(predict, queries, answers, task.classes, where=where)


def _fingerprints(info: StreamInfo, exam: Exam) -> dict[int, str]:
    """The fingerprint of all queries of each source."""
    found = {source: hashlib.sha256() for source in range(info.tasks)}
    for task in exam.tasks:
        found[task // info.episodes].update(exam.fingerprint(task).encode())
    return {source: digest.hexdigest() for source, digest in found.items()}
