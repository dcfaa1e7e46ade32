"""The surroundings of a method under check: global generators, its calls, the loader's workers."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from backbones import loading
from methods.base import Method


@contextlib.contextmanager
def ambient(seed: int) -> Iterator[None]:
    """Put all global generators into a known state, and restore them afterwards."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    scatter(seed)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])


def scatter(seed: int) -> None:
    """Put every global generator into another state."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@contextlib.contextmanager
def around(
    method: Method,
    calls: Sequence[str],
    before: Callable[[], None],
    after: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Call `before` and `after` around each of these calls of an instance."""

    def wrapped(call: Callable[..., object]) -> Callable[..., object]:
        def called(*given: object, **named: object) -> object:
            before()
            try:
                return call(*given, **named)
            finally:
                after()

        return called

    for name in calls:
        setattr(method, name, wrapped(getattr(method, name)))
    try:
        yield
    finally:
        for name in calls:
            delattr(method, name)


@contextlib.contextmanager
def batches_by_workers() -> Iterator[None]:
    """Within the block, workers gather even the smallest batch, if there are any."""
    usual = loading.SMALL_BATCH
    loading.SMALL_BATCH = 0
    try:
        yield
    finally:
        loading.SMALL_BATCH = usual
