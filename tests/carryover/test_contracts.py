"""Contracts: every part counts, and a table that mixes two is refused by the part's name."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import CONTRACT, made

from benchmarks.errors import RequestError
from benchmarks.orders import Order
from benchmarks.stream import StreamInfo
from carryover.records.contract import PARTS, Contract, contract_of, differences, same_table

INFO = StreamInfo(
    name="split-digits",
    protocol="continual",
    scenario="class",
    classes=((3, 1), (0, 2)),
    class_names=("a", "b", "c", "d"),
    order=Order("1993", "a generator", (3, 1, 0, 2)),
    data="f00d",
    rule="10 % for validation",
    image_size=(8, 8),
    sizes=((90, 10, 20), (90, 10, 20)),
)
RULES = {
    "protocol": "continual 1",
    "scenario": "class-incremental",
    "preprocessing": "bicubic to 64",
    "backbone": "vit 1234, cls",
}


def test_every_part_is_there():
    assert list(contract_of(INFO, **RULES)) == list(PARTS)


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("data", {"data": "beef"}),
        ("data", {"image_size": (16, 16)}),
        ("split", {"rule": "20 % for validation"}),
        ("split", {"sizes": ((80, 20, 20), (80, 20, 20))}),
        ("order", {"order": Order("1993", "another generator", (3, 1, 0, 2))}),
        ("labels", {"classes": ((3,), (1, 0, 2))}),
        ("labels", {"class_names": ("a", "b", "c", "e")}),
    ],
)
def test_what_changes_a_stream_changes_its_part(part, changed):
    one, other = contract_of(INFO, **RULES), contract_of(dataclasses.replace(INFO, **changed), **RULES)
    assert differences(one, other) == [part]
    assert one.hash != other.hash
    assert one.hashes[part] != other.hashes[part]


def test_records_of_several_orders_share_a_contract_and_an_order_of_the_streams_own_is_a_part():
    """Unequal classes: another order moves images between tasks, not into the stream or out of it."""
    other = Order("7", "a generator", (0, 3, 2, 1))
    changed = {"order": other, "classes": ((0, 3), (2, 1)), "sizes": ((80, 12, 25), (100, 8, 15))}
    one = contract_of(INFO, **RULES)
    assert contract_of(dataclasses.replace(INFO, **changed), **RULES) == one
    natural = [dataclasses.replace(INFO, order=None, **each) for each in ({}, {"classes": ((3, 2), (0, 1))})]
    contracts = [contract_of(info, **RULES) for info in natural]
    assert differences(*contracts) == ["labels"]
    assert "order" in differences(one, contracts[0])


def test_where_sizes_depend_on_the_order_only_the_images_to_test_are_a_part():
    few = dataclasses.replace(INFO, sizes_by_order=True)
    more = dataclasses.replace(few, sizes=((90, 10, 20), (10, 0, 20)))
    less = dataclasses.replace(few, sizes=((90, 10, 20), (90, 10, 19)))
    assert contract_of(few, **RULES) == contract_of(more, **RULES)
    assert differences(contract_of(few, **RULES), contract_of(less, **RULES)) == ["split"]


@pytest.mark.parametrize("part", [*RULES, "selection"])
def test_what_changes_a_rule_changes_its_part(part):
    one, other = contract_of(INFO, **RULES), contract_of(INFO, **RULES | {part: "another"})
    assert differences(one, other) == [part]


@settings(deadline=None)
@given(st.permutations(list(CONTRACT)))
def test_the_order_of_parts_does_not_matter(names):
    shuffled = Contract({name: CONTRACT[name] for name in names})
    assert shuffled == Contract(CONTRACT)
    assert shuffled.hash == Contract(CONTRACT).hash
    assert list(shuffled) == list(PARTS)


def test_a_part_that_only_one_has_is_a_difference():
    assert differences(CONTRACT, CONTRACT | {"weather": "fair"}) == ["weather"]
    assert differences({}, CONTRACT) == list(PARTS)


def test_rules_do_not_run_into_each_other():
    assert Contract({"data": "a", "split": "b"}).hash != Contract({"data": "b", "split": "a"}).hash


@pytest.mark.parametrize("part", PARTS)
def test_a_difference_in_any_part_is_refused_and_named(part):
    records = [made("meat"), made("ncm", contract=CONTRACT | {part: "another"})]
    with pytest.raises(RequestError, match=f"{part}: .* against 'another'"):
        same_table(records)
    assert part not in same_table(records, vary=[part])


@pytest.mark.parametrize(
    ("varied", "other"), list(itertools.permutations(["backbone", "selection", "order"], 2))
)
def test_beside_the_declared_part_any_other_is_still_refused(varied, other):
    records = [made("meat"), made("ncm", contract=CONTRACT | {varied: "x", other: "y"})]
    with pytest.raises(RequestError, match=f"{other}: "):
        same_table(records, vary=[varied])


def test_a_table_varies_one_known_part_only():
    with pytest.raises(RequestError, match="not order and backbone"):
        same_table([made()], vary=["order", "backbone"])
    with pytest.raises(RequestError, match="did you mean 'backbone'"):
        same_table([made()], vary=["backbon"])
    with pytest.raises(RequestError, match="no records"):
        same_table([])
