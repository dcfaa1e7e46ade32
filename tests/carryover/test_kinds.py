"""No reader raises on a record of another version: unknown protocol, newer schema, a plugin that is gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_records import CONTRACT, made
from msgspec.structs import replace

from carryover.cells.key import standing
from carryover.commands.cli import cli
from carryover.metrics.kinds import PROTOCOLS, kind_of, metrics_of, protocol_of
from carryover.records.record import SCHEMA, Record, encode
from carryover.records.results import Results

ONLINE = CONTRACT | {"protocol": "online 1: one pass, scored every k images"}
STREAM, BACKBONE = "online-pictures", "tiny_vit"


def online(method: str = "ncm", seed: int = 0, accuracy: float = 0.5, **fields: object) -> Record:
    """What a later version may write: a protocol and metrics that are not here."""
    metrics = {"accuracy_anytime": accuracy, "accuracy_last": accuracy / 2, "accuracy/task 0": 0.1}
    record = made(method, seed, stream=STREAM, backbone=BACKBONE, contract=ONLINE, metrics=metrics)
    return replace(record, **fields)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods with two seeds each, written by a later version: more fields, another minor."""
    monkeypatch.setenv("CARRYOVER_RESULTS", str(tmp_path))
    minor = int(SCHEMA.partition(".")[2]) + 6
    for method, accuracy in (("ncm", 0.5), ("replay_of_theirs", 0.625)):
        for seed in (0, 1):
            record = online(method, seed, accuracy + seed / 8)
            path = Results(tmp_path).write(record)
            text = json.loads(path.read_text()) | {"schema": f"1.{minor}", "updates": [1, 2, 3]}
            text["cost"]["updates"] = 7
            path.write_text(json.dumps(text))
    return tmp_path


def test_report_shows_what_was_recorded_and_says_that_it_does_not_know_the_protocol(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["report", "--stream", STREAM]) == 0
    said = capsys.readouterr().out
    assert "56.25±8.84" in said  # the mean of what the two seeds recorded
    assert "replay_of_theirs" in said
    assert "this version of carryover does not know the protocol 'online'" in " ".join(said.split())
    assert "4 of the records" in " ".join(said.split())
    assert "§" in said
    for form in ("markdown", "csv", "json"):
        assert cli(["report", "--stream", STREAM, "--format", form]) == 0
        assert "replay_of_theirs" in capsys.readouterr().out


def test_status_counts_them(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["status"]) == 0
    said = capsys.readouterr().out
    assert "newer version of carryover (schema 1." in said
    assert "4 of them made with a method, stream, backbone or protocol that is not here:" in said


def test_compare_compares_what_was_recorded_and_says_what_it_cannot(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["compare", "replay_of_theirs", "ncm", "--stream", STREAM, "--backbone", BACKBONE]) == 0
    said = capsys.readouterr().out
    assert "replay_of_theirs minus ncm, accuracy_anytime: +12.50 points over 2 seeds" in said
    assert "not compared, it is unknown which rows of this protocol count" in said
    assert "that this checkout lacks: replay_of_theirs (seed 0, 1) and ncm (seed 0, 1)" in said
    words = ["compare", "replay_of_theirs", "lora", "--stream", STREAM, "--backbone", BACKBONE]
    assert cli(words) == 2
    said = capsys.readouterr().err
    assert "there is no finished record of lora" in said
    assert "it cannot be made here: unknown stream" in said


def test_plan_is_not_disturbed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli(["plan", "--method", "ncm", "--stream", "split-digits?per_class=20", "--backbone", BACKBONE]) == 0
    )
    assert "to run" in capsys.readouterr().out


def test_compare_says_how_the_last_one_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = "split-digits?per_class=20"
    monkeypatch.setattr("carryover.cells.key.standing", lambda record: "current")
    Results(tmp_path).write(made("ncm", stream=stream, backbone=BACKBONE))
    failed = made("lora", stream=stream, backbone=BACKBONE, status="failed")
    Results(tmp_path).write(replace(failed, reason="out of memory"))
    words = ["compare", "ncm", "lora", "--stream", stream, "--backbone", BACKBONE, "--results", str(tmp_path)]
    assert cli(words) == 2
    assert "there is no finished record of lora" in (said := capsys.readouterr().err)
    assert "(one failed: out of memory)" in said
    assert "makes one" in said


@pytest.mark.parametrize(
    "record",
    [
        made("gone_for_good"),
        replace(made("ncm"), cell=replace(made("ncm").cell, stream="gone-stream?x=1")),
        replace(made("ncm"), cell=replace(made("ncm").cell, method="mine.py:Mine@12345678")),
        online(),
    ],
    ids=["method", "stream", "file", "protocol"],
)
def test_what_is_gone_is_gone_and_not_stale(record: Record) -> None:
    assert standing(record) == "gone"


def test_metrics_are_those_of_the_rows_whatever_the_file_says() -> None:
    honest = made("ncm")
    assert metrics_of(replace(honest, metrics={"accuracy_last": 0.999})) == metrics_of(honest)
    assert metrics_of(honest) == pytest.approx(honest.metrics)
    assert b"0.999" in encode(replace(honest, metrics={"accuracy_last": 0.999}))


def test_few_shot_is_spelled_one_way_and_records_of_before_are_read() -> None:
    assert (
        protocol_of({"protocol": "few-shot 1: fresh"})
        == protocol_of({"protocol": "few_shot 1"})
        == "few_shot"
    )


def test_a_protocol_is_two_files_and_one_word() -> None:
    import carryover.metrics
    import carryover.protocols

    for package in (carryover.protocols, carryover.metrics):
        assert all((Path(package.__path__[0]) / f"{name}.py").exists() for name in PROTOCOLS)
    for name in PROTOCOLS:
        assert kind_of(name).name == name
        assert kind_of(name).primary
