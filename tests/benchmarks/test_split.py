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
    """`split:N` is a source of N classes, `split:NxM` one of M training images each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "open_source", lambda name, reading: Loaded(data_of(*map(int, name.split("x")))))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(Store(tmp_path_factory.mktemp("store")))


def stream(place: Place, classes: int | str = 6, **parameters: object) -> SplitStream:
    chosen = typed("split", "parameter", SplitStream.Parameters, {"tasks": 3, **parameters})
    return SplitStream(f"split:{classes}", chosen, place)


def rows(part: Labelled) -> set[int]:
    return set(part.inputs.ids.tolist())


def test_the_class_order_is_the_fields(place: Place) -> None:
    info = stream(place, 100, tasks=10).info
    assert info.classes[0] == (68, 56, 78, 8, 23, 84, 90, 65, 74, 76)
    assert sorted(cls for task in info.classes for cls in task) == list(range(100))
    assert info.order is not None
    assert (info.order.name, info.order.hash) == ("1993", "997a048a5344")


def test_another_order_is_another_stream(place: Place) -> None:
    first, second = stream(place).info, stream(place, order=1).info
    assert first.classes != second.classes
    assert first.identity != second.identity
    assert first.name == second.name  # the order is a coordinate of the cell, not a part of the name


def test_an_order_is_the_list_however_it_is_written(place: Place) -> None:
    numbered = stream(place, order=7).info
    assert numbered.order is not None
    given = stream(place, order="+".join(map(str, numbered.order.classes))).info
    assert given.identity == numbered.identity
    assert given.order is not None
    assert given.order.hash == numbered.order.hash
    assert given.order.name == f"list-{given.order.hash}"


@pytest.mark.parametrize(
    ("classes", "parameters", "sizes"),
    [
        (12, {"init": 6, "inc": 2}, (6, 2, 2, 2)),
        (12, {"inc": 5}, (5, 5, 2)),
        (12, {"sizes": "2+10"}, (2, 10)),
        (12, {"tasks": 5}, (3, 3, 2, 2, 2)),
    ],
)
def test_tasks_of_unequal_size_hold_every_class_once_and_are_told(
    place: Place, classes: int, parameters: dict, sizes: tuple[int, ...]
) -> None:
    opened = stream(place, classes, **{"tasks": None, **parameters})
    info = opened.info
    assert tuple(map(len, info.classes)) == sizes
    assert info.order is not None
    assert sum(info.classes, ()) == info.order.classes
    (note,) = info.notes
    assert note.startswith(f"12 classes in {len(sizes)} tasks: ")
    tasks, exam = opened.open(0)
    for task in tasks:
        found = (len(task.train), len(task.val), len(exam.inputs(task.id)))
        assert found == info.sizes[task.id]
        assert found[2] == TESTS * sizes[task.id]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    per_class=st.none() | st.integers(2, EACH),
    tasks=st.sampled_from([1, 2, 3, 4, 6]),
)
def test_train_and_val_share_no_image_and_are_what_info_says(
    place: Place, seed: int, per_class: int | None, tasks: int
) -> None:
    # Tasks of one class are refused where the task is known.
    opened = stream(place, per_class=per_class, tasks=tasks, scenario="class" if tasks > 3 else "task")
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


def test_without_validation_all_of_train_is_trained_on(place: Place) -> None:
    opened = stream(place, val=0)
    tasks, _ = opened.open(0)
    assert [len(task.val) for task in tasks] == [0, 0, 0]
    assert sum(len(task.train) for task in tasks) == 6 * EACH
    assert "val: none, all of train is trained on" in opened.info.rule
    assert opened.info.rule != stream(place).info.rule
    assert stream(place, "6x1", val=0).info.sizes == ((2, 0, 6),) * 3
    with pytest.raises(DataError, match=r"has 1 training images and 2 are needed .*or take val=0"):
        stream(place, "6x1")


def test_few_shots_after_the_base_task_are_drawn_per_seed_from_no_validation_image(place: Place) -> None:
    """CIFAR-100's few-shot class-incremental stream, 60 + 8 x 5 classes of 5 shots."""
    opened = stream(place, "100x500", tasks=None, init=60, inc=5, shots=5, val=0, scenario="class")
    assert [sizes[:2] for sizes in opened.info.sizes] == [(60 * 500, 0)] + [(25, 0)] * 8
    first, second = ([rows(task.train) for task in opened.open(seed)[0]] for seed in (0, 1))
    assert first[0] == second[0]
    assert all(one != other for one, other in zip(first[1:], second[1:], strict=True))
    held = stream(place, "100x500", tasks=None, init=60, inc=5, shots=5, scenario="class")
    assert [sizes[:2] for sizes in held.info.sizes] == [(60 * 450, 60 * 50)] + [(25, 0)] * 8
    tasks, _ = held.open(0)
    assert [set(np.bincount(task.train.labels)) for task in tasks] == [{450}] + [{5}] * 8


def test_a_long_tail_falls_along_the_order_to_its_share(place: Place) -> None:
    """The counts of CIFAR-100-LT and CIFAR-10-LT with an imbalance of 100 (Cao et al., NeurIPS 2019)."""
    opened = stream(place, "100x500", tasks=None, inc=10, imbalance=0.01, val=0, scenario="class", order=7)
    tasks, exam = opened.open(0)
    counts = [count for task in tasks for count in np.bincount(task.train.labels).tolist()]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1], sum(counts)) == (500, 5, 10_847)
    assert all(len(exam.inputs(task)) == 10 * TESTS for task in exam.tasks)
    assert (
        sum(size[0] for size in stream(place, "10x5000", tasks=5, imbalance=0.01, val=0).info.sizes) == 12_406
    )


def test_where_the_order_decides_how_many_images_a_class_gives_the_description_says_so(place: Place) -> None:
    assert not stream(place, per_class=5).info.sizes_by_order
    assert stream(place, shots=1).info.sizes_by_order
    assert stream(place, imbalance=0.5).info.sizes_by_order


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
    assert {i for part in stream(place, tasks=6, scenario="class").open(0)[0] for i in rows(part.val)} == {
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
        ({"tasks": 7}, "tasks=7 lies outside 1 to 6, the number of classes"),
        ({"tasks": 0}, "tasks=0 lies outside 1"),
        ({"inc": 2}, "tasks=3 and inc=2 both say how classes are cut"),
        ({"scenario": "domain", "order": "natural"}, "order=natural has no meaning in a domain stream"),
        ({"scenario": "domain", "inc": 2}, "inc=2 has no meaning in a domain stream"),
        ({"per_class": 1}, "per_class=1 lies outside 2"),
        ({"val": 1.0}, "val=1.0 lies outside"),
        ({"val": -0.1}, "val=-0.1 lies outside"),
        ({"imbalance": 0.0}, "imbalance=0.0 lies outside"),
        ({"imbalance": 0.01}, "imbalance=0.01 of 20 images leaves 1 of class .*or val=0"),
        (
            {"imbalance": 0.01, "val": 0},
            "imbalance=0.01 of 20 images leaves 0 of class .*a larger imbalance$",
        ),
        ({"shots": 21}, "has 20 training images and shots=21 are needed"),
        ({"shots": 5, "tasks": 1}, "shots=5 counts from the second task, and there is one"),
        ({"shots": 5, "imbalance": 0.5}, "shots=5 and imbalance=0.5 both say"),
        ({"shots": 5, "scenario": "domain"}, "shots=5 has no meaning in a domain stream"),
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
