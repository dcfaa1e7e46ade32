"""The tasks that a checked method learns, for any protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.images import Labelled
from benchmarks.stream import Exam, Stream, StreamInfo, Task
from carryover.protocols import transfer


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one method learns: all tasks of a continual stream, or one episode or task, as task 0."""

    info: StreamInfo
    tasks: Sequence[Task]
    exam: Exam

    def known(self, task: int) -> int | None:
        """The task id that `predict` gets."""
        return task if self.info.scenario == "task" else None

    def columns(self, task: int, learnt: int) -> tuple[int, ...]:
        """The global classes of the columns of the logits, for the images of `task`."""
        if self.info.scenario == "task":
            return self.info.classes[task]
        return tuple(dict.fromkeys(cls for of_task in self.info.classes[:learnt] for cls in of_task))


def lesson_of(stream: Stream) -> Lesson:
    """All tasks of a stream in sequence; only the first task of other streams."""
    info, (tasks, exam) = stream.info, stream.open(0)
    if info.in_sequence:
        return Lesson(info, tasks, exam)
    first = tasks[0]
    if info.episodes:
        task = replace(first, id=0)
        sizes = (len(first.train), 0, len(exam.inputs(first.id)))
        info = replace(
            info, classes=(first.classes,), sizes=(sizes,), task_names=first.class_names, episodes=1
        )
    else:
        task = transfer.alone(first, Labelled.join([first.train, first.val]))
        info = transfer.only(info, first)
    return Lesson(info, [task], Exam({0: answered(exam, first)}, {0: first.classes}))


def answered(exam: Exam, task: Task) -> Labelled:
    """The test images of a task with their labels, for the check only."""
    labels = np.array([task.classes.index(cls) for cls in exam._answers[task.id]], dtype=np.int64)
    return Labelled(exam.inputs(task.id), labels, task.class_names)
