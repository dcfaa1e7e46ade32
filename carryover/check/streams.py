"""The promises of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from benchmarks.images import Inputs
from benchmarks.naming import parse, typed
from benchmarks.progress import Silent
from benchmarks.store import Store
from benchmarks.stream import Exam, Place, Stream, Task
from carryover.check.answers import leaks
from carryover.check.verdict import Verdict, each, expect, not_applicable
from carryover.plugins.catalogue import stream_class


def named(name: str) -> Stream:
    """The stream `NAME?key=value`; RequestError if it cannot be made."""
    bare, parameters = parse(name)
    found = stream_class(bare)[1]
    place = Place(Store.default(), Silent())
    return found(bare, typed(bare, "parameter", found.Parameters, parameters), place)


def check_stream(name: str, make: Callable[[], Stream]) -> Iterator[Verdict]:
    """A verdict for each promise of a stream; RequestError if it cannot be made."""
    found = OpenedStream(make)
    assert found.stream
    checks = (
        ("opens", found.opens),
        ("disjoint", found.disjoint),
        ("same seed", found.repeated),
        ("description", found.described),
        ("sealed", found.sealed),
        ("pool", found.pooled),
    )
    return each(name, checks)


class OpenedStream:
    """A stream, opened; it can be made again."""

    def __init__(self, make: Callable[[], Stream]) -> None:
        self.make = make

    @cached_property
    def stream(self) -> Stream:
        return self.make()

    @cached_property
    def opened(self) -> tuple[Sequence[Task], Exam]:
        return self.stream.open(0)

    def opens(self) -> None:
        """It opens into tasks and test sets that match its description."""
        info, (tasks, exam) = self.stream.info, self.opened
        count = info.tasks * max(info.episodes, 1)
        expect(len(tasks) == count, f"{count} tasks", f"{len(tasks)}")
        expect([t.id for t in tasks] == list(range(count)), "ids from 0 on", f"{[t.id for t in tasks][:9]}")
        expect(
            set(exam.tasks) == set(range(count)),
            "a test set for each task",
            f"test sets for {exam.tasks[:9]}",
        )
        for task in tasks:
            sizes = (len(task.train), len(task.val), len(exam.inputs(task.id)))
            if info.episodes:
                expect(
                    min(sizes[0], sizes[2]) > 0, "support and query images", f"{sizes} in episode {task.id}"
                )
                continue
            said = info.sizes[task.id]
            expect(sizes == said, f"{said} images to train, validate and test", f"{sizes} in task {task.id}")
            expect(task.classes == info.classes[task.id], f"{info.classes[task.id]}", f"{task.classes}")

    def disjoint(self) -> None:
        """The training, validation and test sets of a task share no image."""
        tasks, exam = self.opened
        for task in tasks:
            parts = {"train": task.train.inputs, "val": task.val.inputs, "test": exam.inputs(task.id)}
            found = {name: _places(inputs) for name, inputs in parts.items()}
            for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
                both = found[one] & found[other]
                seen = f"{len(both)} images of task {task.id} in {one} and {other}"
                expect(not both, f"no image in both {one} and {other}", seen)

    def repeated(self) -> None:
        """The same seed gives the same tasks and test sets."""
        tasks, exam = self.opened
        again, examined = self.make().open(0)
        for task, other in zip(tasks, again, strict=True):
            for part in ("train", "val"):
                same = getattr(task, part).fingerprint == getattr(other, part).fingerprint
                expect(same, "the same images and labels", f"other ones in {part} of task {task.id}")
            same = exam.fingerprint(task.id) == examined.fingerprint(task.id)
            expect(same, "the same test images", f"other ones in task {task.id}")
            same = np.array_equal(exam._answers[task.id], examined._answers[task.id])
            expect(same, "the same test labels", f"other ones in task {task.id}")

    def described(self) -> None:
        """Opening it leaves its description unchanged, and equal streams have one identity."""
        first = self.make()
        before = first.info.identity
        first.open(1)
        expect(first.info.identity == before, "one identity", "another identity after it was opened")
        expect(self.stream.info.identity == before, "one identity", "another identity when it is made again")
        bare, _ = parse(first.info.name)
        typeable = type(first).accepts(bare)
        expect(typeable, "a canonical name that can be typed", f"{first.info.name!r}")

    def sealed(self) -> None:
        """A task holds nothing that leads to the test set or its labels."""
        tasks, exam = self.opened
        info = replace(
            self.stream.info, classes=tuple(task.classes for task in tasks)
        )  # episodes have their own
        held = leaks(list(tasks), exam, info)
        expect(
            not held,
            "tasks without a reference to test labels",
            f"they hold {', '.join(dict.fromkeys(held))}",
        )

    def pooled(self) -> None:
        """No image of the pool is in a test set."""
        pool = self.stream.pool
        if pool is None:
            not_applicable("the stream has no pool to prepare on")
        tasks, exam = self.opened
        kept = _places(pool.images.inputs)
        for task in tasks:
            both = kept & _places(exam.inputs(task.id))
            expect(not both, "a pool without test images", f"{len(both)} test images of task {task.id} in it")
        first, second = (pool.episode(0, 0) for _ in range(2))
        same = first.support.fingerprint == second.support.fingerprint
        expect(same, "the same episode for the same seed and number", "another support set")


def _places(inputs: Inputs) -> set[tuple[str, int]]:
    """Every image by its table and row."""
    return {(chunk.content, int(row)) for chunk in inputs.chunks for row in chunk.rows}
