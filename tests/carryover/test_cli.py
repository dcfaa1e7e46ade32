"""The command line: what is shown, how it ends, and that it can be interrupted at any time."""

from __future__ import annotations

import datetime
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from made_records import made
from tiny_cells import HERE, only_record, program, python, ready, same_outcome, stream_of, words

from benchmarks.progress import Silent
from carryover.cells.run import run_cell
from carryover.commands.cli import cli
from carryover.records.record import Cost
from carryover.records.results import Results


@pytest.fixture(autouse=True)
def handlers():
    """`cli` takes SIGTERM over; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_run_shows_its_table_and_the_command_for_each_missing_reference(
    measured: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--stream", stream_of(pictures), "--backbone", "tiny_vit", "--results", str(tmp_path), *HERE]
    assert cli(["run", "--method", "linear_probe", *typed]) == 0
    out, err = capsys.readouterr()
    assert "computing on cpu" in err
    assert f"linear_probe on {stream_of(pictures)}, tiny_vit, order 1993, seed 0: started" in err
    fills = [line[line.index("carryover run") :] for line in out.splitlines() if "carryover run" in line]
    methods = {command[command.index("--method") + 1] for command in map(shlex.split, fills)}
    assert methods == {"ncm", "full_finetune", "joint"}
    # The command that is shown does fill the row.
    fill = next(shlex.split(line) for line in fills if "--method ncm" in line)
    assert cli(fill[1:]) == 0
    assert "--method ncm" not in capsys.readouterr().out
    assert {record.cell.method for record in Results(tmp_path).all()[0]} == {"linear_probe", "ncm"}


def test_the_second_run_computes_nothing(
    measured: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words("ncm", stream_of(pictures), tmp_path)
    assert cli(command) == 0
    first = capsys.readouterr().out
    before = only_record(tmp_path)
    assert cli(command) == 0
    out, err = capsys.readouterr()
    assert "already recorded" in err
    assert only_record(tmp_path) == before
    assert out == first


def test_plan_tells_and_does_nothing(
    measured: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = words("ncm", stream_of(pictures), tmp_path, "--seed", "0,1")
    assert cli(["plan", *typed[1:]]) == 0
    out = capsys.readouterr().out
    assert out.count("to run, time unknown") == 2
    assert not (tmp_path / "records").exists()
    assert cli(words("ncm", stream_of(pictures), tmp_path, "--quiet")) == 0
    capsys.readouterr()
    assert cli(["plan", *typed[1:]]) == 0
    out = capsys.readouterr().out
    assert out.count("recorded, nothing to do") == 1
    assert out.count("to run, about ") == 1


def test_plan_takes_its_time_from_the_stream_itself_before_a_newer_record_of_another(
    measured: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = made("ncm", stream="split-other", backbone="tiny_vit", cost=Cost(train_s=40_000))
    in_future = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    Results(tmp_path).write(msgspec.structs.replace(long, ended=in_future))
    typed = words("ncm", stream_of(pictures), tmp_path, "--seed", "1")
    assert cli(["plan", *typed[1:]]) == 0
    assert " min" in capsys.readouterr().out
    assert cli(words("ncm", stream_of(pictures), tmp_path, "--quiet")) == 0
    capsys.readouterr()
    assert cli(["plan", *typed[1:]]) == 0
    assert " min" not in capsys.readouterr().out


def test_a_stale_record_is_told_with_what_changed(
    measured: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words("ncm", stream_of(pictures), tmp_path)
    assert cli([*command, "--quiet"]) == 0
    plan = ["plan", *command[1:]]
    for other in (["--eval-batch", "64"], ["--selection", "search"], ["--no-reuse"]):
        assert cli([*plan, *other]) == 0
        assert "is stale" not in capsys.readouterr().out, "asked for otherwise is not out of date"
    record = only_record(tmp_path)
    for path in (tmp_path / "records").rglob("*.json"):
        path.unlink()
    old = {**record.key_parts, "code": "another"}
    Results(tmp_path).write(msgspec.structs.replace(record, key_parts=old, key="0" * 64))
    assert cli(plan) == 0
    assert "its record is stale (code changed)" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "json"])
def test_report_shows_every_record(
    form: str, measured: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("ncm", "linear_probe"):
        run_cell(ready(method, stream_of(pictures), options={}), Results(tmp_path), Silent())
    assert cli(["report", "--results", str(tmp_path), "--format", form]) == 0
    out = capsys.readouterr().out
    assert "ncm" in out
    assert "linear_probe" in out
    if form == "json":
        json.loads(out)


def test_an_empty_folder_of_results_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARRYOVER_RESULTS", str(tmp_path / "nothing"))
    assert cli(["report"]) == 0
    assert cli(["status"]) == 0
    assert "0 records, 0 failures" in capsys.readouterr().out


def test_the_environment_moves_the_results(
    measured: None, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARRYOVER_RESULTS", str(tmp_path / "here"))
    typed = words("ncm", stream_of(pictures), tmp_path, "--quiet")
    place = typed.index("--results")
    assert cli(typed[:place] + typed[place + 2 :]) == 0
    assert only_record(tmp_path / "here").status == "ok"


def test_quiet_says_nothing_but_the_table(
    measured: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(words("ncm", stream_of(pictures), tmp_path, "--quiet")) == 0
    out, err = capsys.readouterr()
    assert "ncm" in out
    assert err == ""


@pytest.mark.parametrize(
    "typed", [["run"], ["rum"], ["run", "--method", "ncm", "--jobs", "0"], ["ls", "cats"]]
)
def test_a_wrong_command_line_is_refused(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(typed) == 2
    assert "Error: " in capsys.readouterr().err


# Ctrl-C

INTERRUPT = """
import os, signal
import backbones.training as training
from carryover.protocols.journal import CellJournal
# Whoever starts the tests in the background starts them with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
CellJournal.__init__.__defaults__ = (0.0, None)
real, calls = training._finite, 0
def interrupted(*arguments):
    global calls
    calls += 1
    if calls == 8:
        os.kill(os.getpid(), signal.{signal})
    return real(*arguments)
