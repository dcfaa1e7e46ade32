"""Transfer streams: every task is learnt from a fresh start, with fixed train, val and test sets.

    vtab-1k?only=cifar+dtd+eurosat
    fgvc
    embedded-transfer?only=digits&size=32
    transfer:folder:~/birds+cifar100?train=800&val=200

Files or a rule fix the three sets, so the seed changes nothing. Class ids continue from task to task.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import ClassVar

from benchmarks.errors import DataError, RequestError, unknown
from benchmarks.naming import canonical
from benchmarks.sources.lookup import data_roots
from benchmarks.sources.reading import Reading
from benchmarks.stream import Exam, Place, Stream, StreamInfo, Task
from benchmarks.transfer import embedded, fgvc, own, vtab
from benchmarks.transfer.task import TRAIN, VAL, Load, Parts, TransferTask
from benchmarks.transfer.transforms import TRANSFORMS, Transforms


@dataclass(frozen=True)
class Suite:
    """The tasks of one name, in order.

    size: default side of their images in pixels; selection: how options are chosen by default, as in the
    published tables, "" for the protocol's default.
    """

    tasks: tuple[TransferTask, ...]
    size: int
    summary: str
    selection: str = ""


SELECTION = "search?epochs=100"
SIZE = 224  # of photographs

SUITES = {
    "vtab-1k": Suite(vtab.TASKS, SIZE, "VTAB-1k: 19 tasks of 800 + 200 training images", SELECTION),
    "fgvc": Suite(
        fgvc.TASKS, SIZE, "five fine-grained tasks: CUB-200, NABirds, Flowers, Dogs, Cars", SELECTION
    ),
    "embedded-transfer": Suite(
        embedded.TASKS, 64, "ten small tasks of 800 + 200 training images: procedural ones and digits"
    ),
}


class TransferStream(Stream):
    """Tasks with fixed parts, one label space each."""

    catalogue: ClassVar[Mapping[str, str]] = {
        **{name: suite.summary for name, suite in SUITES.items()},
        "transfer:SOURCE+SOURCE": "any sources as tasks of 800 + 200 images, e.g. transfer:folder:~/birds",
    }

    @dataclass(frozen=True)
    class Parameters(Reading):
        """
        only: names of some of the tasks, joined by "+" (all by default)
        size: side in pixels that all images are squashed to (224; 64 for embedded-transfer)
        transforms: how images reach the network
        train: images to train on, for tasks that are sources (800)
        val: images to choose options on, for tasks that are sources (200)
        """

        only: str = ""
        size: int | None = None
        transforms: str = "vtab"
        train: int | None = None
        val: int | None = None

    @classmethod
    def accepts(cls, name: str) -> bool:
        return name in SUITES or name.startswith(own.ANY)

    def __init__(self, name: str, parameters: Parameters, place: Place) -> None:
        suite = SUITES.get(name)
        size = (suite.size if suite else SIZE) if parameters.size is None else parameters.size
        if not 1 <= size <= 4096:
            raise RequestError(f"{name}: size={size} lies outside 1 to 4096")
        if parameters.transforms not in TRANSFORMS:
            raise unknown("transforms", parameters.transforms, TRANSFORMS)
        suite = suite or _own(name, parameters, place, size)
        _check_counts(name, parameters)
        tasks = _chosen(name, suite, parameters.only)
        shown = replace(
            parameters,
            only="" if tasks == suite.tasks else "+".join(task.name for task in tasks),
            size=None if size == suite.size else size,
            train=None if parameters.train == TRAIN else parameters.train,
            val=None if parameters.val == VAL else parameters.val,
        )
        self._parts = [load(place, size) for load in _found(name, tasks, shown)]
        info = _described(canonical(name, shown), tasks, self._parts, TRANSFORMS[parameters.transforms], size)
        self._info = replace(info, selection=suite.selection)

    @property
    def info(self) -> StreamInfo:
        return self._info

    def open(self, seed: int) -> tuple[Sequence[Task], Exam]:
        """The same for every seed; the exam holds the test sets."""
        classes = dict(enumerate(self._info.classes))
        tasks = [
            Task(number, parts.train, parts.val, classes[number]) for number, parts in enumerate(self._parts)
        ]
        return tasks, Exam({number: parts.test for number, parts in enumerate(self._parts)}, classes)


def _own(name: str, parameters: TransferStream.Parameters, place: Place, size: int) -> Suite:
    """The sources that are named, as tasks."""
    train = TRAIN if parameters.train is None else parameters.train
    val = VAL if parameters.val is None else parameters.val
    return Suite(own.tasks_of(name, place, (train, val), size, parameters.reading), SIZE, "")


def _check_counts(name: str, parameters: TransferStream.Parameters) -> None:
    """RequestError where `train` or `val` is given for tasks whose parts are fixed."""
    if name in SUITES:
        parameters.reading.refuse(name, "its tasks have fixed files")
    if name in SUITES and (parameters.train, parameters.val) != (None, None):
        raise RequestError(f"the tasks of {name} have fixed parts; leave out train and val")


def _chosen(name: str, suite: Suite, only: str) -> tuple[TransferTask, ...]:
    """The tasks that are named, in the suite's order, whatever the order they were typed in."""
    if not only:
        return suite.tasks
    named = [part for part in re.split(r"[+,\s]+", only) if part]
    valid = {task.name for task in suite.tasks}
    for part in named:
        if part not in valid:
            raise unknown(f"task of {name}", part, valid)
    if not named:
        raise RequestError(f"{name}: only={only} names no task; write only={suite.tasks[0].name}")
    return tuple(task for task in suite.tasks if task.name in named)


