"""Split streams: the field's class order, one split for all, and nothing in two parts at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import DataError, RequestError
from benchmarks.images import Chunk, Inputs, Labelled
from benchmarks.naming import typed
from benchmarks.sources.source import SourceData
from benchmarks.store import Store
from benchmarks.stream import Exam, Place
from benchmarks.streams import split
from benchmarks.streams.shifts import shifted
from benchmarks.streams.split import SplitStream

EACH, TESTS = 20, 3  # images of a class


def data_of(classes: int, each: int = EACH) -> SourceData:
    """A source whose images all differ: 2x2 pixels, the class in the first value and the row in the next."""

    def part(images: int, content: str) -> Labelled:
        labels = np.tile(np.arange(classes), images)  # classes lie scattered, as in real files
        table = np.zeros((len(labels), 2, 2, 3), np.uint8)
        table[:, 0, 0, 0], table[:, 0, 0, 1] = labels, np.arange(len(labels)) // classes
        table[:, 0, 1, 0] = content == "test"
        names = tuple(f"class {label}" for label in range(classes))
        return Labelled(Inputs([Chunk(table, np.arange(len(labels)), content)]), labels, names)

    train, test = part(each, f"train {classes}"), part(TESTS, "test")
    return SourceData(train, test, train.class_names, f"{classes} classes of {each}", "as stored")


class Loaded:
    def __init__(self, data: SourceData) -> None:
        self.data = data

    def load(self, store: Store, progress: object, size: int | None = None) -> SourceData:
        return self.data


@pytest.fixture(scope="module", autouse=True)
def sources():
    """`split:N` is a source of N classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "open_source", lambda name, reading: Loaded(data_of(int(name))))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(Store(tmp_path_factory.mktemp("store")))


def stream(place: Place, classes: int = 6, **parameters: object) -> SplitStream:
    chosen = typed("split", "parameter", SplitStream.Parameters, {"tasks": 3, **parameters})
    return SplitStream(f"split:{classes}", chosen, place)


def rows(part: Labelled) -> set[int]:
    return set(part.inputs.ids.tolist())


def test_the_class_order_is_the_fields(place: Place) -> None:
    info = stream(place, 100, tasks=10).info
    assert info.classes[0] == (68, 56, 78, 8, 23, 84, 90, 65, 74, 76)
    assert sorted(cls for task in info.classes for cls in task) == list(range(100))
    assert info.order == 1993


def test_another_order_is_another_stream(place: Place) -> None:
    first, second = stream(place).info, stream(place, order=1).info
    assert first.classes != second.classes
    assert first.identity != second.identity


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    per_class=st.none() | st.integers(2, EACH),
    tasks=st.sampled_from([1, 2, 3, 6]),
)
def test_train_and_val_share_no_image_and_are_what_info_says(
    place: Place, seed: int, per_class: int | None, tasks: int
) -> None:
    opened = stream(place, per_class=per_class, tasks=tasks)
    parts, exam = opened.open(seed)
    everything: set[int] = set()
    for task in parts:
        train, val = rows(task.train), rows(task.val)
        assert not (train | val) & everything
        assert not train & val
        everything |= train | val
        sizes = (len(task.train), len(task.val), len(exam.inputs(task.id)))
        assert sizes == opened.info.sizes[task.id]
        assert (len(train), len(val)) == sizes[:2]  # no image twice
    assert len(everything) == 6 * (per_class or EACH)


@pytest.mark.parametrize(
    ("per_class", "val", "held"), [(None, 0.1, 2), (10, 0.1, 1), (2, 0.1, 1), (10, 0.9, 9)]
)
def test_val_is_its_share_of_each_class_at_least_one_and_never_all(
    place: Place, per_class: int | None, val: float, held: int
) -> None:
    tasks, _ = stream(place, per_class=per_class, val=val).open(0)
    for task in tasks:
        assert np.bincount(task.val.labels).tolist() == [held] * 2
        assert np.bincount(task.train.labels).tolist() == [(per_class or EACH) - held] * 2


def test_labels_are_positions_in_the_tasks_classes(place: Place) -> None:
    tasks, _ = stream(place, 6).open(0)
    for task in tasks:
        for part in (task.train, task.val):
            truth = part.inputs.pixels()[:, 0, 0, 0]  # the source wrote the class there
            assert np.array_equal(np.asarray(task.classes)[part.labels], truth)
            assert part.class_names == tuple(f"class {cls}" for cls in task.classes)


def test_the_exam_scores_global_classes(place: Place) -> None:
    _, exam = stream(place).open(0)
    for task in exam.tasks:
        truth = exam.inputs(task).pixels()[:, 0, 0, 0].astype(np.int64)
        assert exam.score(task, truth).all()
        assert not exam.score(task, truth + 1).any()
        with pytest.raises(ValueError, match=f"task {task}"):
            exam.score(task, truth[:-1])


