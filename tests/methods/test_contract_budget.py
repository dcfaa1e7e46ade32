"""What the contract costs, by structure and not by a clock: a method more is one quick test more.

What it came to in CPU seconds is printed at the end of every run (tests/conftest.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import contract_cases as cases
import contract_lab as lab
import contract_promises as contract
import pytest
from contract_lab import Case

from carryover.check.promises import PROMISES

TRIED = cases.tried()
QUICK = [case for case in TRIED if cases.quick(case)]
SUPPORTED = [case for case in cases.matrix() if case.refusal is None]
REPRESENTATIVES = {name for names in cases.REPRESENTATIVES.values() for name in names}


def places(found: Iterable[Case], of: Callable[[Case], str]) -> set[tuple[str, str]]:
    """Families and scenarios in which there is a case, each by `of` the case."""
    return {(of(case), place) for case in found for place in (case.backbone, case.scenario)}


def kind(case: Case) -> str:
    return cases.kind(case.cls)


def test_a_method_more_costs_one_quick_case() -> None:
    count = Counter(case.method for case in QUICK)
    assert set(count) == set(lab.names()), "every method is tried"
    assert {name for name, number in count.items() if number > 1} <= REPRESENTATIVES
    assert max(count.values()) <= len(lab.BACKBONES) + len(lab.SCENARIOS) - 1
    assert len(REPRESENTATIVES) <= 8


def test_each_kind_is_tried_quickly_on_every_family_and_in_every_scenario_that_it_supports() -> None:
    assert {kind(case) for case in SUPPORTED} == set(cases.REPRESENTATIVES)
    assert places(QUICK, kind) == places(SUPPORTED, kind)


def test_every_method_is_tried_on_every_family_and_in_every_scenario_that_it_supports() -> None:
    assert places(TRIED, lambda case: case.method) == places(SUPPORTED, lambda case: case.method)


def test_each_kind_is_tried_in_every_pair_of_family_and_scenario_that_it_supports() -> None:
    tried, supported = (
        {(kind(case), case.backbone, case.scenario) for case in found} for found in (TRIED, SUPPORTED)
    )
    assert tried == supported


def test_a_case_is_one_test(request: pytest.FixtureRequest) -> None:
    """Each item costs its share of collecting, sending and telling; a failure names its promise anyway."""
    file = request.path.with_name("test_contract.py")
    items = [item for item in request.session.items if item.path == file]
    assert len(items) <= len(TRIED) + 10


def test_no_promise_is_lost() -> None:
    declared = {promise.name for promise in PROMISES}
    assert declared >= contract.AT_HOME | contract.ELSEWHERE | contract.DEPENDS
    for name in lab.names():
        tried = {promise.name for promise in contract.promises_of(cases.home(name))}
        assert declared - tried == contract.ELSEWHERE
