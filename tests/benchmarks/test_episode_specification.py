"""Specifications of the three kinds say which classes, alphabets and nodes there are, or what is wrong."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.episodes.specification import read_specification
from benchmarks.errors import DataError, RequestError

SPECS = Path(os.environ.get("CARRYOVER_DATA", "nowhere"), "meta-dataset-specs")
official = pytest.mark.skipif(
    not SPECS.is_dir(), reason="CARRYOVER_DATA names no folder with meta-dataset-specs/ in it"
)

Spec = dict[str, Any]


def flat() -> Spec:
    """Only for tests: 6 classes of 10 to 15 images."""
    return {
        "name": "signs",
        "classes_per_split": {"TRAIN": 0, "VALID": 0, "TEST": 6},
        "images_per_class": {str(number): 10 + number for number in range(6)},
        "class_names": {str(number): f"sign {number}" for number in range(6)},
        "path": "/somewhere/else",
        "file_pattern": "{}.tfrecords",
        "__class__": "DatasetSpecification",
    }


def bi_level() -> Spec:
    """Alphabets of 5, 6 | 7 | 8 characters."""
    return {
        "name": "letters",
        "superclasses_per_split": {"TRAIN": 2, "VALID": 1, "TEST": 1},
        "classes_per_superclass": {"0": 5, "1": 6, "2": 7, "3": 8},
        "images_per_class": {str(number): 20 + number for number in range(26)},
        "superclass_names": {str(number): f"alphabet {number}" for number in range(4)},
        "class_names": {str(number): f"letter {number}" for number in range(26)},
        "path": "",
        "file_pattern": "{}.tfrecords",
    }


def hierarchical() -> Spec:
    """Training: root over a (leaves n0 to n5), b (n4 to n8), c (n8, n9) and a second way from b to a's n5."""
    below = {
        "root": ["a", "b", "c"],
        "a": [f"n{number}" for number in range(6)],
        "b": ["n4", "n5", "n6", "n7", "n8"],
        "c": ["n8", "n9"],
    }
    leaves = [f"n{number}" for number in range(10)]
    nodes = [*below.items(), *((leaf, []) for leaf in reversed(leaves))]
    graph = [{"wn_id": name, "words": name, "children_ids": c, "parents_ids": []} for name, c in nodes]
    return {
        "name": "objects",
        "split_subgraphs": {"TRAIN": graph, "VALID": [], "TEST": []},
        "images_per_class": {
            "TRAIN": {"root": 145, "a": 75, **{leaf: 10 + n for n, leaf in enumerate(leaves)}},
            "VALID": {},
            "TEST": {},
        },
        "class_names": {str(number): leaf for number, leaf in enumerate(leaves)},
        "path": "",
        "file_pattern": "{}.tfrecords",
    }


def write(folder: Path, spec: Spec) -> Path:
    path = folder / "dataset_spec.json"
    path.write_text(json.dumps(spec))
    return path


def test_a_flat_source_may_have_test_classes_only(tmp_path: Path) -> None:
    found = read_specification(write(tmp_path, flat()))
    assert (found.name, list(found.splits)) == ("signs", ["test"])
    test = found.classes("test")
    assert (test.source, test.split, test.structure, test.groups) == ("signs", "test", "flat", ())
    assert test.names[2] == "sign 2"
    assert test.counts.tolist() == [10, 11, 12, 13, 14, 15]
    assert found.file("test", 2) == tmp_path / "2.tfrecords"
    with pytest.raises(RequestError, match=r"signs has no train classes .*dataset_spec.json.*: test"):
        found.classes("train")


def test_class_ids_of_alphabets_run_through_the_splits(tmp_path: Path) -> None:
    found = read_specification(write(tmp_path, bi_level()))
    assert {split: part.tolist() for split, part in found.ids.items()} == {
        "train": list(range(11)),
        "valid": list(range(11, 18)),
        "test": list(range(18, 26)),
    }
    train = found.classes("train")
    assert train.structure == "alphabets"
    assert [group.tolist() for group in train.groups] == [list(range(5)), list(range(5, 11))]
    assert found.classes("test").counts[0] == 38
    assert found.file("valid", 0).name == "11.tfrecords"


def test_nodes_span_each_leaf_once_and_small_ones_are_left_out(tmp_path: Path) -> None:
    found = read_specification(write(tmp_path, hierarchical()))
    train = found.classes("train")
    assert list(found.splits) == ["train"]
    assert train.structure == "graph"
    assert train.names == tuple(f"n{number}" for number in range(10))
    assert train.counts.tolist() == list(range(10, 20))
    assert [group.tolist() for group in train.groups] == [list(range(10)), list(range(6)), [4, 5, 6, 7, 8]]


def test_nodes_above_392_leaves_are_left_out(tmp_path: Path) -> None:
    spec = hierarchical()
    leaves = [f"n{number:03}" for number in range(393)]
    below = {"root": leaves, "most": leaves[:392], **{leaf: [] for leaf in leaves}}
    spec["split_subgraphs"]["TRAIN"] = [{"wn_id": n, "children_ids": c} for n, c in below.items()]
    spec["images_per_class"]["TRAIN"] = dict.fromkeys(leaves, 20)
    spec["class_names"] = {str(number): leaf for number, leaf in enumerate(leaves)}
    train = read_specification(write(tmp_path, spec)).classes("train")
    assert [len(group) for group in train.groups] == [392]


