"""Joint training: at each task the network starts over and trains on all data so far.

The upper bound of a continual stream, not a continual method: it keeps every training image, which
`exemplars` counts.

Stored: the network (with probe=true only the heads) and all training images seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from backbones.backbone import Backbone, BackboneInfo
from benchmarks.stream import StreamInfo, Task
from methods.base import GradientMethod, Memory
from methods.base.step import Parts


class Joint(GradientMethod):
    name = "joint"
    reference = True

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
        if not info.in_sequence:
            return "a task that stands alone has no earlier ones to be joined with"
        return super().supports(config, info, backbone)

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze(except_=lambda name: not self.config.probe)
        self._start = {name: tensor.detach().clone() for name, tensor in self.backbone.changing().items()}
        self.memory = Memory(self.context, None, "all")

    def begin(self, task: Task) -> None:
        """Start over: the plain network and fresh heads."""
        self.unpack(self._start)
        self.heads = self.fresh_heads()
        assert self.memory is not None
        self.memory.offer(task.id, task.train)

    def parts(self, task: Task) -> Parts:
        assert self.memory is not None
        return self.memory.parts()
