"""The parts of a data set, by the names that they go by: which serve as train and test, and which are left
out.

A name that is not known is never taken for one that is: it is asked for (`train_split=`, `test_split=`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.errors import DataError
from benchmarks.sources.counts import some
from benchmarks.sources.paths import folder_name
from benchmarks.sources.reading import DRAWN, Reading

WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainset", "trainingset"), "train"),
    **dict.fromkeys(("test", "testing", "tst", "testset", "testingset"), "test"),
    **dict.fromkeys(("valid", "val", "validation", "dev", "valset", "validationset"), "valid"),
}
_NEUTRAL = frozenset(("set", "split", "data", "dataset", "images", "image", "imgs", "img", "part"))
_WORD = re.compile(r"[a-z]+")


def part_of(name: str) -> str | None:
    """train, test or valid for a part of that name ("Training", "val2017", "test_set"), else None."""
    words = _WORD.findall(name.lower())
    kinds = {WORDS[word] for word in words if word in WORDS}
    known = all(word in WORDS or word in _NEUTRAL for word in words)
    return kinds.pop() if known and len(kinds) == 1 else None


def part_in(stem: str) -> str | None:
    """The part that a file's name speaks of among other words ("birds-train"), None for none or several."""
    kinds = {WORDS[word] for word in _WORD.findall(stem.lower()) if word in WORDS}
    return kinds.pop() if len(kinds) == 1 else None


@dataclass(frozen=True)
class Found:
    """A part as it lies there: `kind` train, test, valid or None if its name is not known."""

    kind: str | None
    labelled: bool = True


@dataclass(frozen=True)
class Chosen:
    """Names of parts to train and to test on; test is empty if it has to be drawn."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    rule: str
    notes: tuple[str, ...]


def choose(
    source: str, where: object, found: Mapping[str, Found], reading: Reading, official: bool
) -> Chosen:
    """Which parts serve as train and as test.

    source, where: for errors; official: there must be a test part. DataError for a part whose name is not
    known unless `reading` says what it is, for two parts of one kind, and where train or test is missing.
    """
    train, test = (_named(source, where, found, text) for text in (reading.train_split, reading.test_split))
    drawn, called = reading.test_split == DRAWN, folder_name(source) or source
    said = bool(train or test or drawn)
    usual: dict[str, list[str]] = {"train": [], "test": [], "valid": []}
    for name, part in found.items():
        if part.kind is not None and name not in (*train, *test):
            usual[part.kind].append(name)
    unknown = [name for name, part in found.items() if part.kind is None and name not in (*train, *test)]
    notes = []
    if unknown and not said:
        one = next((name for name in unknown if found[name].labelled), None)
        labelled = (
            f"train_split=train+{one} to train on it, test_split={one} to test on it, or " if one else ""
        )
        raise DataError(
            f"{source}: {where} holds {', '.join(found)}, and which part {' and '.join(unknown)} belongs to "
            f"is not known; add {labelled}train_split=train to leave it out"
        )
    for kind, names in usual.items():
        needed = not train if kind == "train" else not (test or drawn)
        if needed and len([name for name in names if found[name].labelled]) > 1:
            option = "train_split" if kind == "train" else "test_split"
            raise DataError(
                f"{source}: {where} holds {' and '.join(names)}, which both mean {kind}; add "
                f"{option}={names[0]} to say which is meant"
            )
    train = train or _labelled(found, usual["train"])
    if not train:
        there = [name for name in found if name not in test]
        raise DataError(
            f"{source}: {where} has {', '.join(found)} but no train split; add one"
            + (f", or train_split={there[0]} to train on that" if there else "")
        )
    unlabelled = [name for name in usual["test"] if not found[name].labelled]
    why = f"{' and '.join(unlabelled)} has no labels" if unlabelled else "there is no test split"
    rule = "official train and test" if official else "test as stored"
    if test:
        rule = f"test: {'+'.join(test)}, as asked"
    elif drawn:
        rule = ""
    elif names := _labelled(found, usual["test"]):
        test = names
    elif names := _labelled(found, usual["valid"]):
        test, rule = names, "the validation split serves as test"
        notes.append(
            f"{called}: the validation split {names[0]} serves as test, since {why} (test_split={names[0]} "
            f"says so, test_split={DRAWN} draws one from train)"
        )
    elif official:
        raise DataError(
            f"{source}: {where} has no test split, but {source} comes with one; add its files (parquet, "
            "test.parquet, or image folders, test/CLASS)"
        )
    else:
        rule = ""
        if unlabelled:
            notes.append(f"{called}: the test images are drawn from {'+'.join(train)}, since {why}")
    if reading.train_split:
        rule = "; ".join(filter(None, [rule, f"train: {'+'.join(train)}, as asked"]))
    left = [name for name in found if name not in (*train, *test)]
    if left:
        notes.append(f"{called}: left out, neither trained nor tested on: {some(left)}")
    if both := [name for name in train if name in test]:
        raise DataError(f"{source}: {both[0]} cannot be both train_split and test_split; take it out of one")
    return Chosen(tuple(train), tuple(test), rule, tuple(notes))


def _labelled(found: Mapping[str, Found], names: Sequence[str]) -> list[str]:
    return [name for name in names if found[name].labelled]


def _named(source: str, where: object, found: Mapping[str, Found], text: str) -> list[str]:
    """The parts that are typed, by their own names or what they mean; DataError for one that is not there."""
    names: list[str] = []
    for typed in [part for part in text.split("+") if part and text != DRAWN]:
        match = [name for name in found if name == typed] or [
            name for name, part in found.items() if part.kind is not None and part.kind == part_of(typed)
        ]
        if len(match) != 1:
            raise DataError(
                f"{source}: {where} has {'several parts' if match else 'no part'} {typed!r}; it has "
                f"{some(found)}, write one of these"
            )
        if not found[match[0]].labelled:
            raise DataError(f"{source}: {match[0]} in {where} has no labels; take another part")
        names += match
    return list(dict.fromkeys(names))
