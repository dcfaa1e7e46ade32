"""A small stream in memory on which every method is put through the continual protocol.

Six classes of 32x32 images that can be told apart, 12 training images each (one of them val) and 5 to
test, in three tasks.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from backbones import loading
from backbones.backbone import Backbone, describe, open_backbone
from backbones.numerics import Numerics
from benchmarks.images import Chunk, Inputs, Labelled
from benchmarks.naming import typed
from benchmarks.seeds import Seeds
from benchmarks.sources.source import SourceData
from benchmarks.store import Store
from benchmarks.stream import Exam, Place, Task
from benchmarks.streams import split
from benchmarks.streams.split import SplitStream
from carryover.journal import Progress, serialise
from carryover.plugins import method_class, methods
from carryover.protocols import continual
from methods.base import Context, Method, ParameterEfficient

BACKBONES = ("tiny_vit", "tiny_swin", "tiny_convnet", "tiny_external_attention")
SCENARIOS = ("task", "class", "domain")
CLASSES, TRAIN, TEST = 6, 12, 5

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
        return self.cls.supports(self.config, stream(self.scenario).info, describe(self.backbone))

    @property
    def forgets_nothing(self) -> bool:
        """What it claims: with the task known, an old task is predicted with what was stored for it."""
        said = getattr(self.config, "per_task", None)
        stores = getattr(self.cls, "per_task", False) if said is None else said
        stores = stores or (said is None and issubclass(self.cls, ParameterEfficient))
        stores = stores or self.method in FROZEN
        return stores and self.scenario == "task"


@cache
def found(name: str) -> type[Method]:
    """The class of a method."""
    return method_class(name)[1]


def all_cases() -> list[Case]:
    """Every method that is found, on every family and in every scenario; the variants on a ViT.

    Those that insert something into a frozen network share all but that: on the other families they are
    tried where the task is known, and of the `peft` library's tuners, which share the rest as well, all
    but LoRA there and on a ViT alone.
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


def make(case: Case, *, eval_batch: int = 256, workers: int = 0) -> Method:
    """A fresh instance, with all image tables at hand."""
    info = stream(case.scenario).info
    tables: dict[str, Any] = {}
    for task in opened(case.scenario)[0]:
        continual.hand_over(task, tables)
    context = Context(
        info, Seeds(info.identity, 0, case.method), tables=tables, eval_batch=eval_batch, workers=workers
    )
    torch.manual_seed(context.seeds.own("modules"))
    return case.cls(case.config, backbone(case.backbone).copy(), context)


class Watch:
    """A journal that keeps the state after every task, as bytes."""

    def __init__(self) -> None:
        self.states: list[bytes] = []

    def resume(self) -> tuple[Progress, None]:
        return Progress(), None

    def due(self) -> bool:
        return False

    def commit(self, progress: Progress, state: dict[str, Tensor] | None = None) -> None:
        if state is not None:
            self.states.append(serialise(state))


@dataclass(frozen=True)
class Learnt:
    """A method at the end of the stream, the rows, and its state after each task."""

    method: Method
    outcome: continual.Outcome
    states: list[bytes]


def run(case: Case, *, reuse: bool = True, workers: int = 0) -> Learnt:
    """The protocol from its start to its end."""
    tasks, exam = opened(case.scenario)
    method, watch = make(case, workers=workers), Watch()
    outcome = continual.run(
        method,
        stream(case.scenario).info,
        tasks,
        exam,
        journal=watch,  # type: ignore[arg-type]
        progress=method.context.progress,
        tables={},
        reuse=reuse,
    )
    return Learnt(method, outcome, watch.states)


@cache
def learnt(case: Case) -> Learnt:
    """`run`, once for all tests; they leave it as it is."""
    return run(case)


@cache
def again(case: Case) -> Learnt:
    """The same with all that must not matter changed: workers gather each batch, nothing is reused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "SMALL_BATCH", 0)  # or batches this small are never handed to a worker
        return run(case, workers=3, reuse=False)


def restored(case: Case, state: bytes, **context: int) -> Method:
    """A fresh instance that took over `state`."""
    method = make(case, **context)
    method.restore(safetensors.torch.load(state))
    return method


def known(case: Case, task: int) -> int | None:
    """The task id that `predict` is given."""
    return task if case.scenario == "task" else None


def all_logits(case: Case, method: Method) -> dict[int, Tensor]:
    """Logits of the test images of every task that the method can predict now."""
    _, exam = opened(case.scenario)
    tasks = exam.tasks if case.scenario == "domain" else method.learnt
    return {task: method.predict(exam.inputs(task), known(case, task)) for task in tasks}


def reachable(roots: Iterable[object]) -> Iterator[object]:
    """Everything that references lead to; from a function to what it closes over, not to its module."""
    waiting, seen = list(roots), set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, types.ModuleType | type | types.CodeType | types.FrameType):
            continue
        seen.add(id(thing))
        yield thing
        if isinstance(thing, types.FunctionType):
            cells = [cell.cell_contents for cell in thing.__closure__ or () if cell != types.CellType()]
            waiting += [*cells, *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
        else:
            waiting += gc.get_referents(thing)
        if isinstance(thing, np.ndarray) and thing.base is not None:
            waiting.append(thing.base)


def leaks(roots: Iterable[object], exam: Exam, info: Any) -> list[str]:
    """What of the exam `roots` lead to: itself, its answers, or numbers equal to those of a task."""
    answers = {}
    for task in exam.tasks:
        of_task = exam._answers[task]
        answers[f"answers of task {task}"] = of_task
        answers[f"labels of task {task}"] = np.array([info.classes[task].index(c) for c in of_task])
    found = []
    for thing in reachable(roots):
        if thing is exam or thing is exam._answers:
            found.append("the exam")
        if isinstance(thing, Tensor) and not thing.is_floating_point():
            thing = thing.detach().cpu().numpy()
        if isinstance(thing, np.ndarray):
            found += [name for name, those in answers.items() if np.array_equal(thing, those)]
    return found


def environment() -> dict[str, str]:
    """For a process that imports this file."""
    return os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
