"""Meta-Dataset's dataset_spec.json: which classes each split has, of how many images, in which files.

There are three kinds: flat; bi-level (Omniglot: classes are the characters of alphabets); hierarchical
(ILSVRC: classes are the leaves of each split's graph over WordNet). Class ids number first the classes of
train, then those of valid, then those of test.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

import msgspec
import numpy as np

from benchmarks.episodes.classes import FEWEST_CLASSES, ClassSet, Structure
from benchmarks.errors import DataError, RequestError
from benchmarks.images import Indices

SPLITS = ("train", "valid", "test")
MOST_LEAVES = 392  # of a node that episodes are drawn from; the largest nodes say too little
_WAY_OUT = "take the dataset_spec.json that Meta-Dataset's conversion wrote with these records"

Key = TypeVar("Key", int, str)
Value = TypeVar("Value")
Size = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


@dataclass(frozen=True, eq=False)
class Specification:
    """One source of Meta-Dataset.

    name: of the source; file_pattern: a class's file name, such as "{}.tfrecords"; splits: those of "train",
    "valid" and "test" that have classes; ids: the class ids of each split, in the order of its classes; path:
    the file it was read from.
    """

    name: str
    file_pattern: str
    splits: Mapping[str, ClassSet]
    ids: Mapping[str, Indices]
    path: Path

    def classes(self, split: str) -> ClassSet:
        """The classes of `split`; RequestError for a split without any, such as traffic_sign's train."""
        if split not in self.splits:
            raise RequestError(
                f"{self.name} has no {split} classes ({self.path}); take a split that it has: "
                f"{', '.join(self.splits)}."
            )
        return self.splits[split]

    def file(self, split: str, position: int) -> Path:
        """The records of the class at `position` of `split`, in the folder of the specification."""
        self.classes(split)
        return self.path.parent / self.file_pattern.replace("{}", str(self.ids[split][position]))


def read_specification(path: Path) -> Specification:
    """The specification in the file `path`; DataError names the file, the class and the way out."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); {_WAY_OUT}, or correct the folder's name."
        ) from None
    try:
        spec = msgspec.json.decode(text, type=_kind(msgspec.json.decode(text, type=_Kind)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no specification of a data set ({error}); {_WAY_OUT}.") from None
    try:
        if spec.file_pattern.count("{}") != 1:
            raise DataError(
                f"file_pattern {spec.file_pattern!r} must hold {{}} once, for the class id; {_WAY_OUT}."
            )
        parts = {split: part for split in SPLITS if (part := spec.part(split.upper())).ids}
        if not parts:
            raise DataError(f"{spec.name} has no class in any split; {_WAY_OUT}.")
        splits = {split: spec.checked(split, part) for split, part in parts.items()}
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    ids = {split: np.array(part.ids, dtype=np.int64) for split, part in parts.items()}
    return Specification(spec.name, spec.file_pattern, splits, ids, path)


@dataclass(frozen=True)
class _Part:
    """One split: ids and numbers of images of its classes; groups of positions in these."""

    ids: Sequence[int]
    counts: Sequence[int]
    groups: Sequence[Sequence[int]] = ()


class _Named(msgspec.Struct):
    """What all kinds have; what the file has besides, as `path`, is passed over."""

    structure: ClassVar[Structure]

    name: str
    class_names: dict[int, str]
    file_pattern: str

    def part(self, split: str) -> _Part:
        """The classes of `split`, in the file's spelling."""
        raise NotImplementedError

    def checked(self, split: str, part: _Part) -> ClassSet:
        names = tuple(_at(self.class_names, id, "class_names") for id in part.ids)
        groups = tuple(np.array(group, dtype=np.int64) for group in part.groups)
        counts = np.array(part.counts, dtype=np.int64)
        return ClassSet(self.name, split, names, counts, self.structure, groups)


class _Flat(_Named):
    structure: ClassVar[Structure] = "flat"

    classes_per_split: dict[str, Size]
    images_per_class: dict[int, Size]

    def part(self, split: str) -> _Part:
        ids = _run(self.classes_per_split, split, "classes_per_split")
        return _Part(ids, [_at(self.images_per_class, id, "images_per_class") for id in ids])


