"""A pool in memory to meta-train on, and episodes of it, for the tests of episodic methods."""

from __future__ import annotations

import numpy as np
import torch

from backbones.backbone import Backbone, open_backbone
from backbones.numerics import Numerics
from backbones.training import Journal, NoJournal
from benchmarks.images import Chunk, Inputs, Labelled
from benchmarks.progress import Silent
from benchmarks.seeds import Seeds, generator
from benchmarks.store import Store
from benchmarks.stream import Episode, Pool, StreamInfo, Task
from methods.base import Context

EACH, SIDE, WAY, QUERIES = 8, 32, 3, 2


class SmallPool(Pool):
    """Classes of a colour and a place each, under noise, in two tables; episodes of 3 classes.

    A class has 2 to 4 support images and 2 queries.
    """

    def __init__(self, classes: int = 6, validation: Pool | None = None, content: str = "pool") -> None:
        rng = np.random.default_rng(classes)
        labels = np.repeat(np.arange(classes), EACH)
        table = rng.integers(0, 90, (len(labels), SIDE, SIDE, 3))
        for image, label in zip(table, labels, strict=True):
            row, column = divmod(int(label), 3)
            image[8 * row : 8 * row + 12, 10 * column : 10 * column + 10, label % 3] += 150
        table = table.astype(np.uint8)
        half = len(labels) // 2
        chunks = [
            Chunk(table[:half], np.arange(half), f"{content} a"),
            Chunk(table[half:], np.arange(len(labels) - half)[::-1].copy(), f"{content} b"),
        ]
        labels = np.concatenate([labels[:half], labels[half:][::-1]])
        self.images = Labelled(Inputs(chunks), labels, tuple(f"class {c}" for c in range(classes)))
        self.validation = validation

    @property
    def fingerprint(self) -> str:
        return self.images.fingerprint

    def episode(self, seed: int, number: int) -> Episode:
        rng = generator("episode of the tests", seed, number)
        classes = rng.permutation(len(self.images.class_names))[:WAY]
        names = tuple(self.images.class_names[c] for c in classes)
        parts: tuple[list[int], ...] = ([], [], [], [])
        for label, cls in enumerate(classes):
            rows = rng.permutation(np.flatnonzero(self.images.labels == cls))
            shots = int(rng.integers(2, 5))
            for rows_of, images, labels in (
                (rows[:shots], parts[0], parts[1]),
                (rows[shots : shots + QUERIES], parts[2], parts[3]),
            ):
                images += rows_of.tolist()
                labels += [label] * len(rows_of)
        support, support_labels, query, query_labels = (np.array(part) for part in parts)
        inputs = self.images.inputs
        return Episode(
            Labelled(inputs.select(support), support_labels, names),
            Labelled(inputs.select(query), query_labels, names),
        )


def network(name: str = "tiny_vit", store: Store | None = None) -> Backbone:
    """Random weights, in float32 on one thread."""
    return open_backbone(name, store=store, numerics=Numerics())


def context(classes: int = WAY, journal: Journal | None = None, seed: int = 0) -> Context:
    """What a method is told of a single episode: one task."""
    info = StreamInfo(
        name="episodes",
        protocol="few_shot",
        scenario="task",
        classes=(tuple(range(classes)),),
        class_names=tuple(f"class {c}" for c in range(classes)),
        order=None,
        data="data",
        rule="drawn",
        image_size=(SIDE, SIDE),
        sizes=((0, 0, 0),),
        episodes=1,
    )
    return Context(info, Seeds("episodes", seed, "method"), Silent(), journal or NoJournal())


def task_of(episode: Episode) -> Task:
    """The support as the task that a method learns."""
    support = episode.support
    nothing = support.select(np.arange(0))
    return Task(0, support, nothing, tuple(range(len(support.class_names))))


class Kept:
    """A journal in memory that is always due; with `stop`, the save of that number kills the run."""

    def __init__(self, stop: int = 0) -> None:
        self.saved: dict[str, dict[str, torch.Tensor]] = {}
        self.saves, self.stop = 0, stop

    def load(self, stage: str) -> dict[str, torch.Tensor] | None:
        return self.saved.get(stage)

    def due(self) -> bool:
        return True

    def save(self, stage: str, tensors: dict[str, torch.Tensor]) -> None:
        self.saved[stage] = {name: tensor.clone() for name, tensor in tensors.items()}
        self.saves += 1
        if self.saves == self.stop:
            raise KeyboardInterrupt
