"""The promise that a method cannot reach a test label.

A guarded test set reports every access; then everything that the method holds is searched.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.images import Indices, Inputs
from benchmarks.stream import Exam, StreamInfo
from carryover.check.subject import Subject
from carryover.check.surroundings import around
from carryover.check.verdict import expect

CALLS = ("prepare", "learn", "predict", "state", "state_for", "footprint", "observations")


class TouchedError(RuntimeError):
    """A method accessed the test set."""


class GuardedExam(Exam):
    """A test set that raises and remembers when a method accesses images, scores or labels."""

    def __init__(self, exam: Exam) -> None:
        self.at_work = False
        self.touched: list[str] = []
        self.sealed = False
        self._inputs = dict(exam._inputs)
        self._told = dict(exam._answers)

    @property
    def _answers(self) -> Mapping[int, Indices]:  # type: ignore[override]
        self._touch("answers")
        return self._told

    def inputs(self, task: int) -> Inputs:
        self._touch(f"images of task {task}")
        return super().inputs(task)

    def score(self, task: int, predicted: Indices) -> NDArray[np.bool_]:
        self._touch(f"score of task {task}")
        return super().score(task, predicted)

    def _touch(self, what: str) -> None:
        if self.at_work:
            self.touched.append(what)
            raise TouchedError(f"a method accessed the test set: {what}")


def no_reach(subject: Subject) -> None:
    """A method cannot reach a test label, by anything that it does or holds."""
    exam = GuardedExam(subject.lesson.exam)
    lesson = replace(subject.lesson, exam=exam)
    method = subject.make()

    def before() -> None:
        exam.at_work = True

    def after() -> None:
        exam.at_work = False

    failure: Exception | None = None
    with around(method, CALLS, before, after):
        try:
            method.prepare(subject.stream.pool)
            subject.learn_all(method, lesson)
        except Exception as error:  # perhaps because the test set refused it
            failure = error
    touched = ", ".join(dict.fromkeys(exam.touched))
    expect(not exam.touched, "no access to the test set", f"it asked for {touched}")
    if failure is not None:
        raise failure
    held = leaks([method, method.context, lesson.tasks], exam, lesson.info)
    expect(not held, "no reference to a test label", f"it holds {', '.join(dict.fromkeys(held))}")


def reachable(roots: Iterable[object]) -> Iterator[object]:
    """Every object that can be reached by references; a function leads to its closure, not to its module."""
    waiting, seen = list(roots), set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, types.ModuleType | type | types.CodeType | types.FrameType):
            continue
        seen.add(id(thing))
        yield thing
        if isinstance(thing, types.FunctionType):
            cells = [cell.cell_contents for cell in thing.__closure__ or () if cell != types.CellType()]
            waiting += [*cells, *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
        else:
            waiting += gc.get_referents(thing)
        if isinstance(thing, np.ndarray) and thing.base is not None:
            waiting.append(thing.base)


def leaks(roots: Iterable[object], exam: Exam, info: StreamInfo) -> list[str]:
    """What of the test set `roots` lead to: itself, its labels, or numbers equal to the labels of a task."""
    told = exam._answers
    answers: dict[str, Indices] = {}
    for task in exam.tasks:
        answers[f"answers of task {task}"] = told[task]
        answers[f"labels of task {task}"] = np.array([info.classes[task].index(c) for c in told[task]])
    found = []
    for thing in reachable(roots):
        if thing is exam or thing is told or thing is exam.__dict__.get("_answers", exam):
            found.append("the test set")
        if isinstance(thing, Tensor) and not thing.is_floating_point():
            thing = thing.detach().cpu().numpy()
        if isinstance(thing, np.ndarray):
            found += [name for name, those in answers.items() if np.array_equal(thing, those)]
    return found