training._finite = interrupted
"""


@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_ctrl_c_keeps_the_journal_and_the_printed_command_goes_on(
    name: str, measured: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = stream_of(pictures)
    stopped = python(INTERRUPT.format(signal=name), words("meat", stream, tmp_path / "stopped", "--no-reuse"))
    assert stopped.returncode == 130, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "interrupted; finished work is kept. Continue with:" in stopped.stderr
    assert Results(tmp_path / "stopped").all() == ([], [])
    assert cli(["status", "--results", str(tmp_path / "stopped")]) == 0
    assert "1 interrupted" in capsys.readouterr().out
    command = shlex.split(stopped.stderr.splitlines()[-1])
    assert command[:2] == ["carryover", "run"]
    assert cli(command[1:]) == 0
    assert ": resumed" in capsys.readouterr().err
    assert not list((tmp_path / "stopped" / "journal").iterdir())
    assert cli(words("meat", stream, tmp_path / "calm", "--no-reuse", "--quiet")) == 0
    same_outcome(tmp_path / "stopped", tmp_path / "calm")


SLOW = """
import pathlib, time
import carryover.protocols.continual as continual
real, flag = continual._score, pathlib.Path({flag!r})
def slow(*arguments):
    flag.touch()
    while not flag.with_suffix(".go").exists():
        time.sleep(0.05)
    return real(*arguments)
continual._score = slow
"""


@pytest.mark.slow
def test_two_processes_on_one_cell_make_one_record(measured: None, pictures: Path, tmp_path: Path) -> None:
    results, flag = tmp_path / "results", tmp_path / "flag"
    command = words("ncm", stream_of(pictures), results)
    first = subprocess.Popen(
        [sys.executable, "-P", "-c", program(SLOW.format(flag=str(flag))), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not flag.exists():
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.05)
    second = subprocess.Popen(
        [sys.executable, "-P", "-m", "carryover", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = []
    for line in second.stderr:
        said.append(line)
        if "another process is at work" in line:
            flag.with_suffix(".go").touch()
    assert any("another process is at work on" in line and "waiting for it" in line for line in said), said
    first.communicate()
    second.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert only_record(results).status == "ok"


@pytest.mark.slow
def test_jobs_and_a_timeout_in_processes_of_their_own(
    measured: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words("ncm", stream_of(pictures), tmp_path / "apart", "--seed", "0,1")
    assert cli([*command, "--jobs", "2"]) == 0
    one = words("ncm", stream_of(pictures), tmp_path / "here", "--seed", "0,1")
    assert cli([*one, "--quiet"]) == 0
    outcomes = [
        {record.cell.seed: record.outcome() for record in Results(tmp_path / name).all()[0]}
        for name in ("apart", "here")
    ]
    assert outcomes[0] == outcomes[1]
    late = words("meat", stream_of(pictures), tmp_path / "late", "-o", "epochs=5000")
    assert cli([*late, "--timeout", "8"]) == 1
    record = only_record(tmp_path / "late")
    assert record.status == "timeout"
    assert "stopped after 8 s" in record.reason
