"""Joint training: at each task the network starts over and trains on all data so far.

The upper bound of a continual stream, not a continual method: it keeps every training image, and
says so (`exemplars`).

Stored: the network (with probe=true only the heads) and all training images seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from backbones.backbone import Backbone, BackboneInfo
from benchmarks.images import Labelled
from benchmarks.stream import StreamInfo, Task
from methods.base import Footprint, GradientMethod, Heads


class Joint(GradientMethod):
    name = "joint"
    reference = True
    starts_over: ClassVar[bool] = True  # so that a budget counts all data so far, at each task

    @dataclass(frozen=True)
    class Config(GradientMethod.Config):
        """
        probe: train the heads alone on the frozen network (a joint linear probe)
        """

        epochs: int = 2
        lr: float = 5e-4
        probe: bool = False
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"lr": (1e-4, 5e-4)}

    config: Config

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if info.protocol != "continual":
            return "a task that stands alone has no earlier ones to be joined with"
        return None

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze(except_=lambda name: not self.config.probe)
        self._start = {name: tensor.detach().clone() for name, tensor in self.backbone.changing().items()}
        self._data: dict[int, Labelled] = {}

    def begin(self, task: Task) -> None:
        """Start over: the plain network and fresh heads."""
        self.unpack(self._start)
        self.heads = Heads(self.context.info, self.backbone.info.width, self.context.seeds)
        self._data[task.id] = task.train

    def parts(self, task: Task) -> list[tuple[int, Labelled]]:
        return list(self._data.items())

    def state(self) -> dict[str, Tensor]:
        """The exemplars are stored as references: table, rows and labels; `footprint` counts the images."""
        stored = super().state()
        for task_id, data in self._data.items():
            stored[f"data.{task_id}.labels"] = torch.from_numpy(data.labels)
            for number, chunk in enumerate(data.inputs.chunks):
                content = torch.frombuffer(bytearray(chunk.content.encode()), dtype=torch.uint8)
                stored[f"data.{task_id}.{number}.content"] = content
                stored[f"data.{task_id}.{number}.rows"] = torch.from_numpy(chunk.rows)
        return stored

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self._data = {}
        for task_id in self.learnt:
            chunks: list[tuple[str, np.ndarray]] = []
            while (key := f"data.{task_id}.{len(chunks)}") + ".rows" in state:
                content = bytes(state[f"{key}.content"].numpy()).decode()
                chunks.append((content, state[f"{key}.rows"].numpy()))
            names = tuple(self.context.info.class_names[c] for c in self.context.info.classes[task_id])
            labels = state[f"data.{task_id}.labels"].numpy()
            self._data[task_id] = Labelled(self.context.recall(chunks), labels, names)

    def footprint(self) -> Footprint:
        base = super().footprint()
        head = sum(p.numel() for p in self.heads.trained_on(self.learnt).parameters())
        images = sum(len(data) for data in self._data.values())
        height, width = self.context.info.image_size
        kept = sum(t.numel() * t.element_size() * 8 for n, t in super().state().items() if n != "learnt")
        return Footprint(base.trainable, head, kept + images * height * width * 24, images)
