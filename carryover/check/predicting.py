"""Promises about predictions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from carryover.cells.ready import config_dict
from carryover.check.subject import Subject
from carryover.check.verdict import BrokenError, expect, not_applicable
from carryover.protocols.continual import state_digest
from carryover.protocols.rounding import Rounding

# Enough to learn something, the second where the first is not.
LONGER = (
    {"epochs": 15, "steps": 100, "head_lr": 0.02},
    {"epochs": 60, "steps": 500, "head_lr": 0.1},
)
ALIKE = 1e-3  # features of different images, relative to their length


def columns(subject: Subject) -> None:
    """Logits are float32 on the CPU; their columns are the classes in the order learnt."""
    lesson = subject.lesson
    for step, of_step in enumerate(subject.learnt.logits, start=1):
        for task, logits in of_step.items():
            where = f"for the images of task {task} after {step} learnt"
            shape = (len(lesson.exam.inputs(task)), len(lesson.columns(task, step)))
            expect(isinstance(logits, Tensor), "a tensor", f"{type(logits).__name__} {where}")
            expect(tuple(logits.shape) == shape, f"logits {shape}", f"{tuple(logits.shape)} {where}")
            expect(logits.dtype == torch.float32, "float32", f"{logits.dtype} {where}")
            expect(logits.device.type == "cpu", "logits on the CPU", f"{logits.device} {where}")
            expect(not logits.requires_grad, "logits without gradient", f"requires_grad {where}")
            expect(not bool(torch.isnan(logits).any()), "numbers", f"NaN {where}")
    if lesson.info.scenario == "class":
        wanted, said = lesson.columns(0, len(lesson.tasks)), tuple(subject.learnt.method.columns())
        expect(said == wanted, f"columns() {wanted}, in the order learnt", f"{said}")


def learns(subject: Subject) -> None:
    """Longer training fits the training images of some task: the columns stand for the right classes."""
    lesson, seen = subject.lesson, ""
    for longer in LONGER:
        best, classes = _known(subject, longer)
        least = 1 / classes + 0.2
        if best > least:
            return
        seen = f"{best:.0%} of the best known task's"
    features = subject.backbone.features(lesson.tasks[0].train.inputs)
    if features.std(0).mean() < ALIKE * features.norm(dim=1).mean():
        not_applicable(f"to {subject.backbone.info.name}, which is random, all images look alike")
    expect(False, f"more than {least:.0%} of a task's training images known", seen)


def _known(subject: Subject, longer: dict[str, float]) -> tuple[float, int]:
    """The share of its training images that is known of the best known task, and of how many classes."""
    lesson = subject.lesson
    options = config_dict(subject.config)
    known = {name: value for name, value in longer.items() if name in options}
    method = subject.prepared(config=replace(subject.config, **known))
    for task in lesson.tasks:
        method.learn(task)
    # Whatever else it forgot or could not tell apart: under columns in another order it would know none.
    best = 0.0
    for task in lesson.tasks:
        classes = np.asarray(lesson.columns(task.id, len(lesson.tasks)))
        chosen = method.predict(task.train.inputs, lesson.known(task.id)).argmax(1)
        right = classes[chosen.numpy()] == np.asarray(task.classes)[task.train.labels]
        best = max(best, float(right.mean()))
    return best, len(classes)


def nothing_changes(subject: Subject) -> None:
    """`predict` leaves the state unchanged and repeats its result."""
    method = subject.learnt.method
    before = state_digest(method.state())
    first = subject.logits(method)
    again = subject.logits(method)
    after = state_digest(method.state())
    expect(after == before, "the state of before predicting", "another one after it")
    for task, logits in first.items():
        same = torch.equal(logits, again[task])
        expect(same, "the same bits when predicted again", f"other logits for the images of task {task}")


def image_alone(subject: Subject) -> None:
    """A prediction does not depend on the order, the neighbours or the size of its batch."""
    lesson, state = subject.lesson, subject.learnt.state(-1)
    method, small = subject.restored(state), subject.restored(state, eval_batch=3)
    for task, logits in subject.logits(method).items():
        inputs, known = lesson.exam.inputs(task), lesson.known(task)
        order = np.random.default_rng(task).permutation(len(inputs))
        alone = method.predict(inputs.select(order[:1]), known)
        shuffled = method.predict(inputs.select(order), known)
        rounding = Rounding(partial(method.predict, inputs, known), logits)
        expected = "the same logits (to rounding) whatever else is asked"
        for what, found, rows in (
            ("the image is alone", alone, order[:1]),
            ("the images come in another order", shuffled, order),
            ("images come three at a time", small.predict(inputs, known), None),
        ):
            apart = rounding.unexplained(found, rows)
            expect(not apart, expected, f"task {task}: others, {apart}, where {what}")


def unknown_task(subject: Subject) -> None:
    """Predicting for a task that was never learnt raises, and leaves the others unchanged."""
    lesson = subject.lesson
    if lesson.info.scenario != "task":
        not_applicable("the task of an image is never given here")
    task = lesson.tasks[0]
    method = subject.prepared()
    method.learn(task)
    before = method.predict(lesson.exam.inputs(task.id), task.id)
    for unknown in (1, 99):
        try:
            found = method.predict(lesson.exam.inputs(task.id), unknown)
        except Exception:  # whatever it is, the cell fails and says so
            continue
        seen = f"logits of shape {tuple(found.shape)} for task {unknown}"
        raise BrokenError("an error, since only task 0 was learnt", seen)
    after = method.predict(lesson.exam.inputs(task.id), task.id)
    expect(torch.equal(before, after), "task 0 predicted as before the error", "other logits")


def in_batches(subject: Subject) -> None:
    """`score_episodes` predicts what a fresh instance for each episode predicts."""
    stream = subject.stream
    if not stream.info.episodes:
        not_applicable("only few-shot streams have episodes")
    method, lesson = subject.prepared(info=stream.info), subject.lesson
    task = lesson.tasks[0]
    before = state_digest(method.state())
    episodes = [(task, lesson.exam.inputs(0)), (task, lesson.exam.inputs(0))]
    found = method.score_episodes(episodes)
    if found is None:
        not_applicable("the method does not score episodes in batches")
    expect(state_digest(method.state()) == before, "nothing of an episode left in the state", "another state")
    expect(len(found) == 2, "logits for each of 2 episodes", f"{len(found)}")
    wanted = subject.learnt.logits[0][0]
    for logits in found:
        shape = f"logits {tuple(wanted.shape)} of each episode"
        expect(logits.shape == wanted.shape, shape, f"{tuple(logits.shape)}")

    def score() -> Tensor:
        return torch.stack(method.score_episodes(episodes) or [])

    together = torch.stack(found)
    expect(torch.equal(score(), together), "the same bits when asked again", "other logits")
    # Learning an episode is part of what is computed, and may blow a rounding up as well.
    apart = Rounding(score, together).unexplained(wanted.expand_as(together))
    expect(not apart, "the logits of an instance made for the episode", f"others, {apart}")
