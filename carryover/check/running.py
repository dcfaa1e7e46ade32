"""Promises about running: a supported cell runs, repeats its result, and uses its own random generators."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import numpy as np

from benchmarks.errors import RequestError
from benchmarks.images import Indices
from carryover.check.subject import Subject
from carryover.check.surroundings import around, batches_by_workers, scatter
from carryover.check.verdict import BrokenError, expect, not_applicable, told
from carryover.protocols.continual import mixed
from carryover.protocols.work import pick


def supported(subject: Subject) -> None:
    """`supports` is right: it refuses with a sentence, and everything else runs."""
    refusal = subject.refusal
    if refusal is not None:
        expect(isinstance(refusal, str), "None or a sentence", f"{type(refusal).__name__} {refusal!r}")
        sentence = " " in refusal.strip() and "\n" not in refusal
        expect(sentence, "a refusal that is a sentence", f"{refusal!r}")
        not_applicable(f"refused: {refusal}")
    try:
        learnt = subject.learnt
    except RequestError as error:
        not_applicable(f"refused: {error}")
    except Exception as error:
        raise BrokenError("learning and predicting, since `supports` does not refuse", told(error)) from error
    ids = [task.id for task in subject.lesson.tasks]
    expect(learnt.method.learnt == ids, f"learnt = {ids}", f"learnt = {learnt.method.learnt}")


def a_cell(subject: Subject) -> None:
    """A cell runs through its protocol and yields rows and metrics."""
    result = subject.first_cell
    accuracies = [row.correct / row.n for row in result.rows if row.correct is not None]
    expect(bool(accuracies), "scored rows", "none")
    metrics = subject.metrics(result)
    expect(all(map(math.isfinite, metrics.values())), "finite metrics", f"{metrics}")
    for observed in result.done.observations:
        for name, value in observed.items():
            seen = f"{name}={value!r}"
            expect(isinstance(value, int | float), "observations that are numbers by name", seen)


def again(subject: Subject) -> None:
    """The same cell gives the same rows again, with other workers and without reuse."""
    with batches_by_workers():
        second, states = subject.cell(workers=3, reuse=False)
    if not subject.stream.info.in_sequence:
        first = subject.first_cell
        expect(second.rows == first.rows, "the rows of the first run", "other rows in the second")
        _same_predictions(first.predicted, second.predicted)
        return
    learnt, predicted = subject.learnt, _asked_as_in_a_cell(subject)
    known = {place: classes for place, classes in second.predicted.items() if place in predicted}
    _same_predictions(predicted, known)
    for step, state in enumerate(states):
        same = state == learnt.state(step)
        expect(
            same, "the state of the first run, bit by bit", f"another state after task {step} in the second"
        )


def _asked_as_in_a_cell(subject: Subject) -> dict[str, Indices]:
    """The predicted classes by "step/task"; where the task is not told, of the mixture that a cell asks."""
    learnt, lesson = subject.learnt, subject.lesson
    predicted = {}
    for step, of_step in enumerate(learnt.logits, start=1):
        if lesson.info.scenario == "task":
            for task, logits in of_step.items():
                classes = lesson.columns(task, step)
                predicted[f"{step}/{task}"] = pick(logits, classes, len(logits), f"task {task}")
            continue
        asked = [task for task in lesson.exam.tasks if task < step or lesson.info.scenario == "domain"]
        inputs, owners = mixed(lesson.exam, asked)
        logits = subject.restored(learnt.state(step - 1)).predict(inputs, None)
        answers = pick(logits, lesson.columns(0, step), len(inputs), f"the images after {step} learnt")
        predicted |= {f"{step}/{task}": answers[owners == task] for task in asked}
    return predicted


def own_generators(subject: Subject) -> None:
    """Random numbers come from the given generators, never from global ones."""
    method = subject.prepared()
    count = 0
    drawn: list[str] = []
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002

    def before() -> None:
        nonlocal count, kept
        count += 1
        scatter(1000 + count)
        kept = random.getstate(), np.random.get_state()  # noqa: NPY002

    def after() -> None:
        if random.getstate() != kept[0]:
            drawn.append("random")
        if not all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), kept[1], strict=True)):  # noqa: NPY002
            drawn.append("numpy.random")

    with around(method, ("learn", "predict"), before, after):
        found = subject.learn_all(method)
    expected = "draws only from generators seeded by `context.seeds`"
    expect(not drawn, expected, f"draws from the global generator of {', '.join(sorted(set(drawn)))}")
    for step, state in enumerate(found.states):
        seen = f"another state after task {step} when torch's global generator has another state"
        expect(state == subject.learnt.states[step], expected, seen)


def _same_predictions(first: Mapping[str, Indices], second: Mapping[str, Indices]) -> None:
    for place, classes in first.items():
        same = place in second and np.array_equal(classes, second[place])
        expect(
            same, "the predictions of the first run", f"other predictions at step/task {place} in the second"
        )
