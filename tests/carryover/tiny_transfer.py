"""A transfer stream in memory, and a method that does as well as its options say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from backbones.backbone import open_backbone
from backbones.numerics import Numerics
from backbones.training import TrainingError
from benchmarks.images import Chunk, Inputs, Labelled
from benchmarks.naming import typed
from benchmarks.store import Store
from benchmarks.stream import Episode, Exam, Pool, Stream, StreamInfo, Task
from carryover.cells.ready import Conditions, ReadyCell, config_dict
from carryover.plugins.catalogue import method_class
from carryover.plugins.plugin import Plugin
from carryover.records.record import Cell
from methods.base import Footprint, Method

TASKS = ("fur", "bark", "dots")
GROUPS = ("natural", "natural", "drawn")
CLASSES = (2, 3, 2)
SIZES = (24, 12, 20)  # train, val and test images


class Watched(Exam):
    """Tells what is asked of it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[tuple[str, int]] = []

    def inputs(self, task: int) -> Inputs:
        found = super().inputs(task)
        self.asked.append(("inputs", task))
        return found

    def score(self, task: int, predicted: np.ndarray) -> np.ndarray:
        found = super().score(task, predicted)
        self.asked.append(("score", task))
        return found


class TinyTransfer(Stream):
    """Three tasks whose images show their label in the first pixel; `exams` are those that were opened."""

    catalogue: ClassVar[Mapping[str, str]] = {}

    def __init__(self, val: int = SIZES[1], pixels: int = 8, selection: str = "") -> None:
        self.exams: list[Watched] = []
        self.parts = [
            [
                _part(f"{name} {part}", count, classes, pixels)
                for part, count in zip("abc", counts, strict=True)
            ]
            for name, classes, counts in zip(TASKS, CLASSES, [(SIZES[0], val, SIZES[2])] * 3, strict=True)
        ]
        starts = np.cumsum([0, *CLASSES])
        self._info = StreamInfo(
            name="tiny-transfer",
            protocol="transfer",
            scenario="task",
            classes=tuple(tuple(range(a, a + n)) for a, n in zip(starts, CLASSES, strict=False)),
            class_names=tuple(name for parts in self.parts for name in parts[0].class_names),
            order=None,
            data=f"{val} {pixels}",
            rule="made up",
            image_size=(pixels, pixels),
            sizes=((SIZES[0], val, SIZES[2]),) * 3,
            task_names=TASKS,
            groups=GROUPS,
            selection=selection,
        )

    @property
    def info(self) -> StreamInfo:
        return self._info

    def open(self, seed: int) -> tuple[Sequence[Task], Exam]:
        classes = dict(enumerate(self.info.classes))
        tasks = [Task(i, train, val, classes[i]) for i, (train, val, _) in enumerate(self.parts)]
        self.exams.append(Watched({i: parts[2] for i, parts in enumerate(self.parts)}, classes))
        return tasks, self.exams[-1]


