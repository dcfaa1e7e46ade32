"""Split streams, for continual learning: the classes of one source in parts, one part per task.

    split-cifar100?tasks=20&scenario=class
    split-cifar100?init=50&inc=10&scenario=class&order=natural
    split:folder:/data/birds?tasks=10&size=224

With scenario=domain every task has all classes, under a shift that grows from task to task (`shifts`). How
classes are cut into tasks is in `sizes`, how many images they give in `shares`, the order in which they come
in `benchmarks/orders.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np

from benchmarks.errors import RequestError
from benchmarks.images import Indices, Inputs, Labelled
from benchmarks.naming import canonical
from benchmarks.orders import USUAL, Order, Rule, order_of
from benchmarks.seeds import generator
from benchmarks.sources.lookup import may_mirror, open_source
from benchmarks.sources.reading import Reading
from benchmarks.stream import Exam, Place, Scenario, Stream, StreamInfo, Task
from benchmarks.streams.presets import PRESETS, Preset
from benchmarks.streams.shares import Amounts, check_ranges, shares
from benchmarks.streams.shifts import Shift, shifted
from benchmarks.streams.sizes import said, task_sizes

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
        tasks: number of tasks, as equal as they can be (default: the preset's, or 10)
        init: classes of the first task, if not inc
        inc: classes of each task; what remains is a last, smaller one
        sizes: classes of each task, as 50+10+10
        scenario: task (identity known), class (one growing label space) or domain (one label space)
        order: of the classes: a number, natural, a list (2+0+1, ids or names) or @FILE (default: 1993)
        rule: generator that makes an order of a number: numpy, inverse, python or torch
        per_class: images of each class to use for train and val, drawn per seed (all by default)
        shots: training images of each class after the first task, drawn per seed (all by default)
        imbalance: share of the images that the last class has of those of the first, for a long tail
        size: side in pixels that all images are squashed to
        val: share of each class's training images held out for validation; 0 for none
        shift: what grows from task to task in a domain stream, rotation or contrast
        mirror: whether a mirrored image keeps its class (training may flip images then)
        """

        tasks: int | None = None
        init: int | None = None
        inc: int | None = None
        sizes: str = ""
        scenario: Scenario = "task"
        order: int | str | None = None
        rule: Rule = "numpy"
        per_class: int | None = None
        shots: int | None = None
        imbalance: float | None = None
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
        self._name = canonical(name, replace(parameters, order=None))
        cut = parameters.inc is not None or parameters.init is not None or parameters.sizes
        tasks = preset.tasks if parameters.tasks is None and not cut else parameters.tasks
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
        self._amounts = Amounts(parameters.val, parameters.per_class, parameters.shots, parameters.imbalance)
        classes, order, notes = self._classes()
        counts = [len(rows) for rows in self._by_class]
        names = self._data.class_names
        self._shares = shares(self._name, self._amounts, classes, counts, names)
        self._info = self._describe(classes, order, notes)

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
        for cls, (rows, share) in enumerate(zip(self._by_class, self._shares, strict=True)):
            drawn = generator("val", self._drawn_by, seed, cls).permutation(rows)[: share.used]
            held.append(np.sort(drawn[: share.val]))
            kept.append(np.sort(drawn[share.val :]))
        return kept, held

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

    def _describe(
        self, classes: tuple[tuple[int, ...], ...], order: Order | None, notes: tuple[str, ...]
    ) -> StreamInfo:
        parameters, data = self._parameters, self._data
        scenario = parameters.scenario
        sizes = []
        for task in classes:
            given = [self._shares[cls] for cls in task]
            test = sum(len(self._test_by_class[cls]) for cls in task)
            sizes.append((sum(share.train for share in given), sum(share.val for share in given), test))
        rule = f"{data.rule}; {self._amounts.said()}"
        if scenario == "domain":
            rule += f"; shift: {parameters.shift}"
        return StreamInfo(
            name=self._name,
            protocol="continual",
            scenario=scenario,
            classes=classes,
            class_names=data.class_names,
            order=order,
            data=data.fingerprint,
            rule=rule,
            image_size=data.train.inputs.image_size,
            sizes=tuple(sizes),
            mirror=bool(parameters.mirror),
            notes=(*data.notes, *notes),
            sizes_by_order=self._amounts.by_order,
            counts=data.counts,
        )

    def _classes(self) -> tuple[tuple[tuple[int, ...], ...], Order | None, tuple[str, ...]]:
        """The classes of each task, their order, and notes on what is unusual about them."""
        chosen, names = self._parameters, self._data.class_names
        if chosen.scenario == "domain":
            assert chosen.tasks is not None
            return (tuple(range(len(names))),) * chosen.tasks, None, ()
        asked = USUAL if chosen.order is None else str(chosen.order)
        order = order_of(self._name, asked, chosen.rule, names)
        sizes = task_sizes(
            self._name,
            len(names),
            tasks=chosen.tasks,
            init=chosen.init,
            inc=chosen.inc,
            sizes=chosen.sizes,
        )
        ends = np.cumsum((0, *sizes))
        classes = tuple(order.classes[low:high] for low, high in pairwise(ends.tolist()))
        unequal = said(sizes)
        note = f"{unequal}; accuracy_last counts each task alike, accuracy_last_micro each image"
        return classes, order, (note,) if unequal else ()

    def _check_ranges(self) -> None:
        parameters = self._parameters
        limits: list[tuple[str, float | None, float, float]] = [
            ("tasks", parameters.tasks, 1, 10**6),
            ("per_class", parameters.per_class, 2 if parameters.val else 1, 10**9),
            ("shots", parameters.shots, 1, 10**9),
            ("imbalance", parameters.imbalance, 1e-6, 1),
            ("size", parameters.size, 1, 4096),
            ("val", parameters.val or None, 0.001, 0.9),
        ]
        check_ranges(self._name, limits)
        if parameters.scenario == "domain":
            for key in ("init", "inc", "sizes", "order", "rule", "shots", "imbalance"):
                if getattr(parameters, key) not in (None, "", "numpy"):
                    raise RequestError(
                        f"{self._name}: {key}={getattr(parameters, key)} has no meaning in a domain stream, "
                        f"whose tasks have all classes; leave out {key}"
                    )
        if parameters.shots is not None and parameters.imbalance is not None:
            raise RequestError(
                f"{self._name}: shots={parameters.shots} and imbalance={parameters.imbalance:g} both say how "
                "many images a class has; give one of them"
            )


def _rows_by_class(data: Labelled) -> list[Indices]:
    by_label = np.argsort(data.labels, kind="stable")
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    return np.split(by_label, np.cumsum(counts)[:-1])
