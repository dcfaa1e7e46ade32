"""Computes every continual-learning metric, under an explicit name, from one accuracy matrix.

a[t, i]: accuracy on task i's test set after learning task t; row 0 is before learning anything.
The same words mean different things in different libraries, so the whole matrix is stored and each
variant has a name of its own (T tasks, i and t from 1 as in the papers):

    accuracy_last              mean_i a[T,i]                     each task counts the same
    accuracy_last_micro        the same, each image counts the same
    accuracy_incremental       mean_t mean_{i<=t} a[t,i]
    accuracy_incremental_micro mean_t of the images' mean over tasks i<=t
    accuracy_all_incremental_micro  mean_t of the images' mean over all tasks, learnt or not; RanPAC, domains
    learning_accuracy          mean_i a[i,i]
    forgetting_last            mean_{i<T} a[i,i] - a[T,i]        Avalanche
    backward_transfer          mean_{i<T} a[T,i] - a[i,i]        GEM (Lopez-Paz & Ranzato, 2017)
    forgetting_max             mean_{i<T} max_{i<=t<T} a[t,i] - a[T,i]
                               after Chaudhry et al. (2018), over rows t >= i only; never row T,
                               which would keep it from going below zero
    forgetting_stepwise        mean_{t<T} mean_{i<=t} a[t,i] - a[t+1,i]    CODA-Prompt's code
    forward_transfer           mean_{i>=2} a[i-1,i] - a[0,i]     GEM, its b being row 0

A metric that needs a missing entry, or a second task, is absent: never 0, never NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from carryover.metrics.kind import Entry, Kind
from carryover.metrics.line import Column, Line, metric_column
from carryover.records.record import Record
from carryover.records.row import Row

SHOWN = 0.00005  # half of the last digit of a percentage

Matrix = NDArray[np.float64]
Counts = NDArray[np.int64]


class Continual(Kind):
    """The accuracy matrix of tasks learnt in order; comparisons use the images after the last task."""

    name = "continual"
    title = "continual"
    primary = "accuracy_last"
    when = "after the last task"

    def metrics(self, rows: Sequence[Row], tasks: Sequence[str], groups: Sequence[str]) -> dict[str, float]:
        return continual_metrics(rows)

    def columns(self, lines: Sequence[Line], parts: Sequence[str], groups: Sequence[str]) -> list[Column]:
        """Accuracies with each task counting the same, and forgetting; where tasks have unequal test sets,
        also the accuracies with each image counting the same, which PILOT and its family report."""
        micro = [
            metric_column("last\nmicro %", "accuracy_last_micro", 4),
            metric_column("incr.\nmicro %", "accuracy_incremental_micro", 4),
        ]
        return [
            metric_column("accuracy\nlast %", "accuracy_last", 0),
            metric_column("accuracy\nincr. %", "accuracy_incremental", 1),
            metric_column("forget-\nting %", "forgetting_last", 1),
            *(micro if any(map(_weighed_unequally, lines)) else ()),
        ]

    def counting(self, record: Record, metric: str) -> dict[Entry, Row]:
        """The rows of all tasks after the last task was learnt."""
        last = max((row.step for row in record.rows if row.split == "test"), default=0)
        found = super().counting(record, metric)
        return {place: row for place, row in found.items() if place[0] == last}


KIND = Continual()


def _weighed_unequally(line: Line) -> bool:
    """Whether it shows in percent if each image counts the same instead of each task."""
    pairs = [
        (line.metrics.get(name), line.metrics.get(f"{name}_micro"))
        for name in ("accuracy_last", "accuracy_incremental")
    ]
    return any(macro and micro and abs(macro.mean - micro.mean) >= SHOWN for macro, micro in pairs)


def continual_metrics(rows: Iterable[Row]) -> dict[str, float]:
    """The metrics above, from the test rows of a run, as fractions in [0, 1] (differences in [-1, 1])."""
    return from_matrix(*accuracy_matrix(rows))


def accuracy_matrix(rows: Iterable[Row], split: str = "test") -> tuple[Matrix, Counts]:
    """Accuracies (T+1, T), NaN where a row is missing or null, and numbers of images (T+1, T).

    Row t holds step t, column i task id i (from 0, so that task i is learnt in step i+1). ValueError if
    there are no rows of this split, two rows for one entry, or a row outside the matrix.
    """
    places = [row for row in rows if row.split == split]
    if not places:
        raise ValueError(f"there are no {split} rows to compute metrics from")
    tasks = 1 + max(row.task for row in places)
    accuracy = np.full((tasks + 1, tasks), np.nan)
    counts = np.zeros((tasks + 1, tasks), dtype=np.int64)
    seen = set()
    for row in places:
        if (row.step, row.task) in seen:
            raise ValueError(f"two {split} rows for task {row.task} at step {row.step}")
        if not (0 <= row.step <= tasks and row.task >= 0):
            raise ValueError(f"no step {row.step} of task {row.task} in a stream of {tasks} tasks")
        seen.add((row.step, row.task))
        counts[row.step, row.task] = row.n
        if row.correct is not None and row.n > 0:
            accuracy[row.step, row.task] = row.correct / row.n
    return accuracy, counts


def from_matrix(accuracy: Matrix, counts: Counts) -> dict[str, float]:
    """The metrics above, in the unit of `accuracy` (T+1, T); counts (T+1, T) weigh the micro variants."""
    steps, tasks = accuracy.shape
    if steps != tasks + 1 or counts.shape != accuracy.shape:
        raise ValueError(f"accuracies and counts are (T+1, T), not {accuracy.shape} and {counts.shape}")
    learnt = accuracy[1:]  # learnt[t, i]: after task t, both from 0
    weights = counts[1:]
    last = learnt[-1]
    when_learnt = np.diag(learnt)
    stages = range(tasks)

    values = {
        "accuracy_last": last.mean(),
        "accuracy_last_micro": _micro(last, weights[-1]),
        "accuracy_incremental": np.mean([learnt[t, : t + 1].mean() for t in stages]),
        "accuracy_incremental_micro": np.mean(
            [_micro(learnt[t, : t + 1], weights[t, : t + 1]) for t in stages]
        ),
        "accuracy_all_incremental_micro": np.mean([_micro(learnt[t], weights[t]) for t in stages]),
        "learning_accuracy": when_learnt.mean(),
    }
    if tasks > 1:
        best = np.array([learnt[i:-1, i].max() for i in range(tasks - 1)])
        steps_lost = [(learnt[t, : t + 1] - learnt[t + 1, : t + 1]).mean() for t in range(tasks - 1)]
        values |= {
            "forgetting_last": (when_learnt - last)[:-1].mean(),
            "backward_transfer": (last - when_learnt)[:-1].mean(),
            "forgetting_max": (best - last[:-1]).mean(),
            "forgetting_stepwise": np.mean(steps_lost),
            "forward_transfer": (np.diag(learnt, 1) - accuracy[0, 1:]).mean(),
        }
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}


def _micro(accuracy: Matrix, counts: Counts) -> float:
    """The mean of accuracies (k,) weighted by counts (k,); NaN if the counts are zero."""
    total = counts.sum()
    return float((accuracy * counts).sum() / total) if total else float("nan")
