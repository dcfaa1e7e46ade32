"""`ParameterEfficient`: methods that insert something small into a frozen network.

With one module per task nothing is forgotten, and each task stores its module and head. With one module for
all tasks, it is trained further on every task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from backbones.backbone import Backbone, BackboneInfo
from backbones.capabilities import CAPABILITIES, Capability
from benchmarks.stream import StreamInfo
from methods.base.gradient import GradientMethod
from methods.base.method import Context


class ParameterEfficient(GradientMethod):
    """Its `Config` decides whether a module is kept for each task.

    needs: the capabilities (see `backbones.capabilities`) without which it refuses a network, by name.
    """

    needs: ClassVar[tuple[Capability, ...]] = ()

    @dataclass(frozen=True)
    class Config(GradientMethod.Config):
        """
        per_task: train and keep a module for each task (true), or one for all tasks (false); by default
            true if the task of a test image is known
        """

        per_task: bool | None = None

    config: Config

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if config.per_task and info.scenario != "task":
            return (
                f"per_task=true has to know the task of a test image, and the stream is {info.scenario}-"
                "incremental; leave per_task out, or take a task-incremental stream"
            )
        if getattr(config, "rank", 1) < 1:
            return f"a rank is at least 1, and rank={config.rank}; raise it"
        for capability in cls.needs_of(config):
            if refusal := missing(cls.name, capability, backbone):
                return refusal
        return super().supports(config, info, backbone)

    @classmethod
    def needs_of(cls, config: Any) -> tuple[Capability, ...]:
        """The capabilities that it needs with these options; `needs` by default."""
        return cls.needs

    def __init__(self, config: Config, backbone: Backbone, context: Context) -> None:
        said = config.per_task
        self.per_task = context.info.scenario == "task" if said is None else said
        super().__init__(config, backbone, context)


def missing(name: str, capability: Capability, backbone: BackboneInfo) -> str | None:
    """The refusal of the method `name` where a backbone lacks a capability; None where it has it."""
    reason = backbone.missing(capability)
    if reason is None:
        return None
    needed = CAPABILITIES[capability]
    return f"{name} needs {needed}, and {backbone.name} lacks that: {reason}; take another backbone"


def insert(
    module: nn.Module, name: str, inserted: nn.Module, join: Callable[[nn.Module, Tensor, Tensor], Tensor]
) -> None:
    """`module` returns join(inserted, its input, its output) from now on; `inserted` is its child `name`.

    The names of the network's own tensors stay.
    """
    module.add_module(name, inserted)

    def hook(module: nn.Module, given: tuple[Tensor, ...], returned: Tensor) -> Tensor:
        return join(module.get_submodule(name), given[0], returned)

    module.register_forward_hook(hook)
