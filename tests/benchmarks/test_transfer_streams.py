"""Transfer streams: every task is what its lists, or its rule, say; bad lists are named by file and line."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from source_files import draw, encode, write_parquet
from transfer_trees import (
    SIDE,
    TESTS,
    edit,
    pixels,
    truth,
    write_fgvc_task,
    write_images,
    write_vtab,
    write_vtab_task,
)

from benchmarks.errors import DataError, RequestError
from benchmarks.images import Labelled
from benchmarks.naming import parse, typed
from benchmarks.procedural.family import Family
from benchmarks.store import Store
from benchmarks.stream import Place
from benchmarks.streams.transfer import SUITES, TransferStream
from benchmarks.transfer import embedded, fetch, vtab
from benchmarks.transfer.__main__ import with_table

DTD = ("vtab-1k", "dtd")
CLASSES = 47  # of dtd


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(Store(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty CARRYOVER_DATA of its own."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("CARRYOVER_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of every task; nobody changes them."""
    folder = tmp_path_factory.mktemp("pictures") / "images"
    write_images(folder)
    return folder


@pytest.fixture
def dtd(data: Path, images: Path) -> Path:
    """The folder of one task."""
    write_vtab_task(data.joinpath(*DTD), CLASSES, images)
    return data.joinpath(*DTD)


def stream(name: str, place: Place) -> TransferStream:
    """As the command line makes it."""
    bare, given = parse(name)
    return TransferStream(bare, typed(bare, "parameter", TransferStream.Parameters, given), place)


def opened_dtd(place: Place) -> TransferStream:
    return stream("vtab-1k?only=dtd&size=8", place)


# What a stream is


