"""What is measured on: pictures in memory, a task of them, and methods made as the harness makes them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from backbones.backbone import Backbone
from benchmarks.images import Chunk, Inputs, Labelled, Pixels
from benchmarks.seeds import Seeds
from benchmarks.stream import StreamInfo, Task
from carryover.commands.screen import shown
from carryover.protocols.journal import CellJournal
from methods.base import Context, Method

NETWORK = "vit_tiny_patch16_224?img_size=64&patch_size=8&depth=6&weights=random"
TINY = "tiny_vit"
CLASSES = 10
SIDE = 32  # pixels
BATCH = 64
EVAL_BATCH = 256

M = TypeVar("M", bound=Method)


@dataclass(frozen=True)
class Setup:
    """How to measure: the network of issue 3, the number of pairs, a folder to work in.

    quick: fewer pairs on fewer images, to see whether everything runs; its ratios say little.
    """

    backbone: Backbone
    tiny: Backbone
    scratch: Path
    quick: bool

    @property
    def pairs(self) -> int:
        return 3 if self.quick else 9

    @property
    def device(self) -> str:
        return self.backbone.numerics.device

    def network(self, backbone: Backbone) -> str:
        """The network in words, with what it sees."""
        height, width = backbone.info.input_size
        name = backbone.name if backbone is self.tiny else "ViT 192x6, patch 8"
        return f"{name}, {SIDE} px uint8 to {height}x{width}"


def pictures(images: int, seed: int = 0) -> Labelled:
    """Images (SIDE, SIDE) of CLASSES classes: a coarse pattern each, under noise drawn from `seed`."""
    coarse = np.random.default_rng(0).integers(40, 216, (CLASSES, 4, 4, 3))
    patterns = coarse.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    labels = np.arange(images) % CLASSES
    noise = np.random.default_rng([seed, 1]).normal(0.0, 60.0, (images, SIDE, SIDE, 3))
    table: Pixels = (patterns[labels] + noise).clip(0, 255).astype(np.uint8)
    names = tuple(f"class {c}" for c in range(CLASSES))
    return Labelled(Inputs([Chunk(table, np.arange(images), f"pictures {images} {seed}")]), labels, names)


def one_task(data: Labelled) -> tuple[StreamInfo, Task]:
    """A task-incremental stream of one task, whose pictures may be mirrored, so that training flips them."""
    classes = tuple(range(CLASSES))
    info = StreamInfo(
        name="pictures",
        protocol="continual",
        scenario="task",
        classes=(classes,),
        class_names=data.class_names,
        order=None,
        data=data.inputs.fingerprint,
        rule="drawn",
        image_size=(SIDE, SIDE),
        sizes=((len(data), CLASSES, 0),),
    )
    return info, Task(0, data, data.select(np.arange(CLASSES)), classes)


def make(cls: type[M], config: Any, backbone: Backbone, info: StreamInfo, journal: Path) -> M:
    """The method on its own copy of the backbone, with a journal on disk and the bars that a user sees."""
    context = Context(
        info=info,
        seeds=Seeds(info.identity, 0, cls.name),
        progress=shown(),
        journal=CellJournal(journal),
        eval_batch=EVAL_BATCH,
    )
    return cls(config, backbone.copy(), context)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def terminal() -> Iterator[None]:
    """Standard error is a terminal that nobody looks at: bars are drawn, and cost what they cost."""
    with redirect_stderr(_Terminal()):
        yield
