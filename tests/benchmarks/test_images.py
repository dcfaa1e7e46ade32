"""Images as rows of tables: selecting and joining never change a pixel and never read one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.images import Chunk, Inputs, Labelled

TABLES = [np.random.default_rng(number).integers(0, 256, (9, 2, 3, 3), dtype=np.uint8) for number in range(3)]


@st.composite
def inputs(draw: st.DrawFn) -> Inputs:
    """Some rows, repeated ones among them, of one to four chunks of three tables."""
    chunks = []
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, 2))
        rows = draw(st.lists(st.integers(0, 8), max_size=6))
        chunks.append(Chunk(TABLES[number], np.asarray(rows, dtype=np.int64), f"table {number}"))
    return Inputs(chunks)


@st.composite
def chosen(draw: st.DrawFn) -> tuple[Inputs, np.ndarray]:
    images = draw(inputs())
    positions = st.lists(st.integers(0, len(images) - 1), max_size=12) if len(images) else st.just([])
    return images, np.asarray(draw(positions), dtype=np.int64)


@given(chosen())
def test_selecting_is_indexing(case: tuple[Inputs, np.ndarray]) -> None:
    images, positions = case
    picked = images.select(positions)
    assert len(picked) == len(positions)
    assert np.array_equal(picked.pixels(), images.pixels()[positions])
    assert np.array_equal(picked.ids, images.ids[positions])


@given(chosen())
def test_pixels_of_some_are_those_of_all(case: tuple[Inputs, np.ndarray]) -> None:
    images, positions = case
    assert np.array_equal(images.pixels(positions), images.pixels()[positions])
    assert np.array_equal(images.pixels(slice(1, None, 2)), images.pixels()[1::2])


@given(st.lists(inputs(), min_size=1, max_size=3))
def test_joining_is_concatenation(parts: list[Inputs]) -> None:
    joined = Inputs.join(parts)
    assert np.array_equal(joined.pixels(), np.concatenate([part.pixels() for part in parts]))
    assert np.array_equal(joined.ids, np.concatenate([part.ids for part in parts]))


@given(chosen())
def test_a_selection_of_a_selection_is_one_selection(case: tuple[Inputs, np.ndarray]) -> None:
    images, positions = case
    again = np.arange(len(positions))[::-2]
    twice = images.select(positions).select(again)
    assert np.array_equal(twice.pixels(), images.select(positions[again]).pixels())


@given(inputs(), inputs())
def test_equal_fingerprints_mean_equal_images(a: Inputs, b: Inputs) -> None:
    if a.fingerprint == b.fingerprint:
        assert np.array_equal(a.pixels(), b.pixels())


def test_the_fingerprint_knows_order_and_content_and_not_the_place() -> None:
    base = Inputs([Chunk(TABLES[0], np.array([1, 2]), "content")])
    moved = Inputs([Chunk(TABLES[0].copy(), np.array([1, 2], dtype=np.int32), "content")])
    turned = Inputs([Chunk(TABLES[0], np.array([2, 1]), "content")])
    other = Inputs([Chunk(TABLES[0], np.array([1, 2]), "other")])
    assert base.fingerprint == moved.fingerprint
    assert len({base.fingerprint, turned.fingerprint, other.fingerprint}) == 3


def test_selecting_reads_no_pixel(tmp_path) -> None:
    np.save(tmp_path / "table.npy", TABLES[0])
    table = np.load(tmp_path / "table.npy", mmap_mode="r")
    picked = Inputs([Chunk(table, np.arange(9), "content")]).select(np.array([3, 1]))
    assert picked.chunks[0].table is table


def test_chunks_of_two_sizes_are_refused() -> None:
    small = Chunk(np.zeros((1, 2, 2, 3), np.uint8), np.array([0]), "small")
    with pytest.raises(ValueError, match="one image size"):
        Inputs([small, Chunk(TABLES[0], np.array([0]), "large")])


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0], [0], [[0, 1]]])
def test_labels_out_of_range_or_of_another_shape_are_refused(labels: list) -> None:
    images = Inputs([Chunk(TABLES[0], np.array([0, 1]), "content")])
    with pytest.raises(ValueError, match="labels"):
        Labelled(images, np.asarray(labels), ("a", "b"))


@given(chosen())
def test_labels_follow_their_images(case: tuple[Inputs, np.ndarray]) -> None:
    images, positions = case
    data = Labelled(images, images.ids, tuple("abcdefghi"))  # each label is its image's row
    picked = Labelled.join([data.select(positions), data])
    assert np.array_equal(picked.labels, picked.inputs.ids)


def test_a_selection_keeps_no_labels_of_what_was_left_out() -> None:
    data = Labelled(Inputs([Chunk(TABLES[0], np.arange(9), "c")]), np.arange(9) % 2, ("a", "b"))
    assert data.select(np.array([0, 1])).labels.base is None
    assert data.select(np.arange(9)).labels.base is None


def test_classes_of_other_names_are_not_joined() -> None:
    data = Labelled(Inputs([Chunk(TABLES[0], np.arange(2), "c")]), np.array([0, 1]), ("a", "b"))
    with pytest.raises(ValueError, match="same classes"):
        Labelled.join([data, dataclasses.replace(data, class_names=("a", "c"))])


def test_the_labels_are_part_of_the_fingerprint() -> None:
    images = Inputs([Chunk(TABLES[0], np.arange(2), "c")])
    data = [
        Labelled(images, np.array([0, 1]), ("a", "b")),
        Labelled(images, np.array([1, 0]), ("a", "b")),
        Labelled(images, np.array([0, 1]), ("a", "c")),
    ]
    assert len({part.fingerprint for part in data}) == 3