@pytest.fixture(scope="module")
def vtab_stream(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TransferStream]:
    root = tmp_path_factory.mktemp("vtab")
    write_vtab(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARRYOVER_DATA", str(root))
        return root / "vtab-1k", stream(f"vtab-1k?size={SIDE}", Place(Store(root / "cache")))


def test_the_19_tasks_are_those_of_the_benchmark(vtab_stream: tuple[Path, TransferStream]) -> None:
    info = vtab_stream[1].info
    assert (info.protocol, info.scenario, info.order, info.mirror) == ("transfer", "task", None, False)
    counts = dict(zip(info.task_names, map(len, info.classes), strict=True))
    assert counts == {
        "cifar": 100,
        "caltech101": 102,
        "dtd": 47,
        "oxford_flowers102": 102,
        "oxford_iiit_pet": 37,
        "svhn": 10,
        "sun397": 397,
        "patch_camelyon": 2,
        "eurosat": 10,
        "resisc45": 45,
        "diabetic_retinopathy": 5,
        "clevr_count": 8,
        "clevr_dist": 6,
        "dmlab": 6,
        "kitti": 4,
        "dsprites_loc": 16,
        "dsprites_ori": 16,
        "smallnorb_azi": 18,
        "smallnorb_ele": 9,
    }
    groups = {group: info.groups.count(group) for group in info.groups}
    assert groups == {"natural": 7, "specialised": 4, "structured": 8}
    assert info.sizes == ((800, 200, TESTS),) * 19
    for said in ("same for every seed", "list files", "8x8", "bicubic", "no augmentation", "normalisation"):
        assert said in info.rule


def test_parts_are_what_the_lists_say(vtab_stream: tuple[Path, TransferStream]) -> None:
    folder, opened = vtab_stream
    tasks, exam = opened.open(0)
    for task, name in zip(tasks, opened.info.task_names, strict=True):
        assert np.array_equal(task.train.labels, truth(folder / name, "train800"))
        assert np.array_equal(task.val.labels, truth(folder / name, "val200"))
        answers = np.asarray(task.classes)[truth(folder / name, "test")]
        assert exam.score(task.id, answers[exam.inputs(task.id).ids]).all()
        assert task.class_names == tuple(opened.info.class_names[cls] for cls in task.classes)
    asked = exam.inputs(18)
    in_order = asked.select(np.argsort(asked.ids))
    last = (tasks[18].train.inputs, tasks[18].val.inputs, in_order)
    assert np.array_equal(np.concatenate([part.pixels() for part in last]), pixels())


def test_no_class_id_and_no_class_name_is_in_two_tasks(vtab_stream: tuple[Path, TransferStream]) -> None:
    info = vtab_stream[1].info
    ids = [cls for task in info.classes for cls in task]
    assert ids == list(range(len(info.class_names)))
    assert len(set(info.class_names)) == len(ids)


def test_every_seed_opens_the_same_parts(vtab_stream: tuple[Path, TransferStream]) -> None:
    def prints(seed: int) -> list[str]:
        tasks, exam = vtab_stream[1].open(seed)
        parts = [part.fingerprint for task in tasks for part in (task.train, task.val)]
        return parts + [exam.fingerprint(task) for task in exam.tasks]

    assert prints(0) == prints(1)


def test_exam_inputs_give_no_labels(vtab_stream: tuple[Path, TransferStream]) -> None:
    tasks, exam = vtab_stream[1].open(0)
    assert exam.tasks == tuple(range(19))
    inputs = exam.inputs(3)
    reachable = [inputs, *inputs.chunks]
    assert not any(hasattr(thing, "labels") for thing in reachable)
    for task in tasks:
        assert {field.name for field in dataclasses.fields(task)} == {"id", "train", "val", "classes"}


def test_some_tasks_keep_their_order_and_their_data(
    vtab_stream: tuple[Path, TransferStream], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARRYOVER_DATA", str(vtab_stream[0].parent))
    some = stream("vtab-1k?only=kitti+dtd&size=8", place)
    assert some.info.name == "vtab-1k?only=dtd+kitti&size=8"
    assert stream("vtab-1k?only=dtd,kitti&size=8", place).info == some.info
    assert some.info.task_names == ("dtd", "kitti")
    assert some.info.groups == ("natural", "structured")
    assert some.info.classes == (tuple(range(47)), tuple(range(47, 51)))
    (dtd, _), _ = some.open(0)
    assert dtd.train.fingerprint == vtab_stream[1].open(0)[0][2].train.fingerprint
    assert len({some.info.identity, vtab_stream[1].info.identity, opened_dtd(place).info.identity}) == 3


def test_images_are_squashed_and_the_folder_is_no_part_of_the_data(
    dtd: Path, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One image is wide, all others square: squashing keeps all of it, cropping would not.
    wide = np.zeros((SIDE, 3 * SIDE, 3), np.uint8)
    wide[:, SIDE:] = 255
    (dtd / "wide.png").write_bytes(encode(wide))
    edit(dtd / "test.txt", swap(3, "wide.png 3"))
    first = opened_dtd(place)
    asked = first.open(0)[1].inputs(0)
    shown = asked.pixels()[list(asked.ids).index(3)]
    assert shown.shape == (SIDE, SIDE, 3)
    assert shown[:, 0].max() < 64
    assert shown[:, -4:].min() > 192
    dtd.parent.parent.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("CARRYOVER_DATA", str(tmp_path / "elsewhere"))
    assert opened_dtd(place).info == first.info
    other = stream("vtab-1k?only=dtd&size=6", place).info
    assert other.identity != first.info.identity
    assert other.image_size == (6, 6)


def test_a_copy_with_other_pixels_is_other_data(dtd: Path, place: Place) -> None:
    first = opened_dtd(place).info
    (dtd / "other.png").write_bytes(encode(draw(1, SIDE, seed=9)[0]))
    edit(dtd / "test.txt", swap(3, "other.png 3"))
    assert opened_dtd(place).info.data != first.data


def test_a_name_without_parameters_has_the_defaults(place: Place) -> None:
    assert [suite.size for suite in SUITES.values()] == [224, 224, 64]
    assert stream("embedded-transfer?only=digits&size=64", place).info.name == "embedded-transfer?only=digits"


# Bad lists


def swap(row: int, line: str) -> Callable[[list[str]], None]:
    def change(lines: list[str]) -> None:
        lines[row] = line

    return change


def cut(lines: list[str]) -> None:
    del lines[-1]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "test",
            swap(4, "images/none.png 3"),
            r"test.txt, line 5 names .*/images/none.png, which is not there",
        ),
        (
            "train800",
            swap(7, "images/train800-0007.png"),
            r"train800.txt, line 8 is 'images/train800-0007.png'",
        ),
        ("train800", swap(7, "images/train800-0007.png x"), r"train800.txt, line 8 is .*path, a space"),
        ("train800", swap(1, "3"), r"train800.txt, line 2 is '3'; write an image's path, a space"),
        (
            "test",
            swap(2, "images/test-0002.png 47"),
            r"test.txt, line 3: label 47 of .* 47 classes \(0 to 46\)",
        ),
        ("test", swap(2, "images/test-0002.png -1"), r"test.txt, line 3: label -1 of .*\(0 to 46\)"),
        ("train800", cut, r"train800.txt lists 799 images, but 800 are needed"),
        ("val200", cut, r"val200.txt lists 199 images, but 200 are needed"),
        ("train800val200", cut, r"train800val200.txt lists 999 images, but 1000 are needed"),
        ("test", lambda lines: lines.clear(), r"test.txt lists no images"),
        (
            "test",
            swap(5, "images/train800-0011.png 3"),
            r"test.txt, line 6: .* is also in train800.txt \(line 12\)",
        ),
        (
            "val200",
            swap(5, "images/train800-0011.png 3"),
            r"val200.txt, line 6: .* is also in train800.txt \(line 12\)",
        ),
        ("train800", swap(7, "images/a\0b.png 3"), r"train800.txt, line 8 is 'images/a\\x00b.png 3'"),
        ("train800", swap(7, f"images/a.png {'9' * 5000}"), r"train800.txt, line 8 is 'images/a.png 999"),
        (
            "test",
            swap(5, "./images/val200-0001.png 3"),
            r"test.txt, line 6: .* is also in val200.txt \(line 2\)",
        ),
        ("test", swap(5, "images/test-0000.png 3"), r"test.txt, line 6: .* is already in line 1"),
        (
            "train800val200",
            swap(5, "images/test-0000.png 3"),
            r"test.txt, line 1: images/test-0000.png is also in train800val200.txt \(line 6\)",
        ),
        (
            "train800val200",
            swap(0, "images/other.png 0"),
            r"train800val200.txt, line 1: images/other.png is not in train800.txt or val200.txt",
        ),
        (
            "train800val200",
            swap(0, "images/train800-0000.png 5"),
            r"train800val200.txt, line 1: .* has label 5, but 0 in train800.txt",
        ),
    ],
)
def test_a_bad_line_is_named(
    dtd: Path, place: Place, name: str, change: Callable[[list[str]], None], said: str
) -> None:
    edit(dtd / f"{name}.txt", change)
    with pytest.raises(DataError, match=said) as caught:
        opened_dtd(place)
    message = str(caught.value)
    assert str(dtd) in message
    assert "; " in message  # the way out
    assert "\n" not in message


