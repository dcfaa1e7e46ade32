"""A list of images is a source like any other: path, label and split, in the forms that lists have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from source_files import draw, thirds, write_folder

from benchmarks.errors import DataError
from benchmarks.progress import Silent
from benchmarks.sources.lookup import open_source
from benchmarks.sources.reading import Reading
from benchmarks.sources.source import SourceData
from benchmarks.store import Store

FILES = [f"images/{name}/{row:03}.png" for row, name in enumerate(["ant"] * 4 + ["bee"] * 4 + ["cat"] * 4)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_folder(tmp_path / "images", draw(12), thirds(12))
    return tmp_path


def load(file: Path, text: str, **reading: str) -> SourceData:
    file.write_text(text)
    source = open_source(f"list:{file}", Reading(**reading))  # type: ignore[arg-type]
    return source.load(Store(file.parent / "cache"), Silent())


def lines(sign: str, head: str = "", splits: bool = True) -> str:
    named = [
        sign.join([path, path.split("/")[1], *(["test" if row % 4 == 3 else "train"] * splits)])
        for row, path in enumerate(FILES)
    ]
    return "\n".join([*([head] if head else []), *named]) + "\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", lines(",")),
        ("a.csv", lines(",", "filename,class,split")),
        ("a.csv", lines(";", "path;label;subset")),
        ("a.tsv", lines("\t")),
        ("a.txt", lines(" ")),
        ("a.lst", lines("\t")),
    ],
)
def test_a_list_is_read_whatever_separates_it(root: Path, name: str, text: str) -> None:
    data = load(root / name, text)
    assert data.class_names == ("ant", "bee", "cat")
    assert data.counts == ((3, 1),) * 3
    np.testing.assert_array_equal(data.train.inputs.pixels()[0], draw(12)[0])


def test_without_splits_a_fifth_is_drawn_and_with_others_they_are_asked_for(root: Path) -> None:
    assert "test drawn" in load(root / "a.csv", lines(",", splits=False)).rule
    text = lines(",").replace("ant,train", "ant,extra")
    with pytest.raises(DataError, match=r"extra .*is not known; add train_split=train[+]extra"):
        load(root / "a.csv", text)
    assert load(root / "a.csv", text, train_split="train+extra").counts == ((3, 1),) * 3


def test_a_file_of_classes_says_what_the_numbers_mean(root: Path) -> None:
    numbers = {"ant": "2", "bee": "0", "cat": "1"}
    text = "\n".join(f"{path} {numbers[path.split('/')[1]]}" for path in FILES)
    assert load(root / "a.txt", text).class_names == ("0", "1", "2")
    for said in ("bee\ncat\nant\n", "0 bee\n1 cat\n2 ant\n"):
        (root / "classes.txt").write_text(said)
        data = load(root / "a.txt", text, class_list="classes.txt")
        assert data.class_names == ("bee", "cat", "ant")
        for label, name in enumerate(data.class_names):
            first = data.train.inputs.pixels(np.flatnonzero(data.train.labels == label))[0]
            rows = [row for row, path in enumerate(FILES) if path.split("/")[1] == name]
            assert any((first == draw(12)[row]).all() for row in rows)
    (root / "classes.txt").write_text("1 bee\n2 cat\n3 ant\n")
    with pytest.raises(DataError, match="not from 0"):
        load(root / "a.txt", text, class_list="classes.txt")
    (root / "classes.txt").write_text("bee\ncat\n")
    with pytest.raises(DataError, match="label 2 is none of the 2 classes"):
        load(root / "a.txt", text, class_list="classes.txt")


def test_paths_may_have_spaces_and_columns_other_names(root: Path) -> None:
    (root / "images/ant").rename(root / "images/an ant")
    text = lines(" ", splits=False).replace("images/ant", "images/an ant")
    assert len(load(root / "a.txt", text).class_names) == 3
    table = lines(",", "where,kind,note").replace("images/ant", "images/an ant").replace(",train", ",")
    data = load(root / "a.csv", table, image_column="where", label_column="kind")
    assert data.class_names == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lists no images"),
        ("images/ant/000.png\n", "line 1"),
        ("images/ant/000.png,\n", "line 1"),
        ("images/ant/000.png,ant\n./images/ant/000.png,bee\n", "line 2.*already in line 1; list it once"),
        ("a.png,ant\nb.png,bee\n", r"2 of 2 images .*a.png \(line 1\), b.png \(line 2\)"),
        ("a,b,c,d\n", "4 columns and no line of names"),
        ("path,label,class\na,b,c\n", "several label columns; name one by label_column="),
    ],
)
def test_what_is_wrong_with_a_list_is_one_sentence(root: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load(root / "a.csv", text)
    assert "\n" not in str(caught.value)
