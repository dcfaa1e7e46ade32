"""`carryover compare` finds the records that `run` made, takes those under one contract, and says which."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from made_records import CONTRACT, made
from test_plugins import METHOD
from tiny_cells import stream_of, words

from carryover.cells import key
from carryover.cells.selection import Rule
from carryover.commands.cli import cli
from carryover.records.record import Record
from carryover.records.results import Results

STREAM = "split-digits?per_class=10"
MANUAL = CONTRACT | {"selection": "manual"}
SEARCH = CONTRACT | {"protocol": "transfer 1", "selection": Rule().describe()}


@pytest.fixture(autouse=True)
def stale(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The keys of the records that count as stale."""
    keys: set[str] = set()
    monkeypatch.setattr(key, "standing", lambda record: "stale" if record.key in keys else "current")
    return keys


def kept(root: Path, *records: Record) -> None:
    for record in records:
        Results(root).write(record)


def measured_as(
    method: str, accuracy: float, lr: float | None = None, seed: int = 0, **fields: object
) -> Record:
    """A record with one typed option, or with none."""
    typed = {} if lr is None else {"options": {"lr": lr}, "contract": MANUAL}
    return made(method, seed, accuracy, **{"stream": STREAM, "backbone": "tiny_vit", **typed, **fields})  # type: ignore[arg-type]