def _found(name: str, tasks: Sequence[TransferTask], typed: TransferStream.Parameters) -> list[Load]:
    """How to load each task; one DataError for all that are missing, with how to get them."""
    roots = data_roots()
    found = {task.name: task.find(roots) for task in tasks}
    missing = [task for task, load in found.items() if load is None]
    if missing:
        there = [task for task in found if task not in missing]
        rest = canonical(name, replace(typed, only="+".join(there)))
        folders = " and ".join(str(root / name) for root in roots)
        where = f"looked for in {folders}" if folders else "CARRYOVER_DATA is not set"
        # Not by an import statement: how data are fetched is no part of the key of a record.
        how = import_module("benchmarks.transfer.fetch")
        raise DataError(
            f"{name}: {len(missing)} of {len(tasks)} tasks are not there ({where}): {', '.join(missing)}; "
            + (f"take those that can be had, {rest}, or " if there else "")
            + f"get them:\n{how.instructions(name, missing)}"
        )
    return [load for load in found.values() if load is not None]


def _described(
    name: str, tasks: Sequence[TransferTask], parts: Sequence[Parts], transforms: Transforms, size: int
) -> StreamInfo:
    classes: list[tuple[int, ...]] = []
    first = 0
    for task in tasks:
        classes.append(tuple(range(first, first + task.classes)))
        first += task.classes
    cuts: dict[str, list[str]] = {}
    digest = hashlib.sha256()
    for task, part in zip(tasks, parts, strict=True):
        cuts.setdefault(part.rule, []).append(task.name)
        prints = (part.train.fingerprint, part.val.fingerprint, part.test.fingerprint)
        digest.update("\0".join((task.name, *prints, "")).encode())
    said = [f"{'+'.join(names)}: {rule}" if len(cuts) > 1 else rule for rule, names in cuts.items()]
    return StreamInfo(
        name=name,
        protocol="transfer",
        scenario="task",
        classes=tuple(classes),
        class_names=tuple(word for part in parts for word in part.train.class_names),
        order=None,
        data=digest.hexdigest(),
        rule="; ".join(["parts fixed, the same for every seed", *said, transforms.describe(size)]),
        image_size=(size, size),
        sizes=tuple((len(part.train), len(part.val), len(part.test)) for part in parts),
        mirror=transforms.mirror,
        notes=tuple(
            dict.fromkeys(
                note
                for task, part in zip(tasks, parts, strict=True)
                for note in (task.note, *part.notes)
                if note
            )
        ),
        counts=tuple(count for part in parts for count in part.counts),
        task_names=tuple(task.name for task in tasks),
        groups=tuple(task.group for task in tasks) if all(task.group for task in tasks) else (),
    )
