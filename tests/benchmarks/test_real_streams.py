"""Streams of the field on the data sets themselves, where CARRYOVER_DATA has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.naming import parse, typed
from benchmarks.store import Store
from benchmarks.stream import Place, StreamInfo
from benchmarks.streams.split import SplitStream


def info_of(name: str, needs: str) -> StreamInfo:
    root = os.environ.get("CARRYOVER_DATA")
    if root is None or not Path(root, needs).exists():
        pytest.skip(f"needs {needs}/ in the folder that CARRYOVER_DATA names")
    bare, parameters = parse(name)
    chosen = typed(bare, "parameter", SplitStream.Parameters, parameters)
    return SplitStream(bare, chosen, Place(Store.default())).info


@pytest.mark.slow
def test_cifar100_in_the_ways_of_the_field() -> None:
    half = info_of("split-cifar100?init=50&inc=10&scenario=class&val=0", "cifar100")
    assert [size[0] for size in half.sizes] == [25_000] + [5_000] * 5
    assert [size[2] for size in half.sizes] == [5_000] + [1_000] * 5
    assert half.order is not None
    assert half.order.hash == "997a048a5344"
    assert half.classes[0][:4] == (68, 56, 78, 8)
    few = info_of("split-cifar100?init=60&inc=5&shots=5&scenario=class&val=0", "cifar100")
    assert [size[0] for size in few.sizes] == [30_000] + [25] * 8
    tail = info_of("split-cifar100?inc=10&imbalance=0.01&scenario=class&val=0", "cifar100")
    assert sum(size[0] for size in tail.sizes) == 10_847


@pytest.mark.slow
def test_the_subset_of_tiny_imagenet_in_unequal_tasks() -> None:
    first = info_of("split-imagenet-subset?init=20&inc=10&scenario=class", "tiny-imagenet/subset")
    assert list(map(len, first.classes)) == [20, 10, 10, 10]
    assert first.order is not None
    assert first.order.hash == "572bc9955e29"
    rest = info_of("split-imagenet-subset?inc=7&scenario=class", "tiny-imagenet/subset")
    assert list(map(len, rest.classes)) == [7] * 7 + [1]
    assert rest.notes[0].startswith("50 classes in 8 tasks: 7 of 7, then 1 of 1; ")
    assert np.array_equal(np.concatenate(rest.classes), np.concatenate(first.classes))
