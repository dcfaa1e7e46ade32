"""Batches: the order asked for, and the same pixels whoever gathers them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones import loading
from backbones.loading import Loader, cuts
from benchmarks.images import Chunk, Inputs

TABLE = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
IMAGES = Inputs([Chunk(TABLE, np.arange(20), "a"), Chunk(TABLE, np.arange(29, 15, -1), "b")])


def served(
    workers: int, order: np.ndarray, size: int, device: str = "cpu"
) -> list[tuple[list[int], torch.Tensor]]:
    batches = Loader(IMAGES, device, workers).batches(order, size)
    return [(positions.tolist(), pixels.cpu()) for positions, pixels in batches]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(1, 40), st.lists(st.integers(0, len(IMAGES) - 1), max_size=60))
def test_batches_follow_the_order_with_any_number_of_workers(
    workers: int, size: int, wanted: list[int]
) -> None:
    order = np.asarray(wanted, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "SMALL_BATCH", 0)  # every batch goes through the workers
        batches = served(workers, order, size)
    assert [p for positions, _ in batches for p in positions] == wanted
    assert all(len(positions) == size for positions, _ in batches[:-1])
    for positions, pixels in batches:
        assert pixels.dtype == torch.uint8
        assert np.array_equal(pixels.numpy(), IMAGES.pixels(np.asarray(positions)))


@given(st.integers(0, 90), st.integers(1, 40), st.integers(1, 3))
def test_a_last_batch_that_is_too_small_joins_the_one_before_it(images: int, size: int, least: int) -> None:
    least = min(least, size)
    found = cuts(images, size, least)
    assert [place for start, end in found for place in range(start, end)] == list(range(images))
    assert all(end - start == size for start, end in found[:-1])
    assert all(least <= end - start < size + least for start, end in found[1:])


def test_large_batches_are_gathered_beside_the_work_and_small_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where: list[str] = []
    gather = Loader._gather

    def watched(self: Loader, cut: np.ndarray, pin: bool = False) -> torch.Tensor:
        where.append(threading.current_thread().name)
        return gather(self, cut, pin)

    monkeypatch.setattr(Loader, "_gather", watched)
    served(2, np.arange(30), 10)
    assert set(where) == {threading.current_thread().name}
    where.clear()
    monkeypatch.setattr(loading, "SMALL_BATCH", 0)
    served(2, np.arange(30), 10)
    assert all(name.startswith("gather") for name in where)


def test_a_batch_is_the_callers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = TABLE.copy()
    for _, pixels in Loader(IMAGES, "cpu", 0).batches(np.arange(len(IMAGES)), 7):
        pixels.zero_()
    assert np.array_equal(TABLE, before)


def test_whoever_stops_early_leaves_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SMALL_BATCH", 0)
    batches = Loader(IMAGES, "cpu", 2).batches(np.arange(30), 5)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gather")]


def test_a_file_that_cannot_be_read_is_an_error_and_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Loader, cut: np.ndarray, pin: bool = False) -> torch.Tensor:
        raise OSError("the disk is gone")

    monkeypatch.setattr(loading, "SMALL_BATCH", 0)
    monkeypatch.setattr(Loader, "_gather", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        served(2, np.arange(30), 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("share", [loading.RESIDENT_SHARE, 0.0])
def test_a_gpu_sees_the_same_pixels_resident_or_streamed(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "RESIDENT_SHARE", share)
    monkeypatch.setattr(loading, "SMALL_BATCH", 0)
    order = np.random.default_rng(1).permutation(len(IMAGES))
    for (positions, here), (others, there) in zip(
        served(0, order, 9), served(2, order, 9, "cuda"), strict=True
    ):
        assert positions == others
        assert torch.equal(here, there)