def _part(name: str, count: int, classes: int, pixels: int) -> Labelled:
    labels = np.arange(count) % classes
    noise = np.random.default_rng(len(name) + count).integers(0, 200, (count, pixels, pixels, 3))
    noise[:, : pixels // 2, : pixels // 2] = 100 * labels[:, None, None, None]
    table = noise.astype(np.uint8)
    names = tuple(f"{name.split()[0]} {label}" for label in range(classes))
    return Labelled(Inputs([Chunk(table, np.arange(count), name)]), labels, names)


@dataclass(frozen=True)
class Learnt:
    """What a `Dial` was taught with; seed: of a draw that all methods share."""

    images: int
    lr: float
    epochs: int
    seed: int
    classes: tuple[int, ...]


class Dial(Method):
    """Reads the label off the image and is right as often as `right` has it for its learning rate.

    NaN there: its loss diverges; passes: image passes for each image and epoch; `learnt` of the class: all
    that was taught since a test began; meddle: called when it learns.
    """

    name = "dial"
    right: ClassVar[Mapping[float, float]] = {}
    passes_each: ClassVar[Mapping[float, int]] = {}
    lessons: ClassVar[list[Learnt]] = []
    meddle: ClassVar[Any] = None

    @dataclass(frozen=True)
    class Config(Method.Config):
        lr: float = 0.5
        epochs: int = 30
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"lr": (0.3, 0.2, 0.1)}

    def learn(self, task: Task) -> None:
        config = self.config
        if type(self).meddle is not None:
            type(self).meddle(self, task)
        drawn = self.context.seeds.shared("order")
        self.lessons.append(Learnt(len(task.train), config.lr, config.epochs, drawn, task.classes))
        if np.isnan(self.right.get(config.lr, 1.0)):
            raise TrainingError("the loss became nan at step 1 of task 0")
        self.passes = self.passes_each.get(config.lr, 1) * config.epochs * len(task.train)
        self.learnt.append(task.id)

    def predict(self, inputs: Inputs, task_id: int | None) -> torch.Tensor:
        truth = inputs.pixels()[:, 0, 0, 0].astype(np.int64) // 100
        # The last rows of each table, wherever they come: each image is scored by itself.
        whole = np.concatenate([np.full(len(c.rows), len(c.table)) for c in inputs.chunks])
        wrong = inputs.ids >= np.round(self.right.get(self.config.lr, 1.0) * whole)
        answers = (truth + wrong) % len(self.context.info.classes[0])
        return torch.nn.functional.one_hot(
            torch.from_numpy(answers), len(self.context.info.classes[0])
        ).float()

    def state(self) -> dict[str, torch.Tensor]:
        return {"learnt": torch.tensor(self.learnt), "lr": torch.tensor(self.config.lr)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.learnt = state["learnt"].tolist()

    def footprint(self) -> Footprint:
        return Footprint(trainable=5, head=len(self.context.info.classes[0]), stored_bits=160)


class TinyEpisodes(Stream):
    """Two episodes of three classes over one source, and a pool whose validation classes make more."""

    catalogue: ClassVar[Mapping[str, str]] = {}

    def __init__(self) -> None:
        self._pool = TinyPool()
        self._pool.validation = TinyPool()
        self._info = StreamInfo(
            name="tiny-episodes",
            protocol="few_shot",
            scenario="task",
            classes=((0, 1, 2),),
            class_names=("a", "b", "c"),
            order=None,
            data="data",
            rule="made up",
            image_size=(8, 8),
            sizes=((6, 0, 9),),
            task_names=("source",),
            episodes=2,
        )

    @property
    def info(self) -> StreamInfo:
        return self._info

    @property
    def pool(self) -> Pool:
        return self._pool

    def open(self, seed: int) -> tuple[Sequence[Task], Exam]:
        classes = (0, 1, 2)
        parts = [self._pool.episode(seed + 100, number) for number in range(2)]
        tasks = [
            Task(number, part.support, part.support.select(np.arange(0)), classes)
            for number, part in enumerate(parts)
        ]
        return tasks, Exam({i: part.query for i, part in enumerate(parts)}, dict.fromkeys(range(2), classes))


class TinyPool(Pool):
    fingerprint = "tiny"

    def __init__(self) -> None:
        self.drawn: list[int] = []
        self.images = _part("pool images", 9, 3, 8)

    def episode(self, seed: int, number: int) -> Episode:
        self.drawn.append(number)
        return Episode(_part(f"e{number} s", 6, 3, 8), _part(f"e{number} q", 9, 3, 8))


def cell_of(
    stream: Stream,
    method: str = "dial",
    seed: int = 0,
    options: dict[str, str] | None = None,
    **conditions: Any,
) -> ReadyCell:
    """A cell on `stream`, of `Dial` unless another method is named."""
    dial = Plugin("dial", "", "tests", __name__, "Dial")
    plugin, found = (dial, Dial) if method == "dial" else method_class(method)
    config = typed(method, "option", found.Config, options or {})
    named = {name: config_dict(config)[name] for name in options or {}}
    cell = Cell(method=method, stream=stream.info.name, backbone="tiny_vit", seed=seed, options=named)
    backbone = open_backbone("tiny_vit", store=Store.default(), numerics=Numerics())
    here = Plugin(stream.info.name, "", "tests", __name__, type(stream).__name__)
    settings = Conditions(Numerics(), **conditions)
    return ReadyCell(
        cell, found, config, stream, backbone, settings, {"method": plugin, "stream": here}, None
    )
