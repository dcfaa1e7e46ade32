"""`carryover rerun`: the same cell once more on this machine, and how many of its answers differ."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from tiny_cells import HERE, python, stream_of, words

from carryover.cells.selection import Rule
from carryover.commands.cli import cli
from carryover.commands.rerun import BOUND, differences, request_of
from carryover.exit_codes import FAILED, OK, REFUSED
from carryover.records.record import Record, decode, encode
from carryover.records.results import Results
from carryover.records.row import Row, unpack_hits


@pytest.fixture(scope="module")
def recorded(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the record of a linear probe."""
    root = tmp_path_factory.mktemp("recorded")
    assert cli(words("linear_probe", stream_of(pictures), root)) == OK
    (path,) = root.glob("records/*/*/*/*.json")
    return path


def changed(path: Path, folder: Path, **fields: object) -> Path:
    """A copy of the record in another file."""
    record = msgspec.structs.replace(decode(path.read_bytes()), **fields)
    copy = folder / path.name
    copy.write_bytes(encode(record))
    return copy


def test_on_the_same_machine_no_answer_differs(recorded, tmp_path, capsys):
    assert cli(["rerun", "--quiet", "--results", str(tmp_path), str(recorded)]) == OK
    said = capsys.readouterr().out
    assert " 0 of 60 answers differ (0.00%)" in said, (
        "10 images of 3 tasks, those that are learnt at each step"
    )
    assert "the same key" in said
    (again,) = tmp_path.glob("records/*/*/*/*.json")
    assert decode(again.read_bytes()).outcome() == decode(recorded.read_bytes()).outcome()


def test_frozen_features_under_other_instructions_stay_within_the_bound(recorded):
    fewer = {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    }
    ran = python("", ["rerun", "--quiet", str(recorded)], env=os.environ | fewer)
    assert ran.returncode == OK, ran.stdout + ran.stderr
    assert "answers differ" in ran.stdout
    assert "ONEDNN_MAX_CPU_ISA=SSE41" in ran.stdout.partition("; here ")[2], "the set is told"


def wrong(record: Record, count: int) -> tuple[Row, ...]:
    """The rows with the last `count` answers of the last row the other way round."""
    *rows, last = record.rows
    hits = unpack_hits(last.hits, last.n)
    hits[-count:] = ~hits[-count:]
    return (*rows, Row.scored(last.step, last.task, hits))


def test_more_than_rounding_changes_is_an_error(recorded, tmp_path, capsys):
    record = decode(recorded.read_bytes())
    assert BOUND < 2 / 60
    other = changed(recorded, tmp_path, rows=wrong(record, 2))
    assert cli(["rerun", "--quiet", str(other)]) == FAILED
    said = capsys.readouterr().out
    assert "2 of 60 answers differ (3.33%, by right or wrong), more than the 1% that rounding" in said


def test_a_network_that_trained_is_not_judged(recorded):
    record = decode(recorded.read_bytes())
    other = msgspec.structs.replace(record, rows=wrong(record, 2))
    assert differences(record, other, None, None).different == 2
    assert differences(record, record, None, None).different == 0


def test_other_classes_are_seen_where_predictions_were_kept(recorded):
    record = decode(recorded.read_bytes())
    kept = Results.predictions_at(recorded.with_suffix(".predictions.npz"))
    assert kept is not None
    others = {place: classes.copy() for place, classes in kept.items()}
    next(iter(others.values()))[0] += 100
    found = differences(record, record, kept, others)
    assert (found.different, found.classes) == (1, True)


def test_other_test_images_cannot_be_compared(recorded, tmp_path, capsys):
    record = decode(recorded.read_bytes())
    other = changed(recorded, tmp_path, fingerprints=record.fingerprints | {1: "another"})
    assert cli(["rerun", "--quiet", str(other)]) == FAILED
    assert "cannot be compared, since the test images of task 1 are others" in capsys.readouterr().out


def test_what_is_no_successful_record_is_refused(recorded, tmp_path, capsys):
    failed = changed(recorded, tmp_path, status="failed", rows=(), metrics={})
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for path, said in (
        (failed, "that failed"),
        (broken, "is no record"),
        (tmp_path / "no.json", "cannot be read"),
    ):
        assert cli(["rerun", str(path)]) == REFUSED
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("rule", [Rule(), Rule(2, 0), Rule(7, 3)])
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_search_is_run_again_by_its_rule(rule, by_hand, recorded):
    assert Rule.described(rule.describe(by_hand)) == rule
    record = decode(recorded.read_bytes())
    selection = msgspec.structs.replace(record.selection, rule=rule.describe(by_hand))
    assert request_of(msgspec.structs.replace(record, selection=selection)).selection == rule.name
    assert request_of(record).selection == "default"


def test_the_request_is_that_of_the_record(recorded):
    record = decode(recorded.read_bytes())
    request = request_of(record)
    assert [cell.method for cell in request.cells()] == ["linear_probe"]
    assert request.threads == record.env.threads == int(HERE[HERE.index("--threads") + 1])
    assert record.env.instructions


def test_the_order_of_the_record_is_run_again(pictures, tmp_path, capsys):
    asked = words("ncm", stream_of(pictures), tmp_path, "--order", "7,natural", "--quiet")
    assert cli(asked) == OK
    paths = sorted(map(str, tmp_path.glob("records/*/*/*/*.json")))
    assert {request_of(decode(Path(path).read_bytes())).orders for path in paths} == {("7",), ("natural",)}
    capsys.readouterr()
    assert cli(["rerun", "--quiet", *paths]) == OK
    said = capsys.readouterr().out
    assert said.count(" 0 of 60 answers differ") == said.count("the same key") == 2
