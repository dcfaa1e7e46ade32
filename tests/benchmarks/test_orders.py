"""Orders of classes: the field's generators to the last place, and lists that are refused unless whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import RequestError
from benchmarks.orders import Order, generated, hash_of, order_of

NAMES = ("ant", "bee", "cow", "dog")

# (rule, number, classes): the first classes learnt, and the hash of the list. PILOT, PyCIL and RanPAC use the
# first one; Mammoth with permute_classes=1 `inverse`; CODA-Prompt `python`; Avalanche `torch`.
GOLDEN = {
    ("numpy", 1993, 100): ([68, 56, 78, 8, 23, 84, 90, 65, 74, 76], "997a048a5344"),
    ("numpy", 0, 100): ([26, 86, 2, 55, 75], "0b019832a2a9"),
    ("numpy", 1996, 100): ([35, 18, 40, 85, 63], "47c7e9ba19ab"),
    ("numpy", 1997, 100): ([88, 77, 36, 54, 92], "2972ce0505bd"),
    ("inverse", 1993, 100): ([69, 23, 57, 12, 89, 87, 34, 84, 3, 15], "cb02b2567bfc"),
    ("python", 1, 100): ([53, 37, 65, 51, 4], "3479baf223fb"),
    ("python", 1993, 100): ([34, 37, 71, 58, 2], "ecb6eca48279"),
    ("python", 0, 200): ([131, 181, 22, 172, 144, 92], "b0c978e9a0ad"),
    ("torch", 0, 100): ([44, 19, 93, 90, 71], "3e35da69beea"),
    ("torch", 1, 100): ([45, 15, 90, 32, 35], "a79ef4cb32cc"),
    ("torch", 1993, 100): ([41, 97, 25, 98, 1], "6f60a4397555"),
    ("numpy", 1993, 50): ([43, 41, 23, 14], "572bc9955e29"),
    ("numpy", 1993, 196): ([59, 134, 162, 9], "124a81ac3a00"),
    ("numpy", 1993, 200): ([168, 136, 51, 9], "1d364b99a591"),
    ("numpy", 1993, 300): ([169, 221, 146, 296], "18613efa7667"),
    ("numpy", 1993, 345): ([214, 80, 343, 268], "ab6c03d1c687"),
    ("numpy", 1993, 1000): ([54, 7, 894, 512], "305571fb8fde"),
}


def order(asked: str, rule: str = "numpy", names: tuple[str, ...] = NAMES) -> Order:
    return order_of("split-zoo", asked, rule, names)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rule", "number", "count"), GOLDEN)
def test_a_number_gives_the_order_of_the_codes_that_use_it(rule: str, number: int, count: int) -> None:
    first, digest = GOLDEN[rule, number, count]
    found = order(str(number), rule, tuple(map(str, range(count))))
    assert found.classes[: len(first)] == tuple(first)
    assert found.hash == digest
    assert (found.name, found.given) == (str(number), False)
    assert sorted(found.classes) == list(range(count))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_the_torch_rule_is_torchs_own_permutation(number: int, count: int) -> None:
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(number))
    assert generated("torch", number, count) == tuple(drawn.tolist())


def test_the_inverse_rule_puts_each_class_where_the_relabelling_does() -> None:
    relabelled = np.random.RandomState(3).permutation(20)  # targets = order[targets]
    assert [relabelled[cls] for cls in generated("inverse", 3, 20)] == list(range(20))


def test_the_natural_order_is_that_of_the_source() -> None:
    assert order("natural").classes == (0, 1, 2, 3)
    assert hash_of(range(3)) == "c0be322c1ad6"  # printf 0,1,2 | sha256sum


@pytest.mark.parametrize("asked", ["2+0+3+1", "cow+ant+dog+bee"])
def test_a_list_may_hold_ids_or_names(asked: str) -> None:
    found = order(asked)
    assert found.classes == (2, 0, 3, 1)
    assert found.given
    assert order(found.typed) == found


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("order.json", "[2, 0, 3, 1]"),
        ("order.json", '["cow", "ant", "dog", "bee"]'),
        ("order.txt", "cow\nant\n\ndog\nbee\n"),
        ("order.txt", "2\n0\n3\n1"),
        ("order.txt", "[2, 0, 3, 1]\n"),
    ],
)
def test_a_file_may_hold_the_list(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    assert order(f"@{tmp_path / file}") == order("2+0+3+1")


def test_names_may_be_of_any_alphabet_and_hold_a_slash(tmp_path: Path) -> None:
    names = ("F/A-18", "Übermut", "犬")
    (tmp_path / "order.json").write_text(json.dumps(["犬", "F/A-18", "Übermut"]))
    assert order(f"@{tmp_path / 'order.json'}", names=names).classes == (2, 0, 1)


def test_numbers_that_may_be_ids_or_names_are_not_guessed(tmp_path: Path) -> None:
    names = ("1", "0", "2")  # of folders, in an order of their own
    with pytest.raises(RequestError, match="may be ids or names; write ids:2"):
        order("0+1+2", names=names)
    assert order("ids:0+1+2", names=names).classes == (0, 1, 2)
    assert order(order("ids:0+1+2", names=names).typed, names=names).classes == (0, 1, 2)
    for text, classes in (("[0, 1, 2]", (0, 1, 2)), ('["0", "1", "2"]', (1, 0, 2))):
        (tmp_path / "order.json").write_text(text)
        assert order(f"@{tmp_path / 'order.json'}", names=names).classes == classes
    # Where only one reading is whole, it is the one: Stanford Cars' folders count from 1.
    assert order("3+1+2", names=("1", "2", "3")).classes == (2, 0, 1)


@pytest.mark.parametrize(
    ("asked", "rule", "said"),
    [
        ("-1", "numpy", "order=-1 lies outside 0 to 4294967295"),
        ("4294967296", "numpy", "order=4294967296 lies outside"),
        ("alphabetical", "numpy", "order=alphabetical is no order; write a number, natural, the list"),
        ("natural", "inverse", "rule=inverse says what becomes of a number, and order=natural is none"),
        ("0+1+2", "numpy", "1 of the 4 classes are missing, the first is 3 (dog)"),
        ("0+1+1+3", "numpy", "class 1 (bee) stands in the list twice"),
        ("0+1+2+4", "numpy", "there is no class 4; ids run from 0 to 3"),
        ("ant+bee+cow+cat", "numpy", "'cat' is no class; name each of the 4 classes once"),
        ("@/nowhere/order", "numpy", "/nowhere/order cannot be read (No such file or directory)"),
    ],
)
def test_what_is_no_order_of_all_classes_is_refused(asked: str, rule: str, said: str) -> None:
    with pytest.raises(RequestError) as error:
        order(asked, rule)
    assert str(error.value).startswith("split-zoo: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("order.json", "[0, 1", "is no JSON"),
        ("order.json", '{"order": [0, 1, 2, 3]}', "holds no list of ids or of names"),
        ("order.json", '[0, "bee", 2, 3]', "holds no list of ids or of names"),
        ("order.json", "[true, false]", "holds no list of ids or of names"),
        ("order.json", '["0", "1", "2", "3"]', "'0' is no class"),
        ("order.yaml", "- 0\n- 1\n- 2\n- 3\n", "is YAML, which is not read; write the list as JSON"),
    ],
)
def test_a_file_without_a_list_says_what_to_write(tmp_path: Path, file: str, text: str, said: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(RequestError, match=said):
        order(f"@{tmp_path / file}")
