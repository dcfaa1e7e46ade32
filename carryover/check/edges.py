"""Promises about edge cases: a NaN loss, a task of one class, a task of one image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.errors import RequestError
from benchmarks.images import Labelled
from benchmarks.stream import Exam, Task
from carryover.check.lesson import Lesson, answered
from carryover.check.subject import Subject
from carryover.check.verdict import BrokenError, not_applicable, told


def loss_not_a_number(subject: Subject) -> None:
    """A NaN loss is reported: `learn` raises, or predictions are NaN."""
    kept = subject.learnt.method.footprint()
    if kept.trainable + kept.head == 0:
        not_applicable("the method trains nothing, so it has no loss")
    backbone = subject.backbone.copy()
    backbone.store = None
    method = subject.prepared(backbone=backbone)
    plain = backbone.prepare

    def spoilt(pixels: Tensor) -> Tensor:
        return plain(pixels) * float("nan")

    task = subject.lesson.tasks[0]
    backbone.__dict__["prepare"] = spoilt
    try:
        method.learn(task)
    except Exception:  # the cell fails, and its record says why
        return
    finally:
        del backbone.__dict__["prepare"]
    try:
        logits = method.predict(subject.lesson.exam.inputs(task.id), subject.lesson.known(task.id))
    except Exception:
        return
    if not torch.isnan(logits).any():
        seen = "`learn` returned and predictions are numbers, although every training image was NaN"
        raise BrokenError("a TrainingError, as `fit` raises, or NaN predictions", seen)


def one_class(subject: Subject) -> None:
    """A task of one class is learnt and predicted, or refused with a sentence."""
    task = subject.lesson.tasks[0]
    first = task.classes[:1]
    rows = np.flatnonzero(task.train.labels == 0)
    names = task.class_names[:1]
    train = Labelled(task.train.inputs.select(rows), np.zeros(len(rows), np.int64), names)
    held = np.flatnonzero(task.val.labels == 0)
    val = Labelled(task.val.inputs.select(held), np.zeros(len(held), np.int64), names)
    test = answered(subject.lesson.exam, task)
    asked = test.select(np.flatnonzero(test.labels == 0))
    exam = Exam({0: Labelled(asked.inputs, asked.labels, names)}, {0: first})
    sizes = ((len(train), len(val), len(asked)),)
    info = replace(subject.lesson.info, classes=(first,), sizes=sizes, task_names=(), groups=(), episodes=0)
    _answers(subject, Lesson(info, [Task(0, train, val, first)], exam), "a task of one class")


def one_image(subject: Subject) -> None:
    """A task of one training image is learnt and predicted, or refused with a sentence."""
    lesson = subject.lesson
    task = lesson.tasks[0]
    only = replace(task, train=task.train.select(np.arange(1)))
    exam = Exam({0: answered(lesson.exam, task)}, {0: task.classes})
    sizes = ((1, len(task.val), lesson.info.sizes[0][2]),)
    info = replace(
        lesson.info,
        classes=lesson.info.classes[:1],
        sizes=sizes,
        task_names=lesson.info.task_names[:1],
        groups=lesson.info.groups[:1],
    )
    _answers(subject, Lesson(info, [only], exam), "a task of one training image")


def _answers(subject: Subject, lesson: Lesson, what: str) -> None:
    """Expect that it learns, and predicts numbers of the right shape."""
    refusal = subject.cls.supports(subject.config, lesson.info, subject.backbone.info)
    if refusal is not None:
        not_applicable(f"{what} is refused: {refusal}")
    expected = f"{what} learnt and predicted, or refused with a sentence (RequestError)"
    try:
        method = subject.prepared(info=lesson.info)
        method.learn(lesson.tasks[0])
        logits = method.predict(lesson.exam.inputs(0), lesson.known(0))
    except RequestError as error:
        not_applicable(f"{what} is refused: {error}")
    except Exception as error:
        raise BrokenError(expected, told(error)) from error
    shape = (len(lesson.exam.inputs(0)), len(lesson.columns(0, 1)))
    if tuple(logits.shape) != shape or torch.isnan(logits).any():
        seen = (
            "NaN" if tuple(logits.shape) == shape else f"logits of shape {tuple(logits.shape)}, not {shape}"
        )
        raise BrokenError(expected, seen)
