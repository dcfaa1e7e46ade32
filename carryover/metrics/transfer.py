"""The metrics of the transfer protocol.

accuracy/TASK            the share of its test images that are classified correctly
accuracy_mean            the mean over tasks
accuracy_group/GROUP     the mean over the tasks of a group, if tasks are in groups
accuracy_group_mean      the mean over groups, which is reported elsewhere as well
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.stream import StreamInfo
from carryover.metrics.kind import Kind
from carryover.metrics.line import Column, Line, metric_column, part_column, share
from carryover.records.record import Record
from carryover.records.row import Row


class Transfer(Kind):
    """Separate tasks with one accuracy each; by default options are chosen on validation data."""

    name = "transfer"
    title = "transfer"
    primary = "accuracy_mean"
    selection = "search"

    def metrics(self, rows: Sequence[Row], tasks: Sequence[str], groups: Sequence[str]) -> dict[str, float]:
        last = max((row.task for row in rows), default=-1)
        names = [*tasks, *(f"task {number}" for number in range(len(tasks), last + 1))]
        return transfer_metrics(rows, names, groups if len(groups) == len(names) else ())

    def columns(self, lines: Sequence[Line], parts: Sequence[str], groups: Sequence[str]) -> list[Column]:
        """Both means, the mean of each group, each task, and the share of trained parameters."""
        means = [metric_column("accuracy\nmean %", "accuracy_mean", 0)]
        if groups:
            means.append(metric_column("group\nmean %", "accuracy_group_mean", 0))
        # With a single group it would repeat the mean.
        apart = groups if len(groups) > 1 else ()
        return [
            *means,
            *(part_column(name, f"accuracy_group/{name}", f"group {name} %", 1) for name in apart),
            *(part_column(name, f"accuracy/{name}", f"task {name} %", 5) for name in parts),
            Column("trained\nshare %", "trainable share of the backbone's parameters %", share, 1),
        ]

    def work(self, info: StreamInfo) -> tuple[float, float]:
        return float(info.tasks), super().work(info)[1]

    def worked(self, record: Record) -> tuple[float, float]:
        return float(max(len(record.tasks), 1)), super().worked(record)[1]


KIND = Transfer()


def transfer_metrics(rows: Iterable[Row], tasks: Sequence[str], groups: Sequence[str]) -> dict[str, float]:
    """The accuracy on each task, their mean, the mean of each group, and the mean over groups."""
    found = {tasks[row.task]: row.correct / row.n for row in rows if row.correct is not None and row.n}
    values = {f"accuracy/{task}": found[task] for task in tasks if task in found}
    if len(found) < len(tasks):
        return values
    values["accuracy_mean"] = float(np.mean([found[task] for task in tasks]))
    if groups:
        for group in dict.fromkeys(groups):
            own = [found[task] for task, of in zip(tasks, groups, strict=True) if of == group]
            values[f"accuracy_group/{group}"] = float(np.mean(own))
        means = [value for name, value in values.items() if name.startswith("accuracy_group/")]
        values["accuracy_group_mean"] = float(np.mean(means))
    return values