def test_a_test_image_is_not_trained_on_under_another_name(dtd: Path, place: Place) -> None:
    (dtd / "pictures").symlink_to(dtd / "images")
    for name in ("pictures/train800-0011.png", f"{dtd}/images/train800-0011.png"):
        edit(dtd / "test.txt", swap(5, f"{name} 3"))
        with pytest.raises(
            DataError, match=r"line 6: .* is also in train800.txt as images/.*-0011.png \(line 12\)"
        ):
            opened_dtd(place)


def test_a_mark_at_the_start_of_a_file_is_no_part_of_a_path(dtd: Path, place: Place) -> None:
    before = opened_dtd(place).info
    list_ = dtd / "train800.txt"
    list_.write_bytes(b"\xef\xbb\xbf" + list_.read_bytes())
    assert opened_dtd(place).info == before


def test_own_copies_of_train800val200_have_the_labels_of_both(data: Path, images: Path, place: Place) -> None:
    folder = data.joinpath(*DTD)
    write_vtab_task(folder, CLASSES, images, own_copies=True)
    assert opened_dtd(place).info.sizes == ((800, 200, TESTS),)
    edit(folder / "train800val200.txt", swap(0, "images/both-0000.png 9"))
    with pytest.raises(DataError, match=r"train800val200.txt has other labels than .* not needed"):
        opened_dtd(place)
    (folder / "train800val200.txt").unlink()
    assert opened_dtd(place).info.sizes == ((800, 200, TESTS),)


