"""The order in which classes are learnt: a list of class ids, and the ways to write it.

    order=1993              a number: what the generator named by `rule` makes of it
    order=natural           0 1 2 ..., as the source has them
    order=87+0+52           the list itself, of class ids or of class names; ids:87+0+52 is one of ids alone
    order=@FILE             a file with the list: JSON, or one id or name per line

The list is the truth, and place i of it holds the class that is learnt i-th; a number is one way to write it,
which means nothing without the generator. Those of the field:

    numpy     RandomState(order).permutation(n)            PyCIL, PILOT, RanPAC, SLCA
    inverse   argsort of that list                         Mammoth, which relabels instead of reordering
    python    random.seed(order); random.shuffle(list)     CODA-Prompt
    torch     torch.manual_seed(order); torch.randperm(n)  Avalanche, Si-Blurry
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import RequestError

Rule = Literal["numpy", "inverse", "python", "torch"]

NATURAL, GIVEN, IDS = "natural", "list", "ids:"
USUAL = "1993"
LARGEST = 2**32 - 1  # of the numbers that every generator takes

WORDS: dict[str, str] = {
    "numpy": "numpy RandomState(order).permutation",
    "inverse": "argsort of numpy RandomState(order).permutation",
    "python": "random.seed(order), random.shuffle",
    "torch": "torch.manual_seed(order), torch.randperm",
    NATURAL: "as the source has them",
    GIVEN: "a given list",
}


@dataclass(frozen=True)
class Order:
    """An order of classes.

    name: what tells it from other orders by its rule: the number, `natural`, or the hash of a given list;
    rule: how it was made, in words; classes: the class ids in the order in which they are learnt.
    """

    name: str
    rule: str
    classes: tuple[int, ...]

    @property
    def hash(self) -> str:
        """The first 12 digits of the sha256 of the class ids, joined by commas."""
        return hash_of(self.classes)

    @property
    def given(self) -> bool:
        """Whether the list was given, so that only the list itself makes it again."""
        return self.rule == WORDS[GIVEN]

    @property
    def typed(self) -> str:
        """What a user types to get it again, with the same rule."""
        return f"{IDS}{'+'.join(map(str, self.classes))}" if self.given else self.name


def hash_of(classes: Sequence[int]) -> str:
    """The first 12 digits of the sha256 of "a,b,c"."""
    return hashlib.sha256(",".join(map(str, classes)).encode()).hexdigest()[:12]


def order_of(owner: str, asked: str, rule: Rule, class_names: Sequence[str], *, kind: str = "class") -> Order:
    """The order that `asked` and `rule` write; RequestError, which begins with `owner`, if they write none.

    class_names: of all classes, by their ids; kind: what is ordered, if not classes.
    """
    count = len(class_names)
    if asked.removeprefix("-").isdecimal():
        number = int(asked)
        if not 0 <= number <= LARGEST:
            raise RequestError(f"{owner}: order={asked} lies outside 0 to {LARGEST}")
        return Order(str(number), WORDS[rule], generated(rule, number, count))
    if rule != "numpy":
        raise RequestError(
            f"{owner}: rule={rule} says what becomes of a number, and order={asked} is none; leave out rule"
        )
    if asked == NATURAL:
        return Order(NATURAL, WORDS[NATURAL], tuple(range(count)))
    entries: Sequence[int] | Sequence[str]
    if asked.startswith("@"):
        entries, ids, names = _read(owner, "order", asked[1:])
    elif asked.startswith(IDS):
        entries, ids, names = asked.removeprefix(IDS).split("+"), True, False
    elif "+" in asked:
        entries, ids, names = asked.split("+"), True, True
    else:
        raise RequestError(
            f"{owner}: order={asked} is no order; write a number, {NATURAL}, the list as 2+0+1 (ids or "
            "names), or @FILE with the list in it"
        )
    where = f"{owner}: order={asked if len(asked) < 60 else f'{asked[:50]}...'}"
    classes = _ids(where, entries, class_names, kind, ids=ids, names=names)
    return Order(f"{GIVEN}-{hash_of(classes)}", WORDS[GIVEN], classes)


def name_of(asked: str) -> str:
    """The name of an order as typed, as far as it is known without the names of its classes."""
    if asked.isdecimal():
        return str(int(asked))
    listed = asked.removeprefix(IDS).split("+")
    if len(listed) > 1 and all(entry.isdecimal() for entry in listed):
        return f"{GIVEN}-{hash_of([int(entry) for entry in listed])}"
    return asked


def generated(rule: Rule, number: int, count: int) -> tuple[int, ...]:
    """The order of `count` classes that the generator of `rule` makes of `number`."""
    match rule:
        case "numpy":
            order = np.random.RandomState(number).permutation(count)
        case "inverse":
            order = np.argsort(np.random.RandomState(number).permutation(count))
        case "python":
            listed = list(range(count))
            random.Random(number).shuffle(listed)
            return tuple(listed)
        case "torch":
            order = _torch_permutation(number, count)
    return tuple(int(cls) for cls in order)


def _torch_permutation(number: int, count: int) -> NDArray[np.int64]:
    """torch.randperm(count) after torch.manual_seed(number), on a CPU.

    Fisher and Yates with the remainders of raw draws of a Mersenne twister, which numpy seeds alike; the
    ground floor does not import torch.
    """
    draws = np.random.RandomState(number).randint(0, 2**32, count, dtype=np.uint32)
    order = np.arange(count)
    for place in range(count - 1):
        other = place + int(draws[place]) % (count - place)
        order[[place, other]] = order[[other, place]]
    return order


def names_in(owner: str, key: str, typed: str) -> tuple[str, ...]:
    """The names that `key=typed` lists: ant+bee, or @FILE with a JSON list or one name per line."""
    if not typed.startswith("@"):
        return tuple(typed.split("+"))
    entries, _, names = _read(owner, key, typed[1:])
    if not names:
        raise RequestError(f"{owner}: {key}={typed} holds numbers; write names, in quotes in JSON")
    return tuple(map(str, entries))


def _read(owner: str, key: str, typed: str) -> tuple[list[int] | list[str], bool, bool]:
    """The entries of a file, a JSON list or one per line, and whether they may be ids, and names.

    RequestError if it holds no list.
    """
    path = Path(typed).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text"
        raise RequestError(f"{owner}: {key}={path} cannot be read ({said}); name a text file") from None
    if path.suffix.lower() in (".yaml", ".yml"):
        raise RequestError(f"{owner}: {path} is YAML, which is not read; write the list as JSON")
    if path.suffix.lower() != ".json" and not text.lstrip().startswith("["):
        return [line.strip() for line in text.splitlines() if line.strip()], True, True
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RequestError(f"{owner}: {path} is no JSON ({error}); write [3, 0, 2] or names") from None
    kinds = {type(entry) for entry in found} if isinstance(found, list) else set()
    if kinds not in ({int}, {str}):
        raise RequestError(f"{owner}: {path} holds no list of ids or of names; write [3, 0, 2] or names")
    return found, kinds == {int}, kinds == {str}


def _ids(
    where: str,
    entries: Sequence[int] | Sequence[str],
    class_names: Sequence[str],
    kind: str,
    *,
    ids: bool,
    names: bool,
) -> tuple[int, ...]:
    """The ids that the entries name: each class once. RequestError names what is wrong.

    ids, names: what they may be. Numbers in text may be ids or, where folders are called 1, 2, 3, names: if
    both readings hold and differ, neither is taken.
    """
    by_name = {name: cls for cls, name in enumerate(class_names)}
    readings: list[list[int]] = []
    if ids and all(isinstance(entry, int) or entry.isdecimal() for entry in entries):
        readings.append([int(entry) for entry in entries])
    if names and all(entry in by_name for entry in entries):
        readings.append([by_name[str(entry)] for entry in entries])
    whole = [reading for reading in readings if sorted(reading) == list(range(len(class_names)))]
    if len(whole) == 2 and whole[0] != whole[1]:
        raise RequestError(
            f"{where}: the numbers may be ids or names; write {IDS}2+0+1 for ids, or a "
            'JSON file with ["2", "0", "1"] for names'
        )
    if whole:
        return tuple(whole[0])
    raise RequestError(f"{where}: {_fault(entries, readings, class_names, kind)}")


def _fault(
    entries: Sequence[int] | Sequence[str],
    readings: Sequence[Sequence[int]],
    class_names: Sequence[str],
    kind: str,
) -> str:
    """Why a list is no order of the classes, or of what `kind` says."""
    count = f"{len(class_names)} {'classes' if kind == 'class' else f'{kind}s'}"
    last = len(class_names) - 1
    if not readings:
        strange = next(entry for entry in entries if entry not in class_names)
        return f"{strange!r} is no {kind}; name each of the {count} once, by name or by id"
    listed = readings[0]
    twice = [cls for place, cls in enumerate(listed) if cls in listed[:place]]
    outside = [cls for cls in listed if not 0 <= cls <= last]
    missing = sorted(set(range(last + 1)) - set(listed))
    if outside:
        return f"there is no {kind} {outside[0]}; ids run from 0 to {last}"
    if twice:
        return f"{kind} {twice[0]} ({class_names[twice[0]]}) stands in the list twice; name each {kind} once"
    return (
        f"{len(missing)} of the {count} are missing, the first is {missing[0]} "
        f"({class_names[missing[0]]}); name each {kind} once"
    )
