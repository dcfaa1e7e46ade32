"""Exemplars: images of earlier tasks that a method keeps, and how it selects, draws and stores them.

An exemplar is a row of its image table, with task and label, so that a state holds numbers and no pixels;
`footprint` counts the pixels, at the stream's resolution. Every random choice is seeded by its purpose and
the number of choices before it, so that a killed run continues with the same exemplars.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.images import Indices, Inputs, Labelled
from benchmarks.seeds import generator
from methods.base.method import Context

Retention = Literal["all", "reservoir", "class_balanced"]
Item = tuple[int, int, int, int]  # table, row in it, task, label within the task


class Memory:
    """A memory of at most `capacity` images; None: any number.

    rule: "all" offered images; "reservoir" (Vitter, 1985), which keeps every offered image with the same
    probability; "class_balanced", in which every class has an equal share (the first ones one more), filled
    by a reservoir of its own, and drops its last images when new classes come.
    """

    def __init__(self, context: Context, capacity: int | None, rule: Retention = "reservoir") -> None:
        self.context = context
        self.capacity = capacity
        self.rule = rule
        self._tables: list[str] = []  # content fingerprints
        # By class for the balanced rule, else all under 0; `_offered` counts what ever came.
        self._kept: dict[int, list[Item]] = {}
        self._offered: dict[int, int] = {}
        self._drawn = 0

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    @property
    def tasks(self) -> list[int]:
        """The tasks with exemplars, in order."""
        return sorted({task for _, _, task, _ in self._items()})

    @property
    def bits(self) -> int:
        """The bits of the images, 24 per pixel; rows and labels do not count."""
        height, width = self.context.info.image_size
        return len(self) * height * width * 24

    def offer(self, task: int, data: Labelled, order: Indices | None = None) -> None:
        """Offer the images of `data` at `order` (all by default), one after another."""
        items = self._items_of(task, data)
        for position in range(len(items)) if order is None else order.tolist():
            item = items[position]
            key = self._class_of(item) if self.rule == "class_balanced" else 0
            number = self._offered.get(key, 0)
            self._offered[key] = number + 1
            if number == 0:
                self._kept[key] = []
                self._shrink()
            kept, share = self._kept[key], self._share(key)
            if share is None or len(kept) < share:
                kept.append(item)
            elif share:
                slot = int(generator("memory offer", self._seed, key, number).integers(number + 1))
                if slot < share:
                    kept[slot] = item

    def draw(self, count: int) -> tuple[Inputs, Indices] | None:
        """Up to `count` different images, and (n, 2) their tasks and labels; None if the memory is empty."""
        self._drawn += 1
        items = self._items()
        count = min(count, len(items))
        if count == 0:
            return None
        rng = generator("memory draw", self._seed, self._drawn)
        return self._images([items[place] for place in rng.choice(len(items), count, replace=False)])

    def parts(self) -> list[tuple[int, Labelled]]:
        """All exemplars, task by task."""
        found = []
        for task in self.tasks:
            inputs, targets = self._images([item for item in self._items() if item[2] == task])
            names = tuple(self.context.info.class_names[cls] for cls in self.context.info.classes[task])
            found.append((task, Labelled(inputs, targets[:, 1], names)))
        return found

    def state(self) -> dict[str, Tensor]:
        """Rows and counters, whose shapes grow; no pixels."""
        contents = "\n".join(self._tables).encode()
        return {
            "tables": torch.frombuffer(bytearray(contents or b"\n"), dtype=torch.uint8),
            "items": torch.tensor(self._items(), dtype=torch.int64).reshape(-1, 4),
            "offered": torch.tensor(list(self._offered.items()), dtype=torch.int64).reshape(-1, 2),
            "drawn": torch.tensor(self._drawn),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore a `state()`."""
        self._tables = [*filter(None, bytes(state["tables"].cpu().numpy()).decode().split("\n"))]
        self._offered = {int(key): int(count) for key, count in state["offered"].tolist()}
        self._drawn = int(state["drawn"])
        self._kept = {key: [] for key in self._offered}
        for table, row, task, label in state["items"].tolist():
            item = table, row, task, label
            self._kept[self._class_of(item) if self.rule == "class_balanced" else 0].append(item)

    @property
    def _seed(self) -> int:
        return self.context.seeds.own("memory")

    def _items(self) -> list[Item]:
        return [item for kept in self._kept.values() for item in kept]

    def _items_of(self, task: int, data: Labelled) -> list[Item]:
        found: list[Item] = []
        for chunk in data.inputs.chunks:
            if chunk.content not in self._tables:
                self._tables.append(chunk.content)
            table = self._tables.index(chunk.content)
            labels = data.labels[len(found) : len(found) + len(chunk.rows)].tolist()
            found += [
                (table, row, task, label) for row, label in zip(chunk.rows.tolist(), labels, strict=True)
            ]
        return found

    def _class_of(self, item: Item) -> int:
        return self.context.info.classes[item[2]][item[3]]

    def _share(self, key: int) -> int | None:
        """How many images of a class are kept: equal shares, the remainder to the first seen."""
        if self.capacity is None or self.rule == "all":
            return self.capacity
        classes = list(self._kept)
        return self.capacity // len(classes) + (classes.index(key) < self.capacity % len(classes))

    def _shrink(self) -> None:
        """Let every class give up its last images beyond its share."""
        for key, kept in self._kept.items():
            share = self._share(key)
            if share is not None:
                del kept[share:]

    def _images(self, items: Sequence[Item]) -> tuple[Inputs, Indices]:
        """Images in the order of `items`, and (n, 2) their tasks and labels."""
        runs = [
            (self._tables[table], np.array([row for _, row, _, _ in run], dtype=np.int64))
            for table, group in groupby(items, key=itemgetter(0))
            if (run := list(group))
        ]
        return self.context.recall(runs), np.array([item[2:] for item in items], dtype=np.int64)
