"""Split streams, for continual learning: the classes of one source in equal parts, one part per task.

    split-cifar100?tasks=20&scenario=class
    split:folder:/data/birds?tasks=10&size=224

With scenario=domain every task has all classes, under a shift that grows from task to task (`shifts`). The
class order is numpy's RandomState(order).permutation, as in the field's papers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from benchmarks.errors import DataError, RequestError
from benchmarks.images import Indices, Inputs, Labelled
from benchmarks.naming import canonical
from benchmarks.seeds import generator
from benchmarks.sources.lookup import may_mirror, open_source
from benchmarks.sources.reading import Reading
from benchmarks.stream import Exam, Place, Scenario, Stream, StreamInfo, Task
from benchmarks.streams.presets import PRESETS, Preset
from benchmarks.streams.shifts import Shift, shifted

ANY = "split:"


class SplitStream(Stream):
    """A continual stream over one labelled source."""

    catalogue: ClassVar[Mapping[str, str]] = {
        **{name: preset.summary for name, preset in PRESETS.items()},
        "split:SOURCE": "any source, e.g. split:folder:/data/birds?tasks=10&size=224",
    }

    @dataclass(frozen=True)
    class Parameters(Reading):
        """
        tasks: number of tasks, a divisor of the number of classes (default: the preset's, or 10)
        scenario: task (identity known), class (one growing label space) or domain (one label space)
        order: seed of the class order
        per_class: images of each class to use for train and val, drawn per seed (all by default)
        size: side in pixels that all images are squashed to
        val: share of each class's training images held out for validation
        shift: what grows from task to task in a domain stream, rotation or contrast
        mirror: whether a mirrored image keeps its class (training may flip images then)
        """

        tasks: int | None = None
        scenario: Scenario = "task"
        order: int = 1993
        per_class: int | None = None
        size: int | None = None
        val: float = 0.1
        shift: Shift = "rotation"
        mirror: bool | None = None

    @classmethod
    def accepts(cls, name: str) -> bool:
        return name in PRESETS or name.startswith(ANY)

    def __init__(self, name: str, parameters: Parameters, place: Place) -> None:
        source = name.removeprefix(ANY)
        preset = PRESETS.get(name) or Preset(source, 10, "", mirror=may_mirror(source))
        self._name = canonical(name, parameters)
        tasks = preset.tasks if parameters.tasks is None else parameters.tasks
        mirror = preset.mirror if parameters.mirror is None else parameters.mirror
        self._parameters = replace(parameters, tasks=tasks, mirror=mirror)
        self._check_ranges()
        self._place = place
        source_of = open_source(preset.source, parameters.reading)
        self._data = source_of.load(place.store, place.progress, size=parameters.size)
        # Not the name: a folder's path is no part of a split, nor is the way classes are cut into
        # tasks, so that streams over one source share their cached features.
        self._drawn_by = f"{self._data.fingerprint}?per_class={parameters.per_class}"
        self._by_class = _rows_by_class(self._data.train)
        self._test_by_class = _rows_by_class(self._data.test)
        self._check_counts()
        self._info = self._describe(preset)

    @property
    def info(self) -> StreamInfo:
        return self._info

    def open(self, seed: int) -> tuple[Sequence[Task], Exam]:
        kept, held = self._cut(seed)
        tasks, test = [], {}
        for number, classes in enumerate(self._info.classes):
            train, val = (self._part(self._data.train, rows, number, classes) for rows in (kept, held))
            tasks.append(Task(number, train, val, classes))
            test[number] = self._part(self._data.test, self._test_by_class, number, classes)
        return tasks, Exam(test, dict(enumerate(self._info.classes)))

    def _cut(self, seed: int) -> tuple[list[Indices], list[Indices]]:
        """Rows of train and of val for each class, sorted."""
        kept, held = [], []
        for cls, rows in enumerate(self._by_class):
            drawn = generator("val", self._drawn_by, seed, cls).permutation(rows)[
                : self._parameters.per_class
            ]
            count = self._held(len(drawn))
            held.append(np.sort(drawn[:count]))
            kept.append(np.sort(drawn[count:]))
        return kept, held

    def _held(self, images: int) -> int:
        """How many of a class's images go to val: at least one, and never all."""
        return min(max(1, round(images * self._parameters.val)), images - 1)

    def _part(self, data: Labelled, rows: Sequence[Indices], task: int, classes: tuple[int, ...]) -> Labelled:
        chosen = np.concatenate([rows[cls] for cls in classes])
        labels = np.repeat(np.arange(len(classes)), [len(rows[cls]) for cls in classes])
        inputs = data.inputs
        if self._info.scenario == "domain":
            level = task / max(self._info.tasks - 1, 1)
            chunks = [shifted(chunk, self._parameters.shift, level, self._place) for chunk in inputs.chunks]
            inputs = Inputs(chunks)
        names = tuple(data.class_names[cls] for cls in classes)
        return Labelled(inputs.select(chosen), labels, names)

    def _describe(self, preset: Preset) -> StreamInfo:
        parameters, data = self._parameters, self._data
        count, scenario = len(data.class_names), parameters.scenario
        assert parameters.tasks is not None
        order = [int(c) for c in np.random.RandomState(parameters.order).permutation(count)]
        if scenario == "domain":
            classes = (tuple(range(count)),) * parameters.tasks
        else:
            each = count // parameters.tasks
            classes = tuple(tuple(order[i : i + each]) for i in range(0, count, each))
        sizes = []
        for task in classes:
            used = [min(len(self._by_class[c]), parameters.per_class or 2**62) for c in task]
            held = sum(map(self._held, used))
            sizes.append((sum(used) - held, held, sum(len(self._test_by_class[c]) for c in task)))
        rule = f"{data.rule}; val: {parameters.val:.0%} of each class of train, drawn per seed"
        if parameters.per_class is not None:
            rule += f"; {parameters.per_class} images per class, drawn per seed"
        if scenario == "domain":
            rule += f"; shift: {parameters.shift}"
        return StreamInfo(
            name=self._name,
            protocol="continual",
            scenario=scenario,
            classes=classes,
            class_names=data.class_names,
            order=None if scenario == "domain" else parameters.order,
            data=data.fingerprint,
            rule=rule,
            image_size=data.train.inputs.image_size,
            sizes=tuple(sizes),
            mirror=bool(parameters.mirror),
            notes=data.notes,
            counts=data.counts,
        )

    def _check_ranges(self) -> None:
        parameters = self._parameters
        limits: list[tuple[str, float | None, float, float]] = [
            ("tasks", parameters.tasks, 1, 10**6),
            ("order", parameters.order, 0, 2**32 - 1),
            ("per_class", parameters.per_class, 2, 10**9),
            ("size", parameters.size, 1, 4096),
            ("val", parameters.val, 0.001, 0.9),
        ]
        for key, value, low, high in limits:
            if value is not None and not low <= value <= high:
                raise RequestError(f"{self._name}: {key}={value} lies outside {low} to {high}")

    def _check_counts(self) -> None:
        parameters, data = self._parameters, self._data
        classes, tasks = len(data.class_names), parameters.tasks or 1
        if parameters.scenario != "domain" and classes % tasks:
            fitting = ", ".join(str(n) for n in range(1, classes + 1) if classes % n == 0)
            raise RequestError(
                f"{self._name}: {tasks} tasks do not divide the {classes} classes; take tasks={fitting}"
            )
        least = parameters.per_class or 2
        for name, rows in zip(data.class_names, self._by_class, strict=True):
            if len(rows) < least:
                raise DataError(
                    f"{self._name}: class {name!r} has {len(rows)} training images and {least} are needed"
                    + (
                        "; take a smaller per_class"
                        if parameters.per_class
                        else " (one to train, one to validate)"
                    )
                )


def _rows_by_class(data: Labelled) -> list[Indices]:
    by_label = np.argsort(data.labels, kind="stable")
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    return np.split(by_label, np.cumsum(counts)[:-1])