@official
def test_official_sources_have_their_classes_and_nodes() -> None:
    sizes = {
        "ilsvrc_2012": (712, 158, 130),
        "omniglot": (883, 81, 659),
        "aircraft": (70, 15, 15),
        "cu_birds": (140, 30, 30),
        "dtd": (33, 7, 7),
        "quickdraw": (241, 52, 52),
        "fungi": (994, 200, 200),
        "vgg_flower": (71, 15, 16),
        "traffic_sign": (0, 0, 43),
        "mscoco": (0, 40, 40),
        "ilsvrc_2012_v2": (1000, 0, 0),
    }
    for source, expected in sizes.items():
        found = read_specification(SPECS / f"{source}_dataset_spec.json")
        assert found.name.startswith(source.removesuffix("_v2"))
        parts = [found.ids.get(split, np.empty(0)) for split in ("train", "valid", "test")]
        assert tuple(map(len, parts)) == expected
        assert np.concatenate(parts).tolist() == list(range(sum(expected)))
        if source == "ilsvrc_2012":
            assert [len(part.groups) for part in found.splits.values()] == [113, 18, 15]
            assert all(list(part.names) == sorted(part.names) for part in found.splits.values())


def without(*keys: str) -> Callable[[Spec], None]:
    def change(spec: Spec) -> None:
        for key in keys[:-1]:
            spec = spec[key]
        del spec[keys[-1]]

    return change


def having(value: object, *keys: str) -> Callable[[Spec], None]:
    def change(spec: Spec) -> None:
        for key in keys[:-1]:
            spec = spec[key]
        spec[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("make", "change", "said"),
    [
        (flat, without("class_names"), "missing required field `class_names`"),
        (flat, without("images_per_class"), "missing required field `images_per_class`"),
        (flat, without("images_per_class", "3"), "class 3 is missing from images_per_class"),
        (flat, without("class_names", "5"), "class 5 is missing from class_names"),
        (flat, without("classes_per_split", "VALID"), "split 'VALID' is missing from classes_per_split"),
        (flat, having(7, "classes_per_split", "TEST"), "class 6 is missing from images_per_class"),
        (flat, having(-1, "classes_per_split", "TEST"), "`int` >= 0"),
        (flat, having("many", "images_per_class", "1"), "Expected `int`, got `str`"),
        (flat, having(4, "classes_per_split", "TEST"), "signs, split test: 4 classes; .* at least 5"),
        (flat, having(0, "classes_per_split", "TEST"), "signs has no class in any split"),
        (flat, having(1, "images_per_class", "4"), "split test: class 'sign 4' has 1 images"),
        (flat, having("file", "file_pattern"), "file_pattern 'file' must hold {} once"),
        (bi_level, without("classes_per_superclass", "1"), "class 1 is missing from classes_per_superclass"),
        (bi_level, having(4, "classes_per_superclass", "0"), r"split train: group 0 .* has 4 classes"),
        (bi_level, having(9, "classes_per_superclass", "3"), "class 26 is missing from images_per_class"),
        (bi_level, having(0, "images_per_class", "12"), "split valid: class 'letter 12' has 0 images"),
        (hierarchical, without("split_subgraphs", "TEST"), "split 'TEST' is missing from split_subgraphs"),
        (hierarchical, without("class_names", "4"), "class 'n4' is missing from class_names"),
        (hierarchical, having("n3", "class_names", "4"), "class_names names a class twice"),
        (
            hierarchical,
            without("images_per_class", "TRAIN", "n7"),
            "class 'n7' is missing from images_per_class",
        ),
    ],
)
def test_a_broken_specification_is_refused(
    tmp_path: Path, make: Callable[[], Spec], change: Callable[[Spec], None], said: str
) -> None:
    spec = make()
    change(spec)
    path = write(tmp_path, spec)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}.*{said}"):
        read_specification(path)


def test_a_broken_graph_is_refused(tmp_path: Path) -> None:
    spec = hierarchical()
    nodes = {node["wn_id"]: node for node in spec["split_subgraphs"]["TRAIN"]}
    nodes["b"]["children_ids"].append("gone")
    with pytest.raises(DataError, match="class 'gone' is missing from split_subgraphs"):
        read_specification(write(tmp_path, spec))
    nodes["b"]["children_ids"][-1] = "root"
    with pytest.raises(DataError, match="node 'root' of split_subgraphs is its own descendant"):
        read_specification(write(tmp_path, spec))
    nodes["b"]["children_ids"].pop()
    spec["split_subgraphs"]["TRAIN"].append(nodes["n0"])
    with pytest.raises(DataError, match=r"split_subgraphs \(TRAIN\) names a class twice"):
        read_specification(write(tmp_path, spec))


def test_a_missing_or_unreadable_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "dataset_spec.json"
    with pytest.raises(DataError, match=rf"{path} cannot be read \(No such file.*conversion wrote"):
        read_specification(path)
    for text in (b"{", b"[1]", b"\xff\xfe", b""):
        path.write_bytes(text)
        with pytest.raises(
            DataError, match=rf"{path} is no specification of a data set \(.*conversion wrote"
        ):
            read_specification(path)
