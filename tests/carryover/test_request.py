"""What was typed, as a matrix of cells."""

from __future__ import annotations

import pytest

from benchmarks.errors import RequestError
from carryover import plugins
from carryover.request import Request


def typed(**words: str) -> Request:
    asked = {"method": "ncm", "stream": "split-digits", "backbone": "tiny_vit", "seed": "0"}
    return Request.typed({**asked, "options": (), "no_reuse": False, **words})


def test_a_name_that_is_listed_twice_counts_once() -> None:
    assert typed(method="ncm, meat,ncm").methods == ("ncm", "meat")


def test_all_are_those_that_ls_lists() -> None:
    listed = plugins.methods()
    assert typed(method="all").methods == tuple(name for name in listed if not listed[name].problem)
    assert typed(method="./mine.py,all").methods == ("./mine.py", *typed(method="all").methods)


def test_all_leaves_out_what_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = plugins.Plugin("broken", "", "theirs 1.0", "theirs", "Broken", problem="it raises")
    whole = plugins.Plugin("whole", "", "theirs 1.0", "theirs", "Whole")
    monkeypatch.setattr(plugins, "methods", lambda: {"broken": broken, "whole": whole})
    assert typed(method="all").methods == ("whole",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"method": ","}, "--method NAME"),
        ({"seed": "1,x"}, "--seed 0,1,2"),
        ({"seed": "-1"}, "--seed 0,1,2"),
        ({"options": ("lr",)}, "-o KEY=VALUE"),
        ({"options": ("=3",)}, "-o KEY=VALUE"),
    ],
)
def test_what_is_no_request_says_what_to_write(words, said) -> None:
    with pytest.raises(RequestError, match=said):
        typed(**words)
