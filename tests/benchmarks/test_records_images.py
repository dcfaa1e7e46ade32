"""Images out of class files: exactly the wanted ones, squashed, decoded once; and the sources by name."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from record_files import (
    bytes_feature,
    example,
    frame,
    image_example,
    int_feature,
    jpeg,
    picture,
    write_records,
)

from benchmarks.episodes.specification import read_specification
from benchmarks.errors import DataError, RequestError
from benchmarks.progress import Silent
from benchmarks.sources import table
from benchmarks.sources.lookup import data_roots
from benchmarks.store import Store
from benchmarks.tfrecords import (
    META_DATASET,
    ClassFile,
    RecordImages,
    index,
    known,
    open_images,
    rows,
    source_folder,
    squash_rule,
)

COUNTS = (4, 7, 5)
SIZES = ((12, 12), (9, 40), (50, 8))  # height and width of each class's images
PAIRS = np.array([[2, 4], [0, 1], [0, 0], [2, 0], [0, 1]])  # class 1 is not wanted


@pytest.fixture
def files(tmp_path: Path) -> list[ClassFile]:
    made = []
    for label, (count, (height, width)) in enumerate(zip(COUNTS, SIZES, strict=True)):
        path = tmp_path / "meta" / f"{label + 10}.tfrecords"
        images = [jpeg(picture(100 * label + number, height, width)) for number in range(count)]
        write_records(path, images, label + 10)
        made.append(ClassFile(path, label + 10, f"class {label}", count))
    return made


def load(
    files: list[ClassFile], store: Path, pairs: NDArray[np.int64] = PAIRS, size: int = 16, workers: int = 2
) -> RecordImages:
    return open_images("meta", files, pairs[:, 0], pairs[:, 1], Store(store), Silent(), size, workers)


def squashed(encoded: bytes, size: int) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("size", [5, 16, 84])
def test_wanted_images_come_squashed_bilinearly(files: list[ClassFile], tmp_path: Path, size: int) -> None:
    got = load(files, tmp_path / "store", size=size)
    assert got.pairs.tolist() == [[0, 0], [0, 1], [2, 0], [2, 4]]
    assert got.images.labels.tolist() == [0, 0, 2, 2]
    assert got.images.class_names == ("class 0", "class 1", "class 2")
    for row, (label, number) in enumerate(got.pairs):
        encoded = jpeg(picture(100 * label + number, *SIZES[label]))
        np.testing.assert_array_equal(got.images.inputs.pixels()[row], squashed(encoded, size))
    assert isinstance(got.images.inputs.chunks[0].table, np.memmap)
    assert f"squashed to {size}x{size} pixels, PIL bilinear with antialias" in got.rule == squash_rule(size)


def test_rows_lead_back_to_the_wanted_pairs(files: list[ClassFile], tmp_path: Path) -> None:
    got = load(files, tmp_path / "store")
    found = got.rows(PAIRS[:, 0], PAIRS[:, 1])
    assert got.pairs[found].tolist() == PAIRS.tolist()
    for missing in ((1, 0), (0, 2), (2, 5), (2, 1000), (3, 0)):
        with pytest.raises(KeyError, match=f"image {missing[1]} of class {missing[0]} is not"):
            got.rows(np.array([0, missing[0]]), np.array([0, missing[1]]))


@pytest.mark.parametrize("kind", ["grey", "grey png", "rgba", "palette", "cmyk"])
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, kind: str) -> None:
    pixels = picture(3)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    white = np.full_like(pixels, 255)
    expected: dict[str, tuple[bytes, NDArray[np.uint8]]] = {
        "grey": (jpeg(grey), np.repeat(grey[..., None], 3, axis=2)),
        "grey png": (jpeg(grey, "PNG"), np.repeat(grey[..., None], 3, axis=2)),
        "rgba": (jpeg(np.dstack([pixels, np.zeros_like(grey)]), "PNG"), white),
        "palette": (_converted(pixels, "P", "PNG"), pixels),
        "cmyk": (_converted(pixels, "CMYK", "JPEG"), pixels),
    }
    encoded, shown = expected[kind]
    write_records(tmp_path / "0.tfrecords", [encoded], 0)
    got = load([ClassFile(tmp_path / "0.tfrecords", 0, "a", 1)], tmp_path / "store", np.array([[0, 0]]), 12)
    difference = np.abs(got.images.inputs.pixels()[0].astype(int) - shown)
    assert difference.mean() < (20 if kind == "palette" else 4)


def _converted(pixels: NDArray[np.uint8], mode: str, format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format)
    return buffer.getvalue()


def test_a_second_opening_reads_no_record(
    files: list[ClassFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(files, tmp_path / "store")
    files[1].path.unlink()  # not wanted, so not needed
    monkeypatch.delattr(rows, "open_files")
    again = load(files, tmp_path / "store")
    assert again.images.fingerprint == first.images.fingerprint


def test_other_images_of_the_same_classes_reuse_the_index(
    files: list[ClassFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(files, tmp_path / "store")
    monkeypatch.delattr(index, "walk")
    assert load(files, tmp_path / "store", np.array([[2, 1], [0, 3]])).pairs.tolist() == [[0, 3], [2, 1]]


@pytest.mark.parametrize("workers", [1, 3])
def test_an_interrupted_decode_goes_on_with_the_same_bytes(
    files: list[ClassFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(table, "PIECE_ROWS", 3)
    everything = np.array([[label, number] for label in range(3) for number in range(COUNTS[label])])
    whole = load(files, tmp_path / "whole", everything)
    write = table.write_atomic

    def stop_at_third(path: Path, data: bytes) -> None:
        if path.name.startswith("000000006"):
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(table, "write_atomic", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        load(files, tmp_path / "cut", everything, workers=workers)
    monkeypatch.setattr(table, "write_atomic", write)
    got = load(files, tmp_path / "cut", everything, workers=workers)
    assert got.images.fingerprint == whole.images.fingerprint


def test_three_hundred_classes_make_one_table(tmp_path: Path) -> None:
    files = []
    for label in range(300):
        path = tmp_path / "meta" / f"{label}.tfrecords"
        write_records(path, [jpeg(np.full((4, 4, 3), label % 256, np.uint8))], label)
        files.append(ClassFile(path, label, f"{label}", 1))
    pairs = np.stack([np.arange(300), np.zeros(300, np.int64)], axis=1)
    got = load(files, tmp_path / "store", pairs, size=4)
    np.testing.assert_allclose(got.images.inputs.pixels()[:, 0, 0, 0], np.arange(300) % 256, atol=2)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.path.unlink(), r"12.tfrecords is missing: .* class 12 .'class 2'. of meta"),
        (
            lambda file: _append(file, b"12", 12),
            r"12.tfrecords holds 6 records, but .* promises 5 .*'class 2'",
        ),
        (lambda file: write_records(file.path, [], 12), r"12.tfrecords is empty: the records of class 12"),
        (lambda file: _rewrite(file, b"no image", 12), r"record at offset 0 \(no known image format\)"),
        (lambda file: _rewrite(file, jpeg(picture(0))[:300], 12), r"record at offset 0 \(Truncated"),
        (
            lambda file: _rewrite(file, jpeg(picture(0)), 3),
            r"offset 0 has label 3, but the file is of class 12",
        ),
        (lambda file: _frames(file, example(label=int_feature(12))), r"offset 0 is no Example .* 'image'"),
        (
            lambda file: _frames(file, example(image=bytes_feature(b"x"))),
            r"offset 0 is no Example .* 'label'",
        ),
        (lambda file: _frames(file, b"\x0a"), r"offset 0 is no Example .* cut off"),
        (lambda file: _flip(file, 40), r"the payload of the record at offset 0 has a wrong CRC"),
        (lambda file: _flip(file, 3), r"the length of the record at offset 0 has a wrong CRC"),
    ],
)
def test_a_damaged_class_is_refused_by_name(
    files: list[ClassFile], tmp_path: Path, damage: Callable[[ClassFile], None], reason: str
) -> None:
    damage(files[2])
    with pytest.raises(DataError, match=reason) as raised:
        load(files, tmp_path / "store")
    assert str(files[2].path) in str(raised.value)
    assert not [entry for entry in Store(tmp_path / "store").entries() if entry.kind == "images"]
    load(files, tmp_path / "store", np.array([[0, 0], [1, 0]]))  # the other classes are whole


def _append(file: ClassFile, image: bytes, label: int) -> None:
    file.path.write_bytes(file.path.read_bytes() + frame(image_example(image, label)))


def _rewrite(file: ClassFile, image: bytes, label: int) -> None:
    write_records(file.path, [image] * file.images, label)


def _frames(file: ClassFile, payload: bytes) -> None:
    file.path.write_bytes(frame(payload) * file.images)


def _flip(file: ClassFile, at: int) -> None:
    data = bytearray(file.path.read_bytes())
    data[at] ^= 16
    file.path.write_bytes(data)


@pytest.mark.parametrize("pair", [(3, 0), (-1, 0), (0, 4), (0, -1)])
def test_only_promised_images_can_be_wanted(
    files: list[ClassFile], tmp_path: Path, pair: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="meta: class"):
        load(files, tmp_path / "store", np.array([pair]))


def test_the_sources_are_those_of_the_paper() -> None:
    ten = {name: source for name, source in META_DATASET.items() if not source.extra}
    assert len(ten) == 10
    assert set(META_DATASET) - set(ten) == {"mnist", "cifar10", "cifar100"}
    assert [name for name, source in META_DATASET.items() if source.seen_by_imagenet] == ["ilsvrc_2012"]
    totals = {name: source.train + source.valid + source.test for name, source in META_DATASET.items()}
    assert totals["ilsvrc_2012"] == 1000
    assert totals["omniglot"] == 1623
    assert totals["fungi"] == 1394


def test_a_source_is_found_or_said_how_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / known.FOLDER / "dtd"
    with pytest.raises(DataError, match=r"dtd is not there \(looked for in .*\); download .* convert"):
        source_folder("dtd", roots=[tmp_path])
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match=r"dtd has no dataset_spec\.json"):
        source_folder("dtd", roots=[tmp_path])
    (folder / "dataset_spec.json").touch()
    monkeypatch.setenv("CARRYOVER_DATA", str(tmp_path))
    assert source_folder("dtd") == folder
    with pytest.raises(RequestError, match="did you mean 'fungi'"):
        source_folder("fungy")


@pytest.mark.parametrize("name", [name for name, source in META_DATASET.items() if not source.extra])
def test_the_sources_have_the_classes_of_their_specifications(name: str) -> None:
    files = [root / "meta-dataset-specs" / f"{name}_dataset_spec.json" for root in data_roots()]
    if not (there := [file for file in files if file.is_file()]):
        pytest.skip(f"{name}'s official specification is not in $CARRYOVER_DATA/meta-dataset-specs")
    ids = read_specification(there[0]).ids
    counts = tuple(len(ids.get(split, ())) for split in ("train", "valid", "test"))
    source = META_DATASET[name]
    assert counts == (source.train, source.valid, source.test)
