"""A source is what its files say, however they are laid out; what it cannot be is said in one sentence."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from source_files import NAMES, draw, encode, parquet_bytes, thirds, write_folder, write_parquet

from benchmarks.errors import RequestError
from benchmarks.progress import Silent
from benchmarks.sources import table as table_module
from benchmarks.sources.lookup import open_source, source_names
from benchmarks.sources.source import SourceData
from benchmarks.store import Store

TRAIN, TEST = draw(30), draw(9, seed=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def load(path: Path, store: Store, size: int | None = None) -> SourceData:
    return open_source(f"folder:{path}").load(store, Silent(), size)


def test_parquet_and_image_folders_of_the_same_pixels_are_the_same_data(tmp_path: Path, store: Store) -> None:
    write_parquet(tmp_path / "p/data/train-00000-of-00002.parquet", TRAIN[:11], thirds(30)[:11])
    write_parquet(tmp_path / "p/data/train-00001-of-00002.parquet", TRAIN[11:], thirds(30)[11:])
    write_parquet(tmp_path / "p/data/test-00000-of-00001.parquet", TEST, thirds(9))
    write_folder(tmp_path / "f/train", TRAIN, thirds(30))
    write_folder(tmp_path / "f/test", TEST, thirds(9))
    parquet, folder = load(tmp_path / "p", store), load(tmp_path / "f", store)
    for data in (parquet, folder):
        np.testing.assert_array_equal(data.train.inputs.pixels(), TRAIN)
        np.testing.assert_array_equal(data.test.inputs.pixels(), TEST)
        assert data.train.labels.tolist() == thirds(30)
        assert data.class_names == NAMES
    assert parquet.fingerprint == folder.fingerprint
    write_folder(tmp_path / "g/train", TRAIN, thirds(30))
    write_folder(tmp_path / "g/test", TEST ^ np.uint8(1), thirds(9))
    assert load(tmp_path / "g", store).fingerprint != parquet.fingerprint


@pytest.mark.parametrize("split", ["valid", "val", "validation"])
def test_a_validation_split_serves_as_test_only_where_there_is_no_test(
    tmp_path: Path, store: Store, split: str
) -> None:
    write_parquet(tmp_path / "d/train.parquet", TRAIN, thirds(30))
    write_parquet(tmp_path / f"d/{split}.parquet", TEST, thirds(9))
    data = load(tmp_path / "d", store)
    assert len(data.test) == 9
    assert "validation" in data.rule
    write_parquet(tmp_path / "d/test.parquet", TEST[::3], thirds(9)[::3])
    assert len(load(tmp_path / "d", store).test) == 3


def test_without_a_test_split_a_fifth_of_each_class_is_drawn_and_the_path_does_not_matter(
    tmp_path: Path, store: Store
) -> None:
    for place in ("here", "there"):
        write_folder(tmp_path / place, TRAIN, thirds(30))
    data, other = load(tmp_path / "here", store), load(tmp_path / "there", store)
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert np.bincount(data.train.labels).tolist() == [8, 8, 8]
    assert not set(data.train.inputs.ids) & set(data.test.inputs.ids)
    assert "drawn" in data.rule
    assert data.fingerprint == other.fingerprint


def test_digits_are_the_digits(store: Store) -> None:
    from sklearn.datasets import load_digits

    data = open_source("digits").load(store, Silent())
    assert (len(data.train), len(data.test), data.train.inputs.image_size) == (1438, 359, (8, 8))
    order = np.argsort(np.concatenate([data.train.inputs.ids, data.test.inputs.ids]))
    pixels = np.concatenate([data.train.inputs.pixels(), data.test.inputs.pixels()])[order]
    labels = np.concatenate([data.train.labels, data.test.labels])[order]
    np.testing.assert_array_equal(np.round(pixels[..., 1] / (255 / 16)), load_digits().images)
    np.testing.assert_array_equal(labels, load_digits().target)
    squashed = open_source("digits").load(store, Silent(), 16)
    assert squashed.train.inputs.image_size == (16, 16)
    assert "16x16" in squashed.rule


def test_text_labels_and_bare_numbers_name_their_classes(tmp_path: Path, store: Store) -> None:
    images = [encode(image) for image in TRAIN]
    for name, labels, classes in (
        ("words", [f"w{label}" for label in thirds(30)], ("w0", "w1", "w2")),
        ("numbers", [10 * label for label in thirds(30)], ("0", "10", "20")),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.parquet").write_bytes(parquet_bytes(images, labels, None))
        data = load(tmp_path / name, store)
        assert data.class_names == classes
        assert np.bincount(data.train.labels).tolist() == [8, 8, 8]


def test_a_name_is_looked_up_under_the_data_root(tmp_path: Path, store: Store) -> None:
    write_folder(tmp_path / "birds", TRAIN, thirds(30))
    write_folder(tmp_path / "imagenet-subset/train", TRAIN, thirds(30))
    write_folder(tmp_path / "imagenet-subset/val", TEST, thirds(9))
    assert open_source("birds", roots=[tmp_path]).load(store, Silent()).class_names == NAMES
    assert len(open_source("imagenet-subset", roots=[tmp_path]).load(store, Silent()).test) == 9
    assert {"digits", "cifar100", "cifar10", "imagenet-subset", "folder:PATH"} <= set(source_names())


def broken(case: str, root: Path) -> str:
    """Make one bad data set below `root`; returns the source's name."""
    images, labels = [encode(image) for image in TRAIN], thirds(30)
    train, test = root / "train.parquet", root / "test.parquet"
    write_parquet(test, TEST, thirds(9))
    whole = parquet_bytes(images, labels)
    if case == "missing folder":
        return f"folder:{root}/nowhere"
    if case == "a file":
        return f"folder:{test}"
    if case == "no train":
        return f"folder:{root}"
    if case.startswith("folder"):
        folder = root / "images"
        write_folder(folder / "train", TRAIN, labels)
        write_folder(folder / "test", TEST, thirds(9))
        if case == "folder empty":
            (root / "empty").mkdir()
            return f"folder:{root}/empty"
        if case == "folder without images":
            (root / "other").mkdir()
            (root / "other/notes.txt").write_text("x")
            return f"folder:{root}/other"
        if case == "folder class empty":
            (folder / "train/dog").mkdir()
        if case == "folder classes differ":
            (folder / "test/bee").rename(folder / "test/bie")
        if case == "folder undecodable":
            (folder / "train/cat/025.png").write_bytes(encode(TRAIN[0])[:40])
        if case == "folder sizes":
            (folder / "train/cat/025.png").write_bytes(encode(draw(1, 5)[0]))
        if case == "folder test size":
            write_folder(folder / "test", draw(9, 5), thirds(9))
        if case == "folder strange name":
            (folder / "train/cat").rename(folder / "train" / os.fsdecode(b"caf\xe9"))
        if case == "folder dangling":
            (folder / "train/cat/zzz.png").symlink_to(root / "gone.png")
        return f"folder:{folder}"
    if case == "truncated":
        whole = whole[: len(whole) // 2]
    if case == "truncated inside":
        middle = len(whole) // 2
        whole = whole[: middle - 600] + bytes(600) + whole[middle:]
    if case == "zero bytes":
        whole = b""
    if case == "text":
        whole = b"version https://git-lfs.github.com/spec/v1\n"
    if case == "shard missing":
        train = root / "train-00001-of-00003.parquet"
    if case == "undecodable":
        whole = parquet_bytes([*images[:17], b"no image", *images[18:]], labels)
    if case == "null image":
        whole = parquet_bytes([*images[:17], None, *images[18:]], labels)
    if case == "label too big":
        whole = parquet_bytes(images, [*labels[:-1], 3])
    if case == "label negative":
        whole = parquet_bytes(images, [-1, *labels[1:]])
    if case == "label null":
        whole = parquet_bytes(images, [*labels[:4], None, *labels[5:]])
    if case == "label float":
        whole = parquet_bytes(images, [float(label) for label in labels])
    if case == "no image column":
        whole = parquet_bytes(images, labels, None, image_column="picture").replace(b"picture", b"picturf")
        train.write_bytes(whole)
    if case == "no label column":
        whole = parquet_bytes(images, labels, None, label_column="row_id")
    if case == "no rows":
        whole = parquet_bytes([], [], NAMES)
    if case == "no test images":
        write_parquet(test, TEST[:6], thirds(9)[:6])
    if case == "one image":
        test.unlink()
        whole = parquet_bytes([*images[:20], images[29]], [*labels[:20], 2])
    if case == "two data sets":
        test.rename(root / "spare.parquet")
        write_parquet(root / "a/train.parquet", TRAIN, labels)
        write_parquet(root / "b/train.parquet", TRAIN, labels)
        (root / "spare.parquet").unlink()
        return f"folder:{root}"
    train.write_bytes(whole)
    return f"folder:{root}"


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("missing folder", ["nowhere", "does not exist"]),
        ("a file", ["test.parquet", "not a folder"]),
        ("no train", ["no train split"]),
        ("folder empty", ["empty", "CLASS/*.jpg"]),
        ("folder without images", ["other", "CLASS/*.jpg"]),
        ("folder class empty", ["train/dog", "no images"]),
        ("folder classes differ", ["bee", "bie"]),
        ("folder undecodable", ["train/cat/025.png", "decoded"]),
        ("folder sizes", ["train/cat/025.png", "5x5", "6x6", "?size="]),
        ("folder test size", ["5x5", "6x6", "?size="]),
        ("folder strange name", [r"'caf\udce9'", "rename"]),
        ("folder dangling", ["train/cat/zzz.png", "restore or remove"]),
        ("truncated", ["train.parquet", "again"]),
        ("truncated inside", ["train.parquet"]),
        ("zero bytes", ["train.parquet", "0 bytes", "again"]),
        ("text", ["train.parquet", "again"]),
        ("shard missing", ["train-00000-of-00003.parquet", "missing"]),
        ("undecodable", ["train.parquet, row 17", "decoded"]),
        ("null image", ["train.parquet, row 17", "'image'"]),
        ("label too big", ["train.parquet, row 29", "label 3", "0 to 2"]),
        ("label negative", ["train.parquet, row 0", "label -1"]),
        ("label null", ["train.parquet, row 4", "missing"]),
        ("label float", ["train.parquet", "double"]),
        ("no label column", ["train.parquet", "no label column", "label_column=", "image, row_id"]),
        ("no rows", ["train", "no images"]),
        ("no test images", ["test images", "'cat'"]),
        ("one image", ["'cat'", "1 image,", "2"]),
        ("two data sets", ["a, b"]),
    ],
)
def test_bad_data_is_one_sentence_with_file_row_and_way_out(
    tmp_path: Path, store: Store, case: str, said: list[str]
) -> None:
    with pytest.raises(RequestError) as caught:
        open_source(broken(case, tmp_path / "data")).load(store, Silent())
    message = str(caught.value)
    for words in said:
        assert words in message
    assert "\n" not in message
    assert "; " in message or ": " in message, "the way out follows"
    assert not list(store.root.glob("*/*.pieces")), "nothing is kept of what cannot be finished"


