"""A small stream in memory on which every method is put through the continual protocol.

Six classes of 32x32 images that can be told apart, 12 training images each (one of them val) and 5 to
test, in three tasks; 5 training images where every task has all classes, or most of the suite's time would
go there.
"""

from __future__ import annotations

import dataclasses
import os
import types
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from backbones.backbone import Backbone, BackboneInfo, describe, open_backbone
from backbones.numerics import Numerics
from benchmarks.images import Chunk, Inputs, Labelled
from benchmarks.naming import typed
from benchmarks.sources.source import SourceData
from benchmarks.store import Store
from benchmarks.stream import Exam, Place, Task
from benchmarks.streams import split
from benchmarks.streams.split import SplitStream
from carryover.check.subject import Subject
from carryover.plugins.catalogue import method_class, methods
from methods.base import Method, ParameterEfficient

BACKBONES = ("tiny_vit", "tiny_swin", "tiny_convnet", "tiny_external_attention")
SCENARIOS = ("task", "class", "domain")
CLASSES, TEST = 6, 5
TRAIN = {"task": 12, "class": 12, "domain": 5}
SMALL = Path(__file__).parent / "small"

# Short training for whoever has these options.
QUICK = {"epochs": 2, "batch_size": 16, "min_steps": 0, "head_lr": 0.02}
# What a method needs to do something in so few steps: MEAT's bits flip once the rates sum to gamma.
# CrossTransformers are meta-trained on a pool, and there is none here: the head is the untrained one.
LIVELY: dict[str, dict[str, object]] = {"meat": {"lr": 4.0}, "crosstransformer": {"head": "random"}}
# Those that leave the network as it is and keep for each task what it needs.
FROZEN = ("ncm", "linear_probe", "protonet", "knn", "finetune_head", "crosstransformer")


@dataclass(frozen=True)
class Case:
    """A method with its options on a backbone in a scenario."""

    method: str
    backbone: str
    scenario: str
    options: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        options = "".join(f"-{name}={value}" for name, value in self.options)
        return f"{self.method}{options}-{self.backbone}-{self.scenario}"

    @property
    def cls(self) -> type[Method]:
        return found(self.method)

    @property
    def config(self) -> Any:
        known = {field.name for field in dataclasses.fields(self.cls.Config)}
        quick: dict[str, object] = {name: value for name, value in QUICK.items() if name in known}
        for name, options in LIVELY.items():
            quick |= options if issubclass(self.cls, found(name)) else {}
        values = quick | dict(self.options)
        return typed(self.method, "option", self.cls.Config, values)

    @property
    def refusal(self) -> str | None:
        return _refusal(self)

    @property
    def forgets_nothing(self) -> bool:
        """Whether it claims to predict an old task, if the task is known, from what was stored for it."""
        said = getattr(self.config, "per_task", None)
        stores = getattr(self.cls, "per_task", False) if said is None else said
        stores = stores or (said is None and issubclass(self.cls, ParameterEfficient))
        stores = stores or issubclass(self.cls, tuple(map(found, FROZEN)))
        return stores and self.scenario == "task"


@cache
def _refusal(case: Case) -> str | None:
    return case.cls.supports(case.config, stream(case.scenario).info, _described(case.backbone))


@cache
def _described(backbone: str) -> BackboneInfo:
    return describe(backbone)


def names() -> list[str]:
    """All methods: those that are found, and the files in `small/`, which are methods for tests alone."""
    return [*methods(), *sorted(path.name for path in SMALL.glob("[!_]*.py"))]


@cache
def found(name: str) -> type[Method]:
    """The class of a method."""
    return method_class(str(SMALL / name) if name.endswith(".py") else name)[1]


def _source(scenario: str) -> SourceData:
    rng = np.random.default_rng(7)

    def part(each: int, content: str) -> Labelled:
        labels = np.tile(np.arange(CLASSES), each)
        table = rng.integers(0, 90, (len(labels), 32, 32, 3))
        for image, label in zip(table, labels, strict=True):
            row, column = divmod(int(label), 3)
            image[16 * row : 16 * row + 16, 10 * column : 10 * column + 10, label % 3] += 150
        inputs = Inputs([Chunk(table.astype(np.uint8), np.arange(len(labels)), content)])
        return Labelled(inputs, labels, tuple("abcdef"))

    return SourceData(
        part(TRAIN[scenario], f"train {scenario}"),
        part(TEST, "test"),
        tuple("abcdef"),
        "pictures",
        "as stored",
    )


@cache
def stream(scenario: str) -> SplitStream:
    """The stream in a scenario."""
    loaded = types.SimpleNamespace(load=lambda *_, **__: _source(scenario))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "open_source", lambda name, reading: loaded)
        parameters = SplitStream.Parameters(tasks=3, scenario=scenario)  # type: ignore[arg-type]
        return SplitStream("split:pictures", parameters, Place(Store.default()))


@cache
def opened(scenario: str) -> tuple[list[Task], Exam]:
    """Its tasks and exam under seed 0."""
    tasks, exam = stream(scenario).open(0)
    return list(tasks), exam


@cache
def backbone(name: str) -> Backbone:
    """The network before any method; without a store, so that every feature is computed."""
    return open_backbone(name, numerics=Numerics())


@lru_cache(maxsize=2)  # each holds a network and all that was seen of it
def subject(case: Case) -> Subject:
    """What promises are tried on."""
    parts = backbone(case.backbone), stream(case.scenario), str(case), case.forgets_nothing
    return Subject(case.method, case.cls, case.config, *parts)


def make(case: Case, **context: int) -> Method:
    """A fresh instance, with all image tables at hand."""
    return subject(case).make(**context)


def restored(case: Case, state: bytes, **context: int) -> Method:
    """A fresh instance that restored `state`."""
    return subject(case).restored(state, **context)


def all_logits(case: Case, method: Method) -> dict[int, Tensor]:
    """Logits of the test images of every task that the method can predict now."""
    return subject(case).logits(method)


def environment() -> dict[str, str]:
    """For a process that imports this file."""
    return os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