def test_a_list_that_is_gone_or_no_text_is_named(dtd: Path, place: Place) -> None:
    (dtd / "val200.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"val200.txt is no text"):
        opened_dtd(place)
    (dtd / "val200.txt").unlink()
    with pytest.raises(DataError, match=r"val200.txt is not there; copy the task's folder again"):
        opened_dtd(place)


def test_a_broken_image_is_named_with_its_line(dtd: Path, place: Place) -> None:
    (dtd / "broken.png").write_bytes(b"no image")
    edit(dtd / "train800val200.txt", swap(802, "broken.png 2"))
    edit(dtd / "val200.txt", swap(2, "broken.png 2"))
    with pytest.raises(DataError, match=r"val200.txt, line 3: .*broken.png cannot be decoded"):
        opened_dtd(place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("inside", ["", "images"])
def test_a_folder_out_of_reach_is_named(dtd: Path, place: Place, inside: str) -> None:
    (dtd / inside).chmod(0)
    try:
        with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); give yourself the right"):
            opened_dtd(place)
    finally:
        (dtd / inside).chmod(0o755)


def test_a_file_in_place_of_the_folder_is_named(data: Path, place: Place) -> None:
    (data / "vtab-1k").mkdir()
    data.joinpath(*DTD).touch()
    with pytest.raises(DataError, match=r"vtab-1k/dtd is a file, not a folder"):
        opened_dtd(place)


# Missing tasks and unknown names


def test_all_that_is_missing_is_said_at_once_with_how_to_get_it(dtd: Path, place: Place) -> None:
    with pytest.raises(DataError) as caught:
        stream("vtab-1k?only=dtd+kitti+svhn&size=8", place)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("vtab-1k: 2 of 3 tasks are not there")
    assert f"looked for in {dtd.parent}" in first
    assert "vtab-1k?only=dtd&size=8," in first
    assert [line.strip().partition(":")[0] for line in lines[1:]] == ["svhn", "kitti"]
    assert "$CARRYOVER_DATA/svhn/" in str(caught.value)


def test_without_data_every_task_is_listed(data: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARRYOVER_DATA")
    with pytest.raises(DataError, match=r"5 of 5 tasks are not there \(CARRYOVER_DATA is not set"):
        stream("fgvc", place)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vtab-1k?only=cifer", "unknown task of vtab-1k 'cifer'; did you mean 'cifar'?"),
        ("vtab-1k?only=+", "only=+ names no task"),
        ("vtab-1k?size=0", "size=0 lies outside 1"),
        ("embedded-transfer?transforms=vtap", "unknown transforms 'vtap'; did you mean 'vtab'?"),
        (
            "transfer:digits?train=1400&size=8",
            "digits has 1438 training images, fewer than train=1400 and val=200",
        ),
        ("transfer:digits?train=9&val=9&size=8", "digits has 10 classes, more than train=9"),
        ("transfer:digits?val=0&size=8", "train=800 and val=0 must be at least 1"),
        ("transfer:digits+digits", "two sources are called digits"),
        ("transfer:", "names no source"),
        ("embedded-transfer?only=digits&train=100", "embedded-transfer have fixed parts"),
        ("transfer:digits?only=svhn&size=8", "unknown task of transfer:digits 'svhn'"),
    ],
)
def test_what_cannot_be_asked_for_says_what_can(place: Place, name: str, said: str) -> None:
    with pytest.raises(RequestError, match=re.escape(said)):
        stream(name, place)


@pytest.mark.parametrize("name", ["vtab-1k", "fgvc"])
def test_there_is_an_instruction_for_every_task(name: str) -> None:
    assert list(fetch.TASKS[name]) == [task.name for task in SUITES[name].tasks]


