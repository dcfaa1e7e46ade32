"""A labelled source in memory, large enough in classes for episodes, and cells over it."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
from tiny_cells import QUICK

from backbones.numerics import Numerics
from benchmarks.images import Chunk, Inputs, Labelled
from benchmarks.progress import Silent
from benchmarks.sources.reading import Reading
from benchmarks.sources.source import SourceData
from benchmarks.store import Store
from benchmarks.stream import Place
from benchmarks.streams import episodes
from carryover.cells.ready import Conditions, ReadyCell, Workshop
from carryover.records.record import Cell

CLASSES, EACH = 30, 9
STREAM = "episodes:blots?episodes=6&way=5&support=12&queries=3"


@cache
def blots(kind: int = 0) -> SourceData:
    """30 classes of 9 training images, each class a colour of its own under noise; one test image each."""
    rng = np.random.default_rng(kind)
    colours = rng.integers(0, 170, (CLASSES, 3))
    names = tuple(f"blot{cls:02}" for cls in range(CLASSES))

    def part(each: int, content: str) -> Labelled:
        labels = np.tile(np.arange(CLASSES), each)
        noise = rng.integers(0, 85, (len(labels), 16, 16, 3))
        table = (noise + colours[labels][:, None, None]).astype(np.uint8)
        return Labelled(Inputs([Chunk(table, np.arange(len(labels)), content)]), labels, names)

    train, test = part(EACH, f"blots {kind}"), part(1, f"test blots {kind}")
    return SourceData(train, test, names, f"blots {kind}", "as stored")


@contextmanager
def sources() -> Iterator[None]:
    """`blots` and `others` are sources to episodes, beside all that there are."""
    found, known = {"blots": 0, "others": 1}, episodes.open_source

    def opened(name: str, reading: Reading) -> object:
        if name in found:
            return types.SimpleNamespace(load=lambda *_, **__: blots(found[name]))
        return known(name, reading)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(episodes, "open_source", opened)
        yield


def ready(
    method: str,
    stream: str = STREAM,
    backbone: str = "tiny_vit",
    seed: int = 0,
    *,
    store: Store | None = None,
    **options: object,
) -> ReadyCell:
    """A cell, its training short wherever a method has such options."""
    from carryover.plugins.catalogue import method_class

    known = method_class(method)[1].Config.__dataclass_fields__
    quick = {name: value for name, value in (QUICK | {"steps": "3"}).items() if name in known}
    typed = quick | {name: str(value) for name, value in options.items()}
    place = Place(store or Store.default(), Silent(), 0)
    with sources():
        workshop = Workshop(place, Conditions(Numerics()))
        return workshop.ready(Cell(method=method, stream=stream, backbone=backbone, seed=seed, options=typed))
