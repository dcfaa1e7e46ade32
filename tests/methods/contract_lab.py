"""A small stream in memory on which every method is put through the continual protocol.

Six classes of 32x32 images that can be told apart, 12 training images each (one of them val) and 5 to
test, in three tasks.
"""

from __future__ import annotations

import dataclasses
import os
import types
from dataclasses import dataclass
from functools import cache
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
from carryover.check import promises
from carryover.check.subject import Subject
from carryover.plugins.catalogue import method_class, methods
from methods.base import Method, ParameterEfficient

BACKBONES = ("tiny_vit", "tiny_swin", "tiny_convnet", "tiny_external_attention")
SCENARIOS = ("task", "class", "domain")
CLASSES, TRAIN, TEST = 6, 12, 5
PROMISES = {promise.name: promise for promise in promises.PROMISES}

# Short training for whoever has these options.
QUICK = {"epochs": 2, "batch_size": 16, "min_steps": 0, "head_lr": 0.02}
# What a method needs to do something in so few steps: MEAT's bits flip once the rates sum to gamma.
# CrossTransformers are meta-trained on a pool, and there is none here: the head is the untrained one.
LIVELY: dict[str, dict[str, object]] = {"meat": {"lr": 4.0}, "crosstransformer": {"head": "random"}}
# Those that leave the network as it is and keep for each task what it needs.
FROZEN = ("ncm", "linear_probe", "protonet", "knn", "finetune_head", "crosstransformer")
# Options that change what is stored or how it is predicted.
VARIANTS = (
    ("meat", "task", {"ffn": "neuron", "self_loop": "true"}),
    ("meat", "task", {"ffn": "none", "evaluation": "dense", "blocks": "1"}),
    ("linear_probe", "task", {"solver": "exact"}),
    ("linear_probe", "class", {"solver": "exact"}),
    ("ncm", "class", {"metric": "cosine"}),
    ("joint", "class", {"probe": "true"}),
    ("knn", "class", {"k": "3", "metric": "euclidean"}),
    ("finetune_head", "class", {"head": "cosine", "optimizer": "sgd", "batch_size": "8"}),
    ("crosstransformer", "class", {"norm": "l2", "scale": "true"}),
    ("full_finetune", "class", {"backbone_lr_scale": "0.1", "label_smoothing": "0.1"}),
    ("lora", "task", {"per_task": "false", "dropout": "0.1"}),
    ("lora", "class", {"per_task": "true"}),
    ("adapter", "task", {"placement": "houlsby"}),
)


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
        quick = {name: value for name, value in QUICK.items() if name in known}
        values = quick | LIVELY.get(self.method, {}) | dict(self.options)
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
        stores = stores or self.method in FROZEN
        return stores and self.scenario == "task"


@cache
def _refusal(case: Case) -> str | None:
    return case.cls.supports(case.config, stream(case.scenario).info, _described(case.backbone))


@cache
def _described(backbone: str) -> BackboneInfo:
    return describe(backbone)


@cache
def found(name: str) -> type[Method]:
    """The class of a method."""
    return method_class(name)[1]


def all_cases() -> list[Case]:
    """Every method that is found, on every family and in every scenario; the variants on a ViT.

    Those that insert something into a frozen network share all but that: on the other families they are
    tried where the task is known, and of the `peft` library's tuners, which share the rest as well, all
    but LoRA there and on a ViT alone. `core` says which of them are quick tests.
    """
    plain = [Case(m, b, s) for m in methods() for b in BACKBONES for s in SCENARIOS if tried(m, b, s)]
    return plain + [Case(m, "tiny_vit", s, tuple(o.items())) for m, s, o in VARIANTS]


def tried(method: str, backbone: str, scenario: str) -> bool:
    """Whether a method is put through the protocol there, or others of its kind stand for it."""
    if not issubclass(found(method), ParameterEfficient) or (backbone, scenario) == ("tiny_vit", "task"):
        return True
    if method != "lora" and found(method).__module__.startswith("methods.peft_"):
        return False
    return backbone == "tiny_vit" or scenario == "task"


# The other families and scenarios are tried with these; with all the rest they are slow tests.
EVERYWHERE = ("full_finetune", "linear_probe", "meat", "toast")
ON_EVERY_FAMILY = (*EVERYWHERE, "adapter", "bitfit", "crosstransformer", "lora", "vpt_deep")
OF_THE_LIBRARY = ("lora", "adalora", "ia3", "vera")


def core(case: Case) -> bool:
    """Whether a case belongs to the quick tests: every method at least once, on a ViT with the task known."""
    if case.options:
        return True
    library = found(case.method).__module__.startswith("methods.peft_")
    if library and case.method not in OF_THE_LIBRARY:
        return False
    if case.scenario == "task":
        return case.backbone == "tiny_vit" or case.method in ON_EVERY_FAMILY
    return case.backbone == "tiny_vit" or (case.method in EVERYWHERE and case.scenario == "class")


def _source() -> SourceData:
    rng = np.random.default_rng(7)

    def part(each: int, content: str) -> Labelled:
        labels = np.tile(np.arange(CLASSES), each)
        table = rng.integers(0, 90, (len(labels), 32, 32, 3))
        for image, label in zip(table, labels, strict=True):
            row, column = divmod(int(label), 3)
            image[16 * row : 16 * row + 16, 10 * column : 10 * column + 10, label % 3] += 150
        inputs = Inputs([Chunk(table.astype(np.uint8), np.arange(len(labels)), content)])
        return Labelled(inputs, labels, tuple("abcdef"))

    return SourceData(part(TRAIN, "train"), part(TEST, "test"), tuple("abcdef"), "pictures", "as stored")


@cache
def stream(scenario: str) -> SplitStream:
    """The stream in a scenario."""
    loaded = types.SimpleNamespace(load=lambda *_, **__: _source())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "open_source", lambda name: loaded)
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


@cache
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