class Said:
    """What a comparison printed, and its exit code."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys

    def __call__(self, *typed: str, stream: str = STREAM, code: int = 0) -> str:
        self.capsys.readouterr()
        asked = ["compare", *typed, "--stream", stream, "--results", str(self.root)]
        asked += [] if "--backbone" in typed else ["--backbone", "tiny_vit"]
        assert cli(asked) == code
        out, error = self.capsys.readouterr()
        return error if code else out


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(tmp_path, capsys)


# Contracts


def test_what_was_typed_by_hand_is_left_aside_and_named(said: Said) -> None:
    first, second = measured_as("ncm", 0.5), measured_as("linear_probe", 0.8)
    kept(said.root, first, second, measured_as("linear_probe", 0.9, lr=0.5, minute=9))
    out = said("linear_probe", "ncm")
    points = 100 * (second.metrics["accuracy_last"] - first.metrics["accuracy_last"])
    assert out.startswith(f"linear_probe minus ncm, accuracy_last: {points:+.2f} points")
    assert "Left out, under another contract than this one (selection 'default'): linear_probe lr=0.5" in out
    assert "(selection 'manual').\n" in out  # and no way to choose it: ncm has no such record


def test_of_two_contracts_that_both_have_the_default_counts_unless_another_is_asked_for(said: Said) -> None:
    for method in ("ncm", "linear_probe"):
        kept(said.root, measured_as(method, 0.5), measured_as(method, 0.8, lr=0.5, minute=9))
    assert "choose with --selection RULE or -o KEY=VALUE" in said("linear_probe", "ncm")
    for way in (["-o", "lr=0.5"], ["-o", "lr=5e-1"], ["--selection", "manual"]):
        out = said("linear_probe", "ncm", *way)
        assert out.startswith("linear_probe lr=0.5 minus ncm lr=0.5, ")
        assert "(selection 'manual'): linear_probe (selection 'default')" in out
    assert said("linear_probe", "ncm", "--selection", "default").startswith("linear_probe minus ncm, ")


def test_on_transfer_streams_the_search_is_the_default(said: Said) -> None:
    stream = "embedded-transfer?only=digits+glyphs"
    default = SEARCH | {"selection": "default"}
    for method in ("ncm", "linear_probe"):
        fields = {"stream": stream, "metrics": {"accuracy_mean": 0.5}}
        kept(said.root, measured_as(method, 0.5, contract=SEARCH, **fields))
        kept(said.root, measured_as(method, 0.5, contract=default, minute=9, **fields))
    assert "(selection 'search, up to 4" in said("linear_probe", "ncm", stream=stream)
    asked = said("linear_probe", "ncm", "--selection", "search?candidates=4", stream=stream)
    assert "(selection 'search, up to 4" in asked
    asked = said("linear_probe", "ncm", "--selection", "default", stream=stream)
    assert "(selection 'default'): " in asked


def test_of_two_typed_variants_one_is_chosen_by_each_way_that_the_error_names(said: Said) -> None:
    kept(said.root, *(measured_as("linear_probe", 0.5, lr=lr) for lr in (0.5, 0.1)))
    more = {"lr": 0.5, "epochs": 3}
    kept(said.root, measured_as("linear_probe", 0.5, options=more, contract=MANUAL))
    kept(said.root, measured_as("ncm", 0.5, options={"metric": "cosine"}, contract=MANUAL))
    error = said("linear_probe", "ncm", code=2)
    ways = re.search("add (.*)$", error.strip())[1].split(" or ")
    assert len(ways) == 3
    for way in ways:
        out = said("linear_probe", "ncm", *shlex.split(way))
        assert out.startswith(f"linear_probe {way.replace('-o ', '')} minus ncm metric=cosine, ")


def test_an_option_of_each_method_is_given_beside_the_other(said: Said) -> None:
    kept(said.root, *(measured_as("linear_probe", 0.5, lr=lr) for lr in (0.5, 0.1)))
    kept(said.root, *(measured_as("ncm", 0.5, lr=lr) for lr in (0.5, 0.2)))
    out = said("linear_probe", "ncm", "-o", "lr=0.1", "-o", "lr=0.5")
    assert out.startswith("linear_probe lr=0.1 minus ncm lr=0.5, ")


def test_two_variants_of_one_method_are_named_with_their_options(said: Said) -> None:
    kept(said.root, *(measured_as("linear_probe", lr, lr=lr) for lr in (0.5, 0.1)))
    kept(said.root, measured_as("linear_probe", 0.9))
    out = said("linear_probe?lr=0.5", "linear_probe?lr=0.1")
    assert out.startswith("linear_probe lr=0.5 minus linear_probe lr=0.1, ")
    assert "+42.50 points" in out
    error = said("linear_probe?lr=0.5", "linear_probe?lr=0.3", code=2)
    assert "there is no finished record of linear_probe?lr=0.3 on" in error
    assert "run --method 'linear_probe?lr=0.3'" in error
    error = said("linear_probe?lr=0.5", "linear_probe", code=2)
    assert error.endswith("choose one of them: add -o lr=0.5 or -o lr=0.1\n")
    assert "linear_probe lr=0.1, " in said("linear_probe?lr=0.5", "linear_probe", "-o", "lr=0.1")


def test_records_are_not_compared_with_themselves(said: Said) -> None:
    kept(said.root, measured_as("linear_probe", 0.5, lr=0.5), measured_as("linear_probe", 0.9))
    for typed in (("linear_probe", "linear_probe?lr=0.5"), ("linear_probe", "linear_probe")):
        error = said(*typed, code=2)
        assert f"{' and '.join(typed)} have no records under one contract" in error
        assert "linear_probe lr=0.5 (selection 'manual')" in error


@pytest.mark.parametrize("typed", [["-o", "lr=0.5"], ["-o", "lr=7"], ["--selection", "manual"]])
def test_typed_by_hand_beside_defaults_is_refused_with_what_there_is(typed: list[str], said: Said) -> None:
    kept(said.root, measured_as("ncm", 0.5), measured_as("linear_probe", 0.8))
    kept(said.root, measured_as("linear_probe", 0.9, lr=0.5))
    error = said("linear_probe", "ncm", *typed, code=2)
    assert f"no records for {' '.join(typed)} under one contract" in error
    assert "linear_probe lr=0.5 (selection 'manual')" in error
    assert error.endswith(
        "type an option for both methods, if only its default, or compare without options\n"
    )


def test_without_a_common_contract_the_command_that_makes_one_is_said(said: Said) -> None:
    kept(said.root, measured_as("ncm", 0.5, seed=1), measured_as("linear_probe", 0.9, lr=0.5))
    error = said("linear_probe", "ncm", code=2)
    place = f"--stream '{STREAM}' --backbone tiny_vit --seed 0,1 --results {said.root}"
    assert f"run --method linear_probe,ncm {place} runs both alike" in error
    error = said("linear_probe", "ncm", "--selection", "search?candidates=2", code=2)
    assert "--seed 0,1 --selection 'search?candidates=2' --results" in error


# Staleness


def test_a_fresh_record_counts_before_a_newer_stale_one(said: Said, stale: set[str]) -> None:
    fresh, newer = measured_as("ncm", 0.5, minute=1), measured_as("ncm", 0.9, minute=2)
    other = measured_as("linear_probe", 0.8)
    kept(said.root, fresh, newer, other)
    assert "Stale" not in said("linear_probe", "ncm")
    stale.add(newer.key)
    out = said("linear_probe", "ncm")
    points = 100 * (other.metrics["accuracy_last"] - fresh.metrics["accuracy_last"])
    assert f"{points:+.2f} points" in out
    assert "Stale" not in out
    stale.add(fresh.key)
    assert "Stale, since the code changed: ncm (seed 0); `run`" in said("linear_probe", "ncm")


# Names


@pytest.mark.parametrize("typed", [f"{STREAM}&order=1993", "split-digits?order=1993&val=0.10&per_class=10"])
def test_a_stream_is_named_as_in_run(typed: str, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    kept(said.root, measured_as("ncm", 0.5), measured_as("linear_probe", 0.8))
    out = said("linear_probe", "ncm", stream=typed)
    assert f"The stream is recorded as {STREAM}." in out
    assert "recorded as" not in said("linear_probe", "ncm")
    assert cli(["report", "--stream", typed, "--results", str(said.root)]) == 0
    assert capsys.readouterr().out.startswith(f"{STREAM} ")


def test_the_tasks_of_a_stream_may_be_typed_in_any_order(
    said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    stream, typed = (f"embedded-transfer?only={tasks}" for tasks in ("digits+glyphs", "glyphs+digits"))
    for method in ("ncm", "linear_probe"):
        fields = {"stream": stream, "metrics": {"accuracy_mean": 0.5}, "contract": SEARCH}
        kept(said.root, measured_as(method, 0.5, **fields))
    assert "linear_probe minus ncm, accuracy_mean" in said("linear_probe", "ncm", stream=typed)
    assert cli(["report", "--stream", typed, "--results", str(said.root)]) == 0
    assert stream in capsys.readouterr().out


def test_what_no_stream_has_is_refused_as_in_run(said: Said) -> None:
    error = said("linear_probe", "ncm", stream="split-digits?ordre=3", code=2)
    assert "unknown parameter of split-digits 'ordre'; did you mean 'order'?" in error
    assert "unknown method 'nmc'; did you mean 'ncm'?" in said("linear_probe", "nmc", code=2)


def test_a_stream_whose_plugin_is_gone_is_found_by_its_full_name(
    said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = "their-stream?half=1"
    kept(said.root, *(measured_as(method, 0.5, stream=gone) for method in ("ncm", "theirs")))
    assert "theirs minus ncm" in said("theirs", "ncm", stream=gone)
    for name in (gone, "their-stream"):
        assert cli(["report", "--stream", name, "--results", str(said.root)]) == 0
        assert "theirs" in capsys.readouterr().out


def test_without_a_record_the_command_that_makes_it_is_said(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/carryover"])
    kept(said.root, *(measured_as("ncm", 0.5, seed=seed) for seed in (1, 0)))
    error = said("linear_probe", "ncm", code=2)
    command = f"run --method linear_probe --stream '{STREAM}' --backbone tiny_vit --seed 0,1 --results"
    assert error.startswith(f"error: there is no finished record of linear_probe on {STREAM} with tiny_vit; ")
    assert f"{command} {said.root} makes one" in error
    other = said("linear_probe", "ncm", stream="split-digits?per_class=11", code=2)
    assert "there is no finished record of linear_probe on split-digits?per_class=11 with tiny_vit; " in other
    other = said("ncm", "linear_probe", stream="split-digits?per_class=11", code=2)
    assert (
        f"there is no finished record of ncm on split-digits?per_class=11 with tiny_vit, only on {STREAM}; "
        in other
    )


def test_what_run_was_told_is_what_compare_is_told(
    measured: None, pictures: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, options beside none, a default that is typed, parameters of a backbone in any order."""
    monkeypatch.chdir(said.root)
    Path("mine.py").write_text(METHOD)
    stream, typed = stream_of(pictures), stream_of(pictures, order=1993)
    backbone = "tiny_vit?std=0.5,0.5,0.5&mean=0.4,0.4,0.4"
    run = words("./mine.py,ncm", typed, said.root, "--quiet", backbone=backbone)
    assert cli(run) == 0
    assert cli([*run, "-o", "bias=2"]) == 2  # ncm has no such option
    assert cli([*words("./mine.py", typed, said.root, "-o", "bias=2", "--quiet", backbone=backbone)]) == 0
    out = said("./mine.py", "ncm", "--backbone", backbone, stream=typed)
    assert re.match(r"mine\.py:Guess@[0-9a-f]{8} minus ncm, accuracy_last: ", out)
    assert f"The stream is recorded as {stream}." in out
    assert re.search(
        r"Left out, under .*: mine\.py:Guess@[0-9a-f]{8} bias=2\.0 \(selection 'manual'\)\.", out
    )