def test_test_images_are_those_of_test(place: Place) -> None:
    tasks, exam = stream(place).open(0)
    for task in tasks:
        assert exam.inputs(task.id).pixels()[:, 0, 1, 0].all()
        assert not task.train.inputs.pixels()[:, 0, 1, 0].any()


def test_every_opening_with_one_seed_is_the_same_and_seeds_differ(place: Place) -> None:
    def prints(seed: int, **parameters: object) -> list[str]:
        tasks, _ = stream(place, **parameters).open(seed)
        return [part.fingerprint for task in tasks for part in (task.train, task.val)]

    assert prints(0) == prints(0)
    assert not set(prints(0)) & set(prints(1))
    # One pool of images, so that streams over one source share their cached features.
    assert {i for part in stream(place, tasks=6).open(0)[0] for i in rows(part.val)} == {
        i for part in stream(place, tasks=2, scenario="class").open(0)[0] for i in rows(part.val)
    }


def test_the_test_set_is_the_same_for_every_seed(place: Place) -> None:
    first, second = stream(place).open(0)[1], stream(place).open(1)[1]
    assert [first.fingerprint(t) for t in first.tasks] == [second.fingerprint(t) for t in second.tasks]


def test_a_domain_stream_has_all_classes_in_every_task_and_starts_unshifted(place: Place) -> None:
    opened = stream(place, scenario="domain")
    tasks, exam = opened.open(0)
    plain = stream(place, tasks=1, order=0).open(0)
    assert opened.info.classes == (tuple(range(6)),) * 3
    assert opened.info.order is None
    first = np.sort(tasks[0].train.inputs.pixels().reshape(-1, 12), axis=0)
    assert np.array_equal(first, np.sort(plain[0][0].train.inputs.pixels().reshape(-1, 12), axis=0))
    prints = [exam.fingerprint(task) for task in exam.tasks]
    assert len(set(prints)) == 3
    assert [rows(task.train) for task in tasks] == [rows(tasks[0].train)] * 3
    assert rows(tasks[0].train).isdisjoint(rows(tasks[2].val))  # no image of val trains under another shift


@pytest.mark.parametrize("kind", ["rotation", "contrast"])
def test_shifts(kind: str, tmp_path: Path) -> None:
    place = Place(Store(tmp_path))
    table = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    chunk = Chunk(table, np.array([2, 0]), "content")
    assert shifted(chunk, kind, 0, place) is chunk
    half, full = shifted(chunk, kind, 0.5, place), shifted(chunk, kind, 1, place)
    assert len({chunk.content, half.content, full.content}) == 3
    assert np.array_equal(full.rows, chunk.rows)
    if kind == "rotation":  # a quarter turn moves pixels and changes none
        assert np.array_equal(full.table, np.rot90(table, 1, (1, 2)))
    else:
        spread = [t.astype(float).std(axis=(1, 2, 3)) for t in (table, half.table, full.table)]
        assert (spread[1] / spread[0]).round(2).tolist() == [0.6] * 3
        assert (spread[2] / spread[0]).round(2).tolist() == [0.2] * 3


def test_the_identity_names_all_that_shapes_a_stream_and_not_its_name(place: Place) -> None:
    base = stream(place).info
    assert dataclasses.replace(base, name="elsewhere").identity == base.identity
    others = [
        stream(place, order=1),
        stream(place, tasks=2),
        stream(place, scenario="class"),
        stream(place, scenario="domain"),
        stream(place, scenario="domain", shift="contrast"),
        stream(place, per_class=5),
        stream(place, val=0.2),
        stream(place, 12),
    ]
    assert len({base.identity, *(other.info.identity for other in others)}) == 1 + len(others)


def test_mirroring_is_part_of_what_makes_numbers(place: Place) -> None:
    # A stream whose images may be flipped trains on other images.
    assert stream(place, mirror="false").info.mirror is False
    assert stream(place, mirror="false").info.identity != stream(place).info.identity


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"tasks": 4}, "4 tasks do not divide the 6 classes; take tasks=1, 2, 3, 6"),
        ({"tasks": 0}, "tasks=0 lies outside 1"),
        ({"per_class": 1}, "per_class=1 lies outside 2"),
        ({"val": 1.0}, "val=1.0 lies outside"),
        ({"order": -1}, "order=-1 lies outside 0"),
    ],
)
def test_what_cannot_be_split_says_what_can(place: Place, parameters: dict, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        stream(place, **parameters)


def test_more_images_than_there_are_names_the_class(place: Place) -> None:
    with pytest.raises(DataError, match="class 'class 0' has 20 training images and 21 are needed"):
        stream(place, per_class=EACH + 1)


def test_an_exam_keeps_its_answers_to_itself(place: Place) -> None:
    _, exam = stream(place).open(0)
    assert isinstance(exam, Exam)
    assert not hasattr(exam.inputs(0), "labels")
    assert all(not hasattr(chunk, "labels") for chunk in exam.inputs(0).chunks)
