"""The promises of streams and backbones, fewer than a method's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from backbones.backbone import Backbone, describe, open_backbone
from backbones.numerics import Numerics
from benchmarks.errors import RequestError
from benchmarks.images import Inputs
from benchmarks.naming import parse, typed
from benchmarks.progress import Silent
from benchmarks.store import Store
from benchmarks.stream import Exam, Place, Stream, Task
from carryover.check.answers import leaks
from carryover.check.pictures import pictures
from carryover.check.running import told
from carryover.check.verdict import BrokenError, NotApplicableError, Verdict, expect, not_applicable
from carryover.plugins import stream_class


class OpenedStream:
    """A stream made from its name, and opened."""

    def __init__(self, name: str) -> None:
        self.name = name

    def make(self) -> Stream:
        """Made anew."""
        bare, parameters = parse(self.name)
        found = stream_class(bare)[1]
        place = Place(Store.default(), Silent())
        return found(bare, typed(bare, "parameter", found.Parameters, parameters), place)

    @cached_property
    def stream(self) -> Stream:
        return self.make()

    @cached_property
    def opened(self) -> tuple[Sequence[Task], Exam]:
        return self.stream.open(0)

    def opens(self) -> None:
        """It opens into tasks and an exam that are as its description says."""
        info, (tasks, exam) = self.stream.info, self.opened
        count = info.tasks * max(info.episodes, 1)
        expect(len(tasks) == count, f"{count} tasks", f"{len(tasks)}")
        expect([t.id for t in tasks] == list(range(count)), "ids from 0 on", f"{[t.id for t in tasks][:9]}")
        expect(set(exam.tasks) == set(range(count)), "an exam for each task", f"exams for {exam.tasks[:9]}")
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
        """No image of a task is in two of its training, validation and test sets."""
        tasks, exam = self.opened
        for task in tasks:
            parts = {"train": task.train.inputs, "val": task.val.inputs, "test": exam.inputs(task.id)}
            found = {name: _places(inputs) for name, inputs in parts.items()}
            for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
                both = found[one] & found[other]
                seen = f"{len(both)} images of task {task.id} in {one} and {other}"
                expect(not both, f"no image in both {one} and {other}", seen)

    def repeated(self) -> None:
        """Opened again with the same seed it is the same."""
        tasks, exam = self.opened
        again, examined = self.make().open(0)
        for task, other in zip(tasks, again, strict=True):
            for part in ("train", "val"):
                same = getattr(task, part).fingerprint == getattr(other, part).fingerprint
                expect(same, "the same images and labels", f"others in {part} of task {task.id}")
            same = exam.fingerprint(task.id) == examined.fingerprint(task.id)
            expect(same, "the same test images", f"others in task {task.id}")
            same = np.array_equal(exam._answers[task.id], examined._answers[task.id])
            expect(same, "the same answers", f"others in task {task.id}")

    def described(self) -> None:
        """Its description stays when it is opened, and equal streams are of one identity."""
        first = self.make()
        before = first.info.identity
        first.open(1)
        expect(first.info.identity == before, "one identity", "another after it was opened")
        expect(self.stream.info.identity == before, "one identity", "another when it is made again")
        bare, _ = parse(first.info.name)
        expect(
            stream_class(bare)[1].accepts(bare), "a canonical name that can be typed", f"{first.info.name!r}"
        )

    def sealed(self) -> None:
        """Nothing that a task holds leads to the exam or its answers."""
        tasks, exam = self.opened
        info = replace(
            self.stream.info, classes=tuple(task.classes for task in tasks)
        )  # episodes have their own
        held = leaks(list(tasks), exam, info)
        expect(not held, "tasks that lead to no test label", f"they hold {', '.join(dict.fromkeys(held))}")

    def pooled(self) -> None:
        """No image of the pool is in an exam."""
        pool = self.stream.pool
        if pool is None:
            not_applicable("it has no pool to prepare on")
        tasks, exam = self.opened
        kept = _places(pool.images.inputs)
        for task in tasks:
            both = kept & _places(exam.inputs(task.id))
            expect(not both, "a pool apart from every exam", f"{len(both)} images of task {task.id} in both")
        first, second = (pool.episode(0, 0) for _ in range(2))
        same = first.support.fingerprint == second.support.fingerprint
        expect(same, "the same episode for the same seed and number", "another support")


class OpenedBackbone:
    """A backbone by its name, without a store."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def backbone(self) -> Backbone:
        return open_backbone(self.name, numerics=Numerics())

    @cached_property
    def inputs(self) -> Inputs:
        return pictures(1, 0).inputs

    def builds(self) -> None:
        """It builds, and is what is known of it before its weights are there."""
        said, found = describe(self.name), self.backbone.info
        expect(said == found, f"{said}", f"{found}")
        trained = sum(p.numel() for p in self.backbone.net.parameters())
        expect(trained == said.parameters, f"{said.parameters} parameters", f"{trained}")

    def features(self) -> None:
        """Features are numbers of the width that it says, and the same when asked again."""
        found = self.backbone.features(self.inputs)
        shape = (len(self.inputs), self.backbone.info.width)
        expect(tuple(found.shape) == shape, f"features {shape}", f"{tuple(found.shape)}")
        expect(bool(torch.isfinite(found).all()), "finite features", "some that are not")
        expect(torch.equal(found, self.backbone.features(self.inputs)), "the same bits again", "others")
        expect(len(found.unique(dim=0)) > 1, "features that differ between images", "the same for all")

    def tokens(self) -> None:
        """Patch tokens are numbers in the grid that it says."""
        height, width = self.backbone.info.grid
        shape = (len(self.inputs), height * width, self.backbone.info.width)
        found = self.backbone.tokens(self.inputs)
        expect(tuple(found.shape) == shape, f"tokens {shape}", f"{tuple(found.shape)}")
        expect(bool(torch.isfinite(found).all()), "finite tokens", "some that are not")

    def alone(self) -> None:
        """An image's features do not depend on the images beside it."""
        found, alone = (
            self.backbone.features(self.inputs),
            self.backbone.features(self.inputs.select(np.arange(1))),
        )
        apart = float((found[:1] - alone).abs().max())
        expect(
            apart <= 1e-4 * float(found.abs().max()),
            "the same features alone",
            f"others, by up to {apart:.2g}",
        )

    def sites(self) -> None:
        """Its attention blocks are modules of the network, as many as it says."""
        found, said = self.backbone.sites(), self.backbone.info.blocks
        expect(len(found) == said, f"{said} attention blocks", f"{len(found)}")
        for site in found:
            there = site.block is self.backbone.net.get_submodule(site.name)
            expect(there, f"the module {site.name}", "another one")
        if not found:
            not_applicable("it has no attention blocks")

    def copied(self) -> None:
        """A copy that is trained leaves it as it was loaded."""
        copy = self.backbone.copy()
        with torch.no_grad():
            for parameter in copy.net.parameters():
                parameter.add_(1.0)
        expect(self.backbone.pristine, "the network as it was loaded", "another one after its copy changed")


