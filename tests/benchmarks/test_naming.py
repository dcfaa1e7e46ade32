"""What a user types, `NAME?key=value` and `key=value`, and what it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import RequestError, unknown
from benchmarks.naming import canonical, parse, typed


@dataclass(frozen=True)
class Options:
    tasks: int | None = None
    scenario: Literal["task", "class"] = "task"
    rate: float = 0.5
    mirror: bool = True


def test_a_bare_name_has_no_parameters() -> None:
    assert parse("split-digits") == ("split-digits", {})


def test_a_path_may_stand_in_a_name() -> None:
    assert parse("split:folder:/data/birds?tasks=2") == ("split:folder:/data/birds", {"tasks": "2"})


@pytest.mark.parametrize("name", ["s?tasks", "s?tasks=1&size", "s?tasks=1&tasks=2"])
def test_a_parameter_without_value_or_given_twice_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match=r"tasks|size"):
        parse(name)


@given(
    st.builds(
        Options,
        tasks=st.none() | st.integers(1, 99),
        scenario=st.sampled_from(["task", "class"]),
        rate=st.floats(0, 1),
        mirror=st.booleans(),
    )
)
def test_the_canonical_name_says_the_same_parameters_again(options: Options) -> None:
    bare, values = parse(canonical("s", options))
    assert (bare, typed("s", "parameter", Options, values)) == ("s", options)


def test_equal_streams_have_equal_names() -> None:
    assert canonical("s", typed("s", "parameter", Options, {"rate": "0.50", "tasks": "none"})) == "s"


def test_none_is_nothing_where_nothing_is_allowed_and_else_a_word() -> None:
    @dataclass(frozen=True)
    class Words:
        ffn: Literal["all", "none"] = "all"
        self_loop: bool | None = True
        blocks: str = "all"

    assert typed("s", "option", Words, dict.fromkeys(("ffn", "self_loop", "blocks"), "none")) == Words(
        "none", None, "none"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tasks": "many"}, "tasks=many"),
        ({"rate": "fast"}, "rate=fast"),
        ({"mirror": "perhaps"}, "mirror=perhaps"),
        ({"scenario": "domain"}, "scenario=domain"),
        ({"tasks": "1.5"}, "tasks=1.5"),
    ],
)
def test_a_value_of_another_type_is_named(values: dict[str, str], said: str) -> None:
    with pytest.raises(RequestError, match=f"^s: the option {said} does not fit: "):
        typed("s", "option", Options, values)


def test_an_unknown_option_gets_the_nearest_and_all() -> None:
    with pytest.raises(
        RequestError, match=r"'task'; did you mean 'tasks'.* Valid: mirror, rate, scenario, tasks"
    ):
        typed("s", "option", Options, {"task": "1"})


def test_an_unknown_name_far_from_all_gets_no_guess() -> None:
    said = str(unknown("method", "zzz", ["ncm", "meat"], "Add a file."))
    assert said == "unknown method 'zzz'. Valid: meat, ncm. Add a file."