def test_missing_data_names_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=r"'cifar1000'; did you mean 'cifar100'\?.*digits.*folder:PATH"):
        open_source("cifar1000", roots=[tmp_path])
    with pytest.raises(RequestError, match=f"{tmp_path}/imagenet-subset and .*CARRYOVER_DATA.*folder:PATH"):
        open_source("imagenet-subset", roots=[tmp_path])
    monkeypatch.setenv("CARRYOVER_DATA", str(tmp_path / "typo"))
    with pytest.raises(RequestError, match="typo does not exist"):
        open_source("cifar100")
    for name in ("..", "/etc", "", "."):
        with pytest.raises(RequestError, match="unknown source"):
            open_source(name, roots=[tmp_path])


def test_a_known_test_split_is_never_drawn(tmp_path: Path, store: Store) -> None:
    write_parquet(tmp_path / "cifar10/train.parquet", TRAIN, thirds(30))
    with pytest.raises(RequestError, match="cifar10 has no test split"):
        open_source("cifar10", roots=[tmp_path]).load(store, Silent())
    (tmp_path / "cifar10/test.parquet").write_bytes((tmp_path / "cifar10/train.parquet").read_bytes())
    with pytest.raises(RequestError, match=r"no image column 'img'; its columns are: image, label"):
        open_source("cifar10", roots=[tmp_path]).load(store, Silent())


@pytest.mark.skipif(
    "CARRYOVER_DATA" not in os.environ, reason="CARRYOVER_DATA names no folder with real data"
)
def test_real_cifar100_has_500_and_100_images_of_each_class_and_opens_at_once_the_second_time(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.default() if os.environ.get("CARRYOVER_CACHE") else Store(tmp_path_factory.mktemp("cache"))
    data = open_source("cifar100").load(store, Silent())
    assert np.bincount(data.train.labels).tolist() == [500] * 100
    assert np.bincount(data.test.labels).tolist() == [100] * 100
    assert (data.class_names[0], data.class_names[99]) == ("apple", "worm")
    assert data.train.inputs.image_size == (32, 32)
    assert "official" in data.rule

    def decoded_again(*args: object) -> None:
        raise AssertionError("a table that was in the store was decoded again")

    monkeypatch.setattr(table_module, "_make", decoded_again)
    start = time.perf_counter()
    again = open_source("cifar100").load(store, Silent())
    assert time.perf_counter() - start < 0.2
    assert again.fingerprint == data.fingerprint