class _BiLevel(_Named):
    structure: ClassVar[Structure] = "alphabets"

    superclasses_per_split: dict[str, Size]
    classes_per_superclass: dict[int, Size]
    images_per_class: dict[int, Size]

    def part(self, split: str) -> _Part:
        alphabets = _run(self.superclasses_per_split, split, "superclasses_per_split")
        # Where each alphabet up to this split's last begins, and where the last ends.
        sizes = (
            _at(self.classes_per_superclass, number, "classes_per_superclass")
            for number in range(alphabets.stop)
        )
        starts = list(itertools.accumulate(sizes, initial=0))[alphabets.start :]
        ids = range(starts[0], starts[-1])
        groups = [range(start - ids.start, end - ids.start) for start, end in itertools.pairwise(starts)]
        return _Part(ids, [_at(self.images_per_class, id, "images_per_class") for id in ids], groups)


class _Node(msgspec.Struct):
    wn_id: str
    children_ids: list[str]


class _Hierarchical(_Named):
    structure: ClassVar[Structure] = "graph"

    split_subgraphs: dict[str, list[_Node]]
    images_per_class: dict[str, dict[str, Size]]

    def part(self, split: str) -> _Part:
        nodes = _at(self.split_subgraphs, split, "split_subgraphs")
        children = {node.wn_id: node.children_ids for node in nodes}
        known = {name: id for id, name in self.class_names.items()}
        if len(children) < len(nodes) or len(known) < len(self.class_names):
            where = f"split_subgraphs ({split})" if len(children) < len(nodes) else "class_names"
            raise DataError(f"{where} names a class twice; {_WAY_OUT}.")
        leaves = [name for name, below in children.items() if not below]
        leaves.sort(key=lambda name: _at(known, name, "class_names"))
        position = {name: number for number, name in enumerate(leaves)}
        counts = _at(self.images_per_class, split, "images_per_class")
        spanned: dict[str, frozenset[int]] = {}
        for name in children:
            _span(name, children, position, spanned)
        groups = [
            sorted(spanned[name]) for name in children if FEWEST_CLASSES <= len(spanned[name]) <= MOST_LEAVES
        ]
        ids = [known[name] for name in leaves]
        return _Part(ids, [_at(counts, name, "images_per_class") for name in leaves], groups)


def _span(
    name: str,
    children: Mapping[str, Sequence[str]],
    position: Mapping[str, int],
    spanned: dict[str, frozenset[int]],
    above: tuple[str, ...] = (),
) -> frozenset[int]:
    """Positions of the leaves below the node `name`, each once however many ways lead to it."""
    if name in above:
        raise DataError(f"node {name!r} of split_subgraphs is its own descendant; {_WAY_OUT}.")
    if name not in spanned:
        below = _at(children, name, "split_subgraphs")
        parts = (_span(child, children, position, spanned, (*above, name)) for child in below)
        spanned[name] = frozenset({position[name]}) if name in position else frozenset().union(*parts)
    return spanned[name]


class _Kind(msgspec.Struct):
    superclasses_per_split: msgspec.Raw = msgspec.Raw()
    split_subgraphs: msgspec.Raw = msgspec.Raw()


def _kind(found: _Kind) -> type[_Flat] | type[_BiLevel] | type[_Hierarchical]:
    if found.split_subgraphs:
        return _Hierarchical
    return _BiLevel if found.superclasses_per_split else _Flat


def _run(sizes: Mapping[str, int], split: str, where: str) -> range:
    """The ids of `split`, where ids run through the splits in their order."""
    before = [_at(sizes, earlier.upper(), where) for earlier in SPLITS]
    start = sum(before[: SPLITS.index(split.lower())])
    return range(start, start + sizes[split])


def _at(table: Mapping[Key, Value], key: Key, where: str) -> Value:
    if key not in table:
        kind = "split" if str(key).lower() in SPLITS else "class"
        raise DataError(f"{kind} {key!r} is missing from {where}; {_WAY_OUT}.")
    return table[key]
