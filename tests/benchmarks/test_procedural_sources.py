"""Drawn sources: opened by name like any other, drawn once, labelled by the hierarchy of their classes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.errors import RequestError
from benchmarks.naming import parse, typed
from benchmarks.procedural import families
from benchmarks.progress import Silent
from benchmarks.sources import table
from benchmarks.sources.lookup import may_mirror, open_source, source_names
from benchmarks.sources.procedural import PROCEDURAL
from benchmarks.store import Store
from benchmarks.stream import Place
from benchmarks.streams.presets import PRESETS
from benchmarks.streams.split import SplitStream

TRAIN, TEST = 3, 1


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """Every family with few images, which cost next to nothing: the class in the first value."""

    def cheap(family: families.Family) -> families.Family:
        def draw(label: int, seed: int, index: int) -> np.ndarray:
            image = np.full((64, 64, 3), label, np.uint8)
            image[0, 0] = (seed, index, len(family.name))
            return image

        return dataclasses.replace(family, train=TRAIN, test=TEST, drawn=draw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "FAMILIES", {name: cheap(f) for name, f in families.FAMILIES.items()})
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


class Stopping(Silent):
    """A bar that stops the work after `after` images, and notes what was done."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.steps: list[int] = []

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "") -> Iterator[Stopping]:
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.steps.append(amount)
        if sum(self.steps) > self.after:
            raise KeyboardInterrupt


def test_there_are_enough_for_a_transfer_suite_and_each_is_listed() -> None:
    assert len(PROCEDURAL) >= 8
    assert set(PROCEDURAL) <= set(source_names())


@pytest.mark.parametrize("name", PROCEDURAL)
def test_a_source_has_every_class_in_both_parts_and_true_labels(name: str, store: Store) -> None:
    data = open_source(name).load(store, Silent())
    spec = PROCEDURAL[name]
    family = families.FAMILIES[spec.family]
    for part, each in ((data.train, TRAIN), (data.test, TEST)):
        pixels = part.inputs.pixels()
        fine = pixels[:, 5, 5, 0]  # the drawing wrote the family's class there
        assert np.bincount(fine).tolist() == [each] * len(family.class_names)
        for label, cls in zip(part.labels, fine, strict=True):
            parts = family.class_names[cls].split("/")
            true = family.class_names[cls] if spec.level is None else parts[spec.level]
            assert data.class_names[label] == true
        assert np.bincount(part.labels).min() > 0
    assert not set(data.train.inputs.pixels()[:, 0, 0, 1]) & set(data.test.inputs.pixels()[:, 0, 0, 1])
    assert data.terms == "drawn by Carryover, no terms"
    assert f"{TRAIN} training and {TEST} test images" in data.rule


def test_what_is_drawn_once_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    first = open_source("objects").load(store, Silent())

    def never(*_: int) -> np.ndarray:
        raise AssertionError("it is in the store")

    family = dataclasses.replace(families.FAMILIES["objects"], drawn=never)
    monkeypatch.setitem(families.FAMILIES, "objects", family)
    assert open_source("objects").load(store, Silent()).fingerprint == first.fingerprint
    # Other labels of the same images share the table, and so the features that are cached for it.
    shapes = open_source("objects-shape").load(store, Silent())
    assert shapes.train.inputs.fingerprint == first.train.inputs.fingerprint
    assert shapes.fingerprint != first.fingerprint
    # A new version is drawn.
    newer = dataclasses.replace(family, version=family.version + 1)
    monkeypatch.setitem(families.FAMILIES, "objects", newer)
    with pytest.raises(AssertionError, match="in the store"):
        open_source("objects").load(store, Silent())


@pytest.mark.parametrize("after", [0, 40, 200])
def test_drawing_that_was_interrupted_goes_on(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "PIECE_ROWS", 32)
    whole = open_source("objects").load(Store(tmp_path / "whole"), Silent())
    store, bar = Store(tmp_path / "cut"), Stopping(10**9)
    with pytest.raises(KeyboardInterrupt):
        open_source("objects").load(store, Stopping(after))
    resumed = open_source("objects").load(store, bar)
    assert bar.steps[0] == after // 32 * 32, "what was drawn is not drawn again"
    assert resumed.fingerprint == whole.fingerprint


def test_another_size_is_squashed_from_the_drawing(store: Store) -> None:
    data = open_source("textures").load(store, Silent(), size=32)
    assert data.train.inputs.image_size == (32, 32)
    assert "32x32" in data.rule


STREAMS = {name: preset for name, preset in PRESETS.items() if preset.source in PROCEDURAL}


@pytest.mark.parametrize("name", STREAMS)
def test_split_streams_open(name: str, store: Store) -> None:
    stream = SplitStream(name, SplitStream.Parameters(), Place(store))
    tasks, exam = stream.open(0)
    assert len(tasks) == STREAMS[name].tasks == len(exam.tasks)
    for task in tasks:
        classes = np.asarray(task.classes)
        assert np.array_equal(classes[task.train.labels], task.train.inputs.pixels()[:, 5, 5, 0])
        assert exam.score(task.id, exam.inputs(task.id).pixels()[:, 5, 5, 0].astype(np.int64)).all()
    assert stream.info.mirror == PROCEDURAL[STREAMS[name].source].mirror


@pytest.mark.parametrize(
    ("name", "mirror"),
    [
        ("split:objects-shape?tasks=1", True),
        ("split:scenes-location?tasks=3", False),
        ("split:scenes-location?tasks=3&mirror=true", True),
        ("split:glyphs", False),
    ],
)
def test_what_a_mirror_would_change_is_not_mirrored(name: str, mirror: bool, store: Store) -> None:
    bare, parameters = parse(name)
    parameters.setdefault("tasks", "4")
    chosen = typed(name, "parameter", SplitStream.Parameters, parameters)
    assert SplitStream(bare, chosen, Place(store)).info.mirror is mirror
    assert not may_mirror("digits")
    assert may_mirror("anything")


def test_a_slip_of_the_pen_finds_the_name() -> None:
    with pytest.raises(RequestError, match="did you mean 'scenes-count'"):
        open_source("scene-count")


def test_naming_a_source_imports_nothing_that_draws() -> None:
    code = """
import sys
from benchmarks.sources.lookup import open_source, source_names
source_names(), open_source("objects")
assert [name for name in sys.modules if name.startswith("benchmarks.procedural.")] == [
    "benchmarks.procedural.family"
]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