def test_the_documentation_has_the_instructions() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    assert with_table(page) == page, "run python -m benchmarks.transfer"


# Tasks cut from whole data sets


def test_a_whole_data_set_is_cut_by_the_rule(data: Path, place: Place) -> None:
    drawn = draw(2000, 3)
    write_parquet(data / "svhn/train.parquet", drawn, [row % 10 for row in range(2000)], tuple("0123456789"))
    write_parquet(
        data / "svhn/test.parquet", drawn[:30], [row % 10 for row in range(30)], tuple("0123456789")
    )
    opened = stream("vtab-1k?only=svhn&size=3", place)
    (task,), exam = opened.open(0)
    assert np.array_equal(task.train.inputs.pixels(), drawn[:800])
    assert np.array_equal(task.val.inputs.pixels(), drawn[1800:])
    assert exam.score(0, exam.inputs(0).ids % 10).all()
    assert "val200 rows 1800 to 1999" in opened.info.rule
    larger = stream("vtab-1k?only=svhn&size=6", place).open(0)[0][0]
    assert larger.train.inputs.image_size == (6, 6)
    assert np.array_equal(larger.val.labels, task.val.labels)


def test_of_a_copy_that_is_sorted_by_class_the_rows_are_drawn(data: Path, place: Place) -> None:
    """A folder for each class is read class by class: its first 800 rows would be of a few classes only."""
    labels = np.repeat(np.arange(10), 200).tolist()
    write_parquet(data / "svhn/train.parquet", draw(2000, 3), labels, tuple("0123456789"))
    write_parquet(data / "svhn/test.parquet", draw(30, 3), labels[::67], tuple("0123456789"))
    opened = stream("vtab-1k?only=svhn&size=3", place)
    (task,), _ = opened.open(0)
    assert np.bincount(task.train.labels, minlength=10).min() > 40
    assert np.bincount(task.val.labels, minlength=10).min() > 5
    rows = [set(part.ids.tolist()) for part in (task.train.inputs, task.val.inputs)]
    assert len(set.union(*rows)) == 1000
    assert "in an order that is drawn" in opened.info.rule


@pytest.mark.parametrize(("count", "names", "said"), [(1990, 10, "1990 training"), (2000, 5, "svhn has 5")])
def test_a_data_set_that_does_not_fit_is_refused(
    data: Path, place: Place, count: int, names: int, said: str
) -> None:
    labels = [row % names for row in range(count)]
    write_parquet(data / "svhn/train.parquet", draw(count, 2), labels, tuple("0123456789")[:names])
    write_parquet(data / "svhn/test.parquet", draw(30, 2), labels[:30], tuple("0123456789")[:names])
    with pytest.raises(DataError, match=said):
        stream("vtab-1k?only=svhn&size=2", place)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path(os.environ.get("CARRYOVER_DATA", ""), "cifar100", "train.parquet").is_file(),
    reason="needs CIFAR-100: set CARRYOVER_DATA to a folder with cifar100/ in parquet",
)
def test_cifar100_is_the_real_task(place: Place) -> None:
    from benchmarks.sources.lookup import open_source

    opened = stream("vtab-1k?only=cifar&size=32", place)
    assert opened.info.sizes == ((800, 200, 10_000),)
    (task,), exam = opened.open(0)
    whole = open_source("cifar100").load(place.store, place.progress)
    assert np.array_equal(task.train.labels, whole.train.labels[:800])
    assert np.array_equal(task.val.labels, whole.train.labels[45_000:45_200])
    assert exam.score(0, whole.test.labels[exam.inputs(0).ids]).all()
    assert exam.fingerprint(0) == whole.test.shuffled().inputs.fingerprint
    assert "not VTAB's" in opened.info.rule


# FGVC