def check_stream(name: str) -> Iterator[Verdict]:
    """A verdict for each promise of a stream; RequestError for one that cannot be made."""
    found = OpenedStream(name)
    assert found.stream
    checks = (
        ("opens", found.opens),
        ("disjoint", found.disjoint),
        ("same seed", found.repeated),
        ("description", found.described),
        ("sealed", found.sealed),
        ("pool", found.pooled),
    )
    return _tried(name, checks)


def check_backbone(name: str) -> Iterator[Verdict]:
    """A verdict for each promise of a backbone; RequestError for one that cannot be opened."""
    found = OpenedBackbone(name)
    assert found.backbone
    checks = (
        ("builds", found.builds),
        ("features", found.features),
        ("tokens", found.tokens),
        ("image alone", found.alone),
        ("sites", found.sites),
        ("copy", found.copied),
    )
    return _tried(name, checks)


def _tried(name: str, checks: Sequence[tuple[str, Callable[[], None]]]) -> Iterator[Verdict]:
    for promise, check in checks:
        started = time.monotonic()
        says = (check.__doc__ or "").strip().rstrip(".")
        try:
            check()
        except NotApplicableError as error:
            yield Verdict(promise, says, "not applicable", reason=str(error))
        except (BrokenError, Exception) as error:
            broken = error if isinstance(error, BrokenError) else BrokenError("no error", told(error))
            if isinstance(error, RequestError):
                raise
            seconds = time.monotonic() - started
            yield Verdict(promise, says, "failed", broken.expected, broken.seen, name, seconds=seconds)
        else:
            yield Verdict(promise, says, "passed", places=1, seconds=time.monotonic() - started)


def _places(inputs: Inputs) -> set[tuple[str, int]]:
    """Every image by its table and row."""
    return {(chunk.content, int(row)) for chunk in inputs.chunks for row in chunk.rows}
