"""Folders as people have them: what is a part, a class or an image is known, asked for or said."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from source_files import IMAGE, draw, encode, parquet_bytes, thirds, write_folder, write_parquet

from benchmarks.errors import DataError, RequestError
from benchmarks.progress import Silent
from benchmarks.sources.decode import decode
from benchmarks.sources.local import LocalSource
from benchmarks.sources.lookup import open_source
from benchmarks.sources.parts import part_of
from benchmarks.sources.paths import escaped, parts_of
from benchmarks.sources.reading import Reading
from benchmarks.sources.source import SourceData
from benchmarks.store import Store

fresh = np.random.default_rng(18)


def put(path: Path, count: int = 3, suffix: str = ".png", format: str = "PNG") -> Path:
    """`count` images of noise in the folder `path`."""
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = fresh.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        (path / f"{number}{suffix}").write_bytes(encode(pixels, format))
    return path


def load(path: Path | str, size: int | None = None, **reading: object) -> SourceData:
    """A folder, or any source that is typed as a path."""
    name = f"folder:{path}" if isinstance(path, Path) else path
    cache = Path(name.partition(":")[2]).parent / "cache"
    return open_source(name, Reading(**reading)).load(Store(cache), Silent(), size)  # type: ignore[arg-type]


def said(data: SourceData) -> str:
    return "\n".join(data.notes)


def counts(data: SourceData) -> dict[str, int]:
    """Images of each class, train and test together."""
    return {name: sum(both) for name, both in zip(data.class_names, data.counts, strict=True)}


# Parts


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("train2017", "val2017"), ("train_set", "test_set")]
)
def test_parts_go_by_more_than_one_name(tmp_path: Path, train: str, test: str) -> None:
    for part, count in ((train, 5), (test, 2)):
        for name in ("glioma", "pituitary"):
            put(tmp_path / "d" / part / name, count)
    data = load(tmp_path / "d")
    assert data.counts == ((5, 2), (5, 2))
    assert data.class_names == ("glioma", "pituitary")


@pytest.mark.parametrize("name", ["train station", "bullet_train", "test tube", "training bike", "a"])
def test_names_that_merely_contain_a_part_are_no_parts(name: str) -> None:
    assert part_of(name) is None


def test_a_part_that_is_not_known_is_asked_for_and_can_be_trained_on_tested_on_or_left_out(
    tmp_path: Path,
) -> None:
    for part, count in (("train", 4), ("test", 2), ("extra", 6)):
        for name in ("cat", "dog"):
            put(tmp_path / "f" / part / name, count)
        pixels = draw(6, seed=count)[: 3 * (count // 2)]
        write_parquet(tmp_path / f"p/{part}-00000-of-00001.parquet", pixels, thirds(len(pixels)))
    for kind in ("f", "p"):
        with pytest.raises(DataError, match=r"extra.* is not known; add train_split=train[+]extra"):
            load(tmp_path / kind)
    assert load(tmp_path / "f", train_split="train+extra").counts == ((10, 2), (10, 2))
    data = load(tmp_path / "f", train_split="train")
    assert data.counts == ((4, 2), (4, 2))
    assert "left out, neither trained nor tested on: extra" in said(data)
    assert load(tmp_path / "f", test_split="extra").counts == ((4, 6), (4, 6))
    with pytest.raises(DataError, match="no part 'extras'; it has"):
        load(tmp_path / "f", train_split="extras")


def test_two_names_of_one_part_are_asked_for(tmp_path: Path) -> None:
    for part in ("train", "val", "valid"):
        put(tmp_path / "d" / part / "cat")
        put(tmp_path / "d" / part / "dog")
    with pytest.raises(DataError, match="val and valid, which both mean valid; add test_split="):
        load(tmp_path / "d")
    for stem in ("train", "train_extra", "test"):
        write_parquet(tmp_path / f"p/{stem}.parquet", draw(9), thirds(9))
    with pytest.raises(DataError, match="train and train_extra, which both mean train"):
        load(tmp_path / "p")


def test_the_validation_part_serves_as_test_where_no_test_part_has_labels_and_that_is_said(
    tmp_path: Path,
) -> None:
    for part in ("train", "val"):
        put(tmp_path / "f" / part / "cat", 4)
        put(tmp_path / "f" / part / "dog", 4)
    put(tmp_path / "f/test", 5)
    data = load(tmp_path / "f")
    assert len(data.test) == 8
    assert "validation split val serves as test, since test has no labels" in said(data)
    assert "left out, neither trained nor tested on: test" in said(data)
    assert len(load(tmp_path / "f", test_split="drawn").train) == 6
    write_parquet(tmp_path / "p/train.parquet", draw(30), thirds(30))
    write_parquet(tmp_path / "p/validation.parquet", draw(9, seed=1), thirds(9))
    images = [encode(image) for image in draw(4)]
    (tmp_path / "p/test.parquet").write_bytes(parquet_bytes(images, [-1] * 4))
    assert "since test has no labels" in said(load(tmp_path / "p"))
    bare = pa.table({"image": pa.array([{"bytes": image, "path": ""} for image in images], IMAGE)})
    pq.write_table(bare, tmp_path / "p/test.parquet")
    assert "since test has no labels" in said(load(tmp_path / "p"))


def test_a_class_may_be_called_like_a_part(tmp_path: Path) -> None:
    for name in ("car", "train", "bus"):
        put(tmp_path / "real" / name, 5)
    data = load(tmp_path / "real")
    assert counts(data) == {"bus": 5, "car": 5, "train": 5}
    put(tmp_path / "real/test", 5)
    with pytest.raises(DataError, match=r"train.*beside bus, car; add depth=1"):
        load(tmp_path / "real")
    assert len(load(tmp_path / "real", depth=1).class_names) == 4


# Levels


def trees(root: Path) -> dict[str, Path]:
    """Trees whose first level is not the classes."""
    for domain in ("art", "photo"):
        for name in ("cup", "fork"):
            put(root / "domains" / domain / name)
    for name in ("cup", "fork"):
        put(root / "wrapped/2750" / name)
    for task in ("biggan", "gaugan"):  # as CDDB has them
        for part in ("train", "val"):
            for name in ("0_real", "1_fake"):
                put(root / "cddb" / task / part / name)
                put(root / "deeper" / task / part / "person" / name)
    for session in ("s1", "s2"):  # as CORe50 has them
        for thing in ("o1", "o2"):
            put(root / "core50" / session / thing)
    return {path.name: path for path in root.iterdir()}


@pytest.mark.parametrize("tree", ["domains", "wrapped", "cddb", "deeper", "core50"])
def test_folders_of_folders_are_no_classes_unless_depth_says_so(tmp_path: Path, tree: str) -> None:
    path = trees(tmp_path)[tree]
    with pytest.raises(DataError, match=r"holds no images itself but .*(add|or) depth=1"):
        load(path)
    data = load(path, depth=1) if tree != "wrapped" else load(path, depth=2)
    assert len(data.class_names) == 2


def test_depth_names_the_level_of_the_classes(tmp_path: Path) -> None:
    found = trees(tmp_path)
    assert load(found["wrapped"], depth=2).class_names == ("cup", "fork")
    with pytest.raises(DataError, match=r"class folder cup is in .*art, .*photo; add merge=true"):
        load(found["domains"], depth=2)
    assert counts(load(found["domains"], depth=2, merge=True)) == {"cup": 6, "fork": 6}
    assert load(found["domains"], depth=2, merge=False).class_names == (
        *("art/cup", "art/fork", "photo/cup", "photo/fork"),
    )
    with pytest.raises(DataError, match="art/cup holds images above the class folders of depth=4"):
        load(found["domains"], depth=4)
    put(found["domains"] / "art", 1)
    with pytest.raises(DataError, match="art holds images above the class folders of depth=2"):
        load(found["domains"], depth=2, merge=True)
    with pytest.raises(RequestError, match="depth=0 lies outside 1 to 20"):
        load(found["domains"], depth=0)


def test_images_below_a_class_folder_that_holds_some_belong_to_it_and_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "d/cat", 4)
    put(tmp_path / "d/dog", 4)
    put(tmp_path / "d/cat/kittens", 2)
    data = load(tmp_path / "d")
    assert counts(data) == {"cat": 6, "dog": 4}
    assert "taken in from folders below the class folder (kittens): cat 2" in said(data)
    put(tmp_path / "d/dog/a/b", 2)
    with pytest.raises(DataError, match="dog holds folders within folders"):
        load(tmp_path / "d")


# Files


@pytest.mark.parametrize(
    ("suffix", "format"),
    [
        (".jfif", "JPEG"),
        (".JPG", "JPEG"),
        (".jpe", "JPEG"),
        ("", "PNG"),
        (".jpg_large", "JPEG"),
        (".0", "WEBP"),
    ],
)
def test_images_of_unusual_names_are_images(tmp_path: Path, suffix: str, format: str) -> None:
    put(tmp_path / "d/cat", 3, ".png")
    put(tmp_path / "d/dog", 3, ".png")
    put(tmp_path / "d/cat", 4, suffix, format)
    assert counts(load(tmp_path / "d")) == {"cat": 7, "dog": 3}


def test_what_is_no_image_is_left_out_and_counted_per_class(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        put(tmp_path / "d" / name)
    (tmp_path / "d/cat/notes.txt").write_text("x")
    (tmp_path / "d/cat/half.jpg.part").write_bytes(encode(draw(1)[0], "JPEG"))
    (tmp_path / "d/readme.md").write_text("x")
    data = load(tmp_path / "d")
    assert counts(data) == {"cat": 3, "dog": 3}
    assert "left out, files that are no images (.txt): cat 1" in said(data)
    assert "left out, files that are no images (.part): cat 1" in said(data)
    put(tmp_path / "d/dog", 2, ".heic")
    assert "raw files beside their images: dog 2" in said(load(tmp_path / "d"))
    for number in "01":
        (tmp_path / f"d/dog/{number}.png").rename(tmp_path / f"d/dog/a{number}.png")
    with pytest.raises(DataError, match=r"dog holds 2 .*\(.heic: 0.heic, 1.heic\); convert") as caught:
        load(tmp_path / "d")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "folder", ["@eaDir/0.png", ".thumbnails", "__MACOSX", "#recycle", ".@__thumb", "thumbs", "$RECYCLE.BIN"]
)
def test_folders_of_systems_are_no_part_of_the_data(tmp_path: Path, folder: str) -> None:
    for name in ("cat", "dog"):
        put(tmp_path / "d" / name)
    before = load(tmp_path / "d").fingerprint
    put(tmp_path / "d/cat" / folder, 2)
    (tmp_path / "d/cat/Thumbs.db").write_bytes(b"x")
    (tmp_path / "d/cat/.DS_Store").write_bytes(b"x")
    (tmp_path / "d/cat/._0.png").write_bytes(b"x")
    data = load(tmp_path / "d")
    assert data.fingerprint == before
    assert f"in system folders ({folder.partition('/')[0]}): cat 2" in said(data)
    assert "hidden files: cat 1" in said(data)


def test_system_folders_beside_the_classes_are_no_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        put(tmp_path / "d" / name)
    put(tmp_path / "d/__MACOSX/cat")
    put(tmp_path / "d/@eaDir/cat.png")
    data = load(tmp_path / "d")
    assert data.class_names == ("cat", "dog")
    assert "in system folders (__MACOSX): 3 files" in said(data)


def test_links_are_followed_and_said_and_those_that_lead_back_are_not(tmp_path: Path) -> None:
    put(tmp_path / "d/cat")
    put(tmp_path / "d/dog")
    put(tmp_path / "disk2", 5, ".jpg", "JPEG")
    (tmp_path / "d/cat/more").symlink_to(tmp_path / "disk2")
    (tmp_path / "d/dog/up").symlink_to(tmp_path / "d")
    (tmp_path / "d/fox").symlink_to(put(tmp_path / "elsewhere"))
    data = load(tmp_path / "d")
    assert counts(data) == {"cat": 8, "dog": 3, "fox": 3}
    assert "taken in through linked folders (more): cat 5" in said(data)
    assert "links that lead back (up): dog 1" in said(data)


def test_everything_broken_is_named_at_once_over_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            put(tmp_path / "d" / part / name)
    broken = [tmp_path / "d" / p for p in ("train/cat/0.png", "train/dog/2.png", "test/dog/1.png")]
    for path in broken:
        path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load(tmp_path / "d")
    assert all(str(path) in str(caught.value) for path in broken)
    assert "3 of 12 images" in str(caught.value)
    assert "\n" not in str(caught.value)
    images: Sequence[bytes | None] = [None if row in (3, 17) else encode(draw(1)[0]) for row in range(30)]
    (tmp_path / "p").mkdir()
    (tmp_path / "p/train.parquet").write_bytes(parquet_bytes(images, thirds(30)))
    with pytest.raises(DataError, match=r"2 of 30 images.*row 3 .*row 17 "):
        load(tmp_path / "p")


def test_dangling_links_are_named_together(tmp_path: Path) -> None:
    put(tmp_path / "d/cat")
    put(tmp_path / "d/dog")
    for name in ("x.png", "y.png"):
        (tmp_path / "d/cat" / name).symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"2 files cannot be read: .*x.png .*y.png .*restore or remove them"):
        load(tmp_path / "d")


# The same image on both sides


def test_test_images_that_are_in_train_are_counted_however_they_are_stored(tmp_path: Path) -> None:
    pixels = draw(12)
    write_folder(tmp_path / "d/train", pixels, thirds(12))
    write_folder(tmp_path / "d/test", draw(6, seed=1), thirds(6))
    assert "also in train" not in said(load(tmp_path / "d"))
    for number, name in ((0, "ant"), (5, "bee"), (11, "bee")):  # the last is a cat in train
        Image.fromarray(pixels[number]).save(tmp_path / f"d/test/{name}/again{number}.bmp")
    data = load(tmp_path / "d")
    assert "3 test images of 9 are also in train (identical pixels: ant 1, bee 2), 1 of them under" in said(
        data
    )
    Image.fromarray(pixels[0]).save(tmp_path / "d/train/ant/twice.bmp")
    assert "1 training image of 13 repeat" in said(load(tmp_path / "d"))


# Names and orders of classes


def test_numbered_classes_have_one_order_whatever_holds_them(tmp_path: Path) -> None:
    pixels = draw(24)
    labels = [number // 2 for number in range(24)]
    names = [str(label) for label in range(12)]
    write_folder(tmp_path / "folder/train", pixels, labels, names)
    write_folder(tmp_path / "folder/test", pixels ^ np.uint8(1), labels, names)
    lines = []
    for part, shown in (("train", pixels), ("test", pixels ^ np.uint8(1))):
        images = [encode(image) for image in shown]
        (tmp_path / "numbers").mkdir(exist_ok=True)
        (tmp_path / "words").mkdir(exist_ok=True)
        (tmp_path / f"numbers/{part}.parquet").write_bytes(parquet_bytes(images, labels, None))
        texts = [str(label) for label in labels]
        (tmp_path / f"words/{part}.parquet").write_bytes(parquet_bytes(images, texts, None))
        lines += [f"folder/{part}/{label}/{n:03}.png {label} {part}" for n, label in enumerate(labels)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = [load(tmp_path / kind) for kind in ("folder", "numbers", "words")]
    found.append(load(f"list:{tmp_path}/list.txt"))
    assert {data.class_names for data in found} == {("0", "1", "10", "11", *"23456789")}
    for data in found:
        for number, name in enumerate(data.class_names):
            mine = data.train.inputs.pixels(np.flatnonzero(data.train.labels == number))
            np.testing.assert_array_equal(mine, pixels[2 * int(name) : 2 * int(name) + 2])
        assert "ordered as words, as folders are: 0, 1, 10, 11" in said(data)


# Parquet


@pytest.mark.parametrize("kind", [pa.large_binary(), pa.binary_view(), pa.binary()])
@pytest.mark.parametrize("text", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_bytes_and_text_of_any_width_are_read(tmp_path: Path, kind: pa.DataType, text: pa.DataType) -> None:
    (tmp_path / "d").mkdir()
    for part in ("train", "test"):
        images = pa.array([encode(image) for image in draw(6, seed=len(part))], kind)
        labels = pa.array(["ab"[row % 2] for row in range(6)], pa.string()).cast(text)
        pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / f"d/{part}.parquet")
    assert load(tmp_path / "d").counts == ((3, 3), (3, 3))


def test_columns_of_other_names_are_found_where_one_fits_and_asked_for_otherwise(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()

    def write(**columns: object) -> None:
        images = [{"bytes": encode(image), "path": "x"} for image in draw(9)]
        table = pa.table({"photo": pa.array(images, IMAGE), "image_id": list(range(9)), **columns})
        pq.write_table(table, tmp_path / "d/train.parquet")

    species = ["ab"[row % 2] for row in range(9)]
    write(species=species)
    data = load(tmp_path / "d")
    assert data.class_names == ("a", "b")
    assert "labels are column 'species', the only one of its kind" in said(data)
    assert said(data) == said(load(tmp_path / "d")), "as when it was decoded"
    write(species=species, genus=species)
    with pytest.raises(DataError, match=r"several label columns \(species, genus\); name one by label_"):
        load(tmp_path / "d")
    assert load(tmp_path / "d", label_column="genus").class_names == ("a", "b")
    images = pa.array([{"bytes": encode(image), "path": "x"} for image in draw(9)], IMAGE)
    write(species=species, mask=images)
    with pytest.raises(DataError, match=r"several image columns \(photo, mask\); name one by image_column="):
        load(tmp_path / "d")
    assert load(tmp_path / "d", image_column="photo").class_names == ("a", "b")


# Formats, depth of pixels


def test_data_in_another_format_are_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "data/cifar100/cifar-100-python").mkdir(parents=True)
    (tmp_path / "data/cifar100/cifar-100-python/train").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(DataError, match=r"pickles of torchvision.*parquet"):
        open_source("cifar100", roots=[tmp_path / "data"]).load(Store(tmp_path / "cache"), Silent())
    (tmp_path / "z").mkdir()
    with zipfile.ZipFile(tmp_path / "z/images.zip", "w") as archive:
        archive.writestr("a/1.png", encode(draw(1)[0]))
    with pytest.raises(DataError, match=r"images.zip, an archive, to be unpacked"):
        load(tmp_path / "z")


def deep(path: Path, top: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.linspace(0, top, 36).reshape(6, 6).astype(np.uint16)).save(path)


def test_sixteen_bit_grey_is_read_by_its_significant_bits_the_same_for_all_images(tmp_path: Path) -> None:
    for number, top in enumerate((4095, 3000, 4000, 2100)):
        deep(tmp_path / f"d/{'ab'[number % 2]}/{number}.png", top)
    data = load(tmp_path / "d")
    assert "16-bit images are read with 12 significant bits" in said(data)
    assert max(int(part.inputs.pixels().max()) for part in (data.train, data.test)) == 255
    deep(tmp_path / "d/a/dark.png", 900)
    with pytest.raises(DataError, match=r"10 bits in .*dark.png, 12 bits in .*cannot be told; add bits=12"):
        load(tmp_path / "d")
    dark = load(tmp_path / "d", bits=12)
    levels = [int(image.max()) for part in (dark.train, dark.test) for image in part.inputs.pixels()]
    assert sorted(levels)[0] == 900 >> 4
    with pytest.raises(DataError, match="need 12 bits, more than bits=10"):
        load(tmp_path / "d", bits=10)
    assert decode("x", tmp_path / "d/a/0.png").max() == 255


# Names that mean two things


def test_a_folder_of_the_users_is_never_hidden_by_a_name_that_ships(tmp_path: Path) -> None:
    for name in ("digits", "objects"):
        put(tmp_path / name / "cup")
        with pytest.raises(DataError, match=f"{name} is a data set that ships .*folder:{tmp_path / name}"):
            open_source(name, roots=[tmp_path]).load(Store(tmp_path / "cache"), Silent())
    for root in ("one", "two"):
        put(tmp_path / root / "birds/owl")
        put(tmp_path / root / "birds/wren")
    source = open_source("birds", roots=[tmp_path / "one", tmp_path / "two"])
    notes = said(source.load(Store(tmp_path / "cache"), Silent()))
    assert f"{tmp_path}/two/birds is not" in notes


def test_what_does_not_apply_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    put(tmp_path / "d/cat")
    put(tmp_path / "d/dog")
    with pytest.raises(RequestError, match="label_column=x does not apply, since its files are images"):
        load(tmp_path / "d", label_column="x")
    write_parquet(tmp_path / "p/train.parquet", draw(9), thirds(9))
    with pytest.raises(RequestError, match="depth=2 does not apply, since its files are parquet"):
        load(tmp_path / "p", depth=2)
    with pytest.raises(RequestError, match="depth=2 does not apply"):
        open_source("digits", Reading(depth=2), roots=[])


def test_a_sign_in_a_path_is_part_of_the_path(tmp_path: Path) -> None:
    for name in ("a,b", "c++", "d"):
        (tmp_path / name).mkdir()
    assert parts_of(f"split:folder:{tmp_path}/a,b?tasks=2,split-digits", ",") == [
        *(f"split:folder:{tmp_path}/a,b?tasks=2", "split-digits"),
    ]
    assert parts_of(f"folder:{tmp_path}/c+++folder:{tmp_path}/d+digits", "+") == [
        *(f"folder:{tmp_path}/c++", f"folder:{tmp_path}/d", "digits"),
    ]
    assert parts_of(f"vit?weights={tmp_path}/a,b/w.safetensors", ",")[0] == f"vit?weights={tmp_path}/a"
    (tmp_path / "a,b/w.safetensors").write_bytes(b"")
    assert parts_of(f"vit?weights={tmp_path}/a,b/w.safetensors", ",") == [
        f"vit?weights={tmp_path}/a,b/w.safetensors"
    ]
    (tmp_path / "a").mkdir()
    whole = f"split:folder:{tmp_path}/a,b?tasks=2"
    with pytest.raises(RequestError, match=r"may name one path or several"):
        parts_of(whole, ",")
    assert parts_of(escaped(whole), ",") == [whole]


# Without labels


def test_bare_images_are_one_nameless_class_for_pretraining_and_refused_elsewhere(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    put(tmp_path / "bare", 10)
    put(tmp_path / "flat/train", 10)
    put(tmp_path / "labelled/cat")
    for name in ("bare", "flat"):
        data = LocalSource(name, tmp_path / name).load_bare(store, Silent())
        assert data is not None
        assert (len(data.train), len(data.test), data.class_names) == (8, 2, ("",))
        with pytest.raises(DataError, match="holds images but no class folders"):
            load(tmp_path / name)
    assert LocalSource("labelled", tmp_path / "labelled").load_bare(store, Silent()) is None
    images = [{"bytes": encode(image), "path": ""} for image in draw(10)]
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.table({"image": pa.array(images, IMAGE)}), tmp_path / "parquet/train.parquet")
    data = LocalSource("parquet", tmp_path / "parquet").load_bare(store, Silent())
    assert data is not None
    assert (len(data.train), len(data.test)) == (8, 2)


def test_labels_of_a_column_are_not_taken_from_class_folders(tmp_path: Path) -> None:
    put(tmp_path / "cifar100/train/apple")
    put(tmp_path / "cifar100/test/apple")
    with pytest.raises(DataError, match="column 'coarse_label' of parquet files"):
        open_source("cifar100-coarse", roots=[tmp_path]).load(Store(tmp_path / "cache"), Silent())


def test_classes_of_their_own_for_train_and_test_are_found(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    for part, names in (("train", "abc"), ("val", "de"), ("test", "fg")):
        for name in names:
            put(tmp_path / "mini" / part / name)
    parts = LocalSource("mini", tmp_path / "mini").class_parts(store, Silent())
    assert parts is not None
    assert {kind: part.class_names for kind, part in parts.items()} == {
        "train": ("a", "b", "c"),
        "valid": ("d", "e"),
        "test": ("f", "g"),
    }
    with pytest.raises(DataError, match="episodes:SOURCE"):
        load(tmp_path / "mini")
    put(tmp_path / "mini/test/a")
    assert LocalSource("mini", tmp_path / "mini").class_parts(store, Silent()) is None


@pytest.mark.skipif(
    "CARRYOVER_DATA" not in os.environ, reason="CARRYOVER_DATA names no folder with real data"
)
def test_cifar100s_ten_copies_are_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store.default() if os.environ.get("CARRYOVER_CACHE") else Store(tmp_path_factory.mktemp("cache"))
    data = open_source("cifar100").load(store, Silent())
    assert "10 test images of 10,000 are also in train" in said(data)