def test_json_lists_and_their_class_ids(data: Path, place: Place) -> None:
    write_fgvc_task(data, "StanfordDogs")
    opened = stream("fgvc?only=StanfordDogs&size=8", place)
    assert opened.info.sizes == ((240, 120, 120),)
    assert "ImageNet" in opened.info.notes[0]
    (task,), exam = opened.open(0)
    assert np.array_equal(task.train.labels, np.repeat(np.arange(120), 2))
    assert exam.score(0, exam.inputs(0).ids).all()
    assert task.class_names[:2] == ("StanfordDogs/7", "StanfordDogs/14")


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        (
            "val",
            {"val-0-0.png": 8},
            r"val.json, entry 1: label 8 of val-0-0.png is none .* 120 classes \(7 to 840\)",
        ),
        ("train", {"train-0-0.png": 8}, r"train.json has images of 121 classes, but the task has 120"),
        ("val", {"val-0-0.png": "7"}, r"val.json, entry 1: the class of val-0-0.png is '7'"),
        (
            "test",
            {"train-3-1.png": 7},
            r"test.json, entry 121: train-3-1.png is also in train.json \(entry 8\)",
        ),
        ("test", {"gone.png": 7}, r"test.json, entry 121 names .*Images/gone.png, which is not there"),
    ],
)
def test_a_bad_entry_is_named(
    data: Path, place: Place, part: str, change: dict[str, object], said: str
) -> None:
    file = write_fgvc_task(data, "StanfordDogs") / f"{part}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(DataError, match=said):
        stream("fgvc?only=StanfordDogs&size=8", place)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "train.json, line 1 is no JSON"),
        ("[]", "train.json is no JSON object"),
        ('{"a.png": 1, "a.png": 2}', "train.json: a.png is listed twice"),
    ],
)
def test_a_broken_json_list_is_named(data: Path, place: Place, text: str, said: str) -> None:
    (write_fgvc_task(data, "StanfordDogs") / "train.json").write_text(text)
    with pytest.raises(DataError, match=said):
        stream("fgvc?only=StanfordDogs&size=8", place)


def test_a_missing_image_folder_is_named(data: Path, place: Place) -> None:
    folder = write_fgvc_task(data, "StanfordDogs")
    (folder / "Images").rename(folder / "images")
    with pytest.raises(DataError, match=r"StanfordDogs/Images does not exist; put the images"):
        stream("fgvc?only=StanfordDogs&size=8", place)


# What is always there


def test_digits_are_balanced_and_test_on_what_is_drawn_for_it(place: Place) -> None:
    opened = stream("embedded-transfer?only=digits&size=8", place)
    assert opened.info.sizes == ((800, 200, 359),)
    (task,), exam = opened.open(0)
    assert np.bincount(task.train.labels).tolist() == [80] * 10
    assert np.bincount(task.val.labels).tolist() == [20] * 10
    rows = [set(part.ids.tolist()) for part in (task.train.inputs, task.val.inputs, exam.inputs(0))]
    assert len(set.union(*rows)) == 1359  # no image is in two parts


def test_embedded_tasks_name_sources_with_their_classes() -> None:
    families = import_module("benchmarks.procedural.families").FAMILIES
    assert len(embedded.TASKS) == 10
    for task in embedded.TASKS[1:]:
        spec = embedded.PROCEDURAL[task.name]
        names = families[spec.family].class_names
        levels = {name if spec.level is None else name.split("/")[spec.level] for name in names}
        assert len(levels) == task.classes, task.name


@pytest.fixture
def quick_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family `objects` with pixels that say (label, index, seed) in place of drawings."""

    def labelled(label: int, seed: int, index: int) -> np.ndarray:
        return np.full((4, 4, 3), (label, index, seed), np.uint8)

    families = import_module("benchmarks.procedural.families").FAMILIES
    quick: Family = dataclasses.replace(families["objects"], drawn=labelled)
    monkeypatch.setitem(families, "objects", quick)


@pytest.mark.usefixtures("quick_objects")
@pytest.mark.parametrize(
    ("name", "level"), [("objects-shape", 0), ("objects-pattern", 1), ("objects-colour", 2)]
)
def test_drawn_tasks_are_balanced_and_apart(place: Place, name: str, level: int) -> None:
    opened = stream(f"embedded-transfer?only={name}&size=4", place)
    (task,), exam = opened.open(0)
    kinds = import_module("benchmarks.procedural.families").FAMILIES["objects"].class_names
    classes = len(task.classes)

    def read(shown: np.ndarray) -> tuple[list[str], set[tuple[int, int]]]:
        values = shown[:, 0, 0].astype(int)
        assert (values[:, 2] == embedded.SEED).all()
        said = [f"{name}/{kinds[label].split('/')[level]}" for label in values[:, 0]]
        return said, {(label, index) for label, index, _ in values.tolist()}

    def check(part: Labelled) -> set[tuple[int, int]]:
        said, images = read(part.inputs.pixels())
        assert said == [task.class_names[label] for label in part.labels]
        counts = np.bincount(part.labels, minlength=classes)
        assert counts.max() - counts.min() <= 1
        return images

    train, val = check(task.train), check(task.val)
    said, test = read(exam.inputs(0).pixels())
    assert exam.score(0, np.array([task.class_names.index(name) for name in said])).all()
    assert opened.info.sizes == ((800, 200, 960),)
    assert len(train | val | test) == 1960  # no image is in two parts


def test_drawn_images_are_those_of_no_split_stream() -> None:
    from benchmarks.sources import procedural

    assert embedded.SEED != procedural.SEED


def test_a_stream_of_transfer_is_found_by_its_name() -> None:
    assert set(TransferStream.catalogue) == {*SUITES, "transfer:SOURCE+SOURCE"}
    assert set(SUITES) == {"vtab-1k", "fgvc", "embedded-transfer"}
    assert SUITES["vtab-1k"].tasks == vtab.TASKS


def test_published_suites_are_searched_with_their_hundred_epochs(
    vtab_stream: tuple[Path, TransferStream],
) -> None:
    assert {name: suite.selection for name, suite in SUITES.items()} == {
        "vtab-1k": "search?epochs=100",
        "fgvc": "search?epochs=100",
        "embedded-transfer": "",
    }
    assert vtab_stream[1].info.selection == "search?epochs=100"


# Sources of a user's own


def test_any_source_is_a_task(place: Place, pictures: Path) -> None:
    opened = stream(f"transfer:folder:{pictures}+digits?train=40&val=12&size=16", place)
    info = opened.info
    roundabout = stream(f"transfer:folder:{pictures}/train/..+digits?train=40&val=12&size=16", place)
    assert roundabout.info.identity == info.identity
    assert info.task_names == (pictures.name, "digits")
    assert info.sizes == ((40, 12, 30), (40, 12, 359))
    assert (info.protocol, info.groups, info.image_size) == ("transfer", (), (16, 16))
    assert str(pictures.parent) not in info.rule + "".join(info.class_names)
    tasks, exam = opened.open(0)
    for task in tasks:
        counts = np.bincount(task.train.labels, minlength=len(task.classes))
        assert counts.max() - counts.min() <= 1, "of the classes in turn"
        rows = [set(part.inputs.ids.tolist()) for part in (task.train, task.val)]
        assert len(rows[0] | rows[1]) == 52
        assert exam.inputs(task.id).image_size == (16, 16)
    assert exam.score(1, np.zeros(359, np.int64) + tasks[1].classes[0]).mean() < 0.2


def test_a_task_of_a_source_is_the_same_beside_others(place: Place, pictures: Path) -> None:
    few = "train=40&val=12&size=8"
    alone, beside = (
        stream(f"transfer:{name}?{few}", place) for name in ("digits", f"folder:{pictures}+digits")
    )
    (one,), _ = alone.open(0)
    (_, other), _ = beside.open(1)
    assert one.train.fingerprint == other.train.fingerprint
    assert alone.info.name == "transfer:digits?size=8&train=40&val=12"


def test_a_class_with_few_images_gives_all_it_has() -> None:
    labels = np.repeat([0, 1, 2], [50, 3, 50])
    rows = embedded.in_turn(labels, 30)
    assert sorted(np.bincount(labels[rows]).tolist()) == [3, 13, 14]
    assert len(set(rows.tolist())) == 30
