"""The committed reference: what it is made from can be asked for, and what is there can be read."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from carryover.cells.request import Request
from carryover.commands.cli import _carryover
from carryover.plugins.catalogue import backbone_plugin, methods, stream_plugin
from carryover.records.results import Results

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
LINES = [line for line in (REFERENCE / "cells").read_text().splitlines() if not line.startswith("#")]


def asked(line: str) -> Request:
    command = _carryover.commands["run"]
    return Request.typed(command.make_context("run", shlex.split(line)).params)


@pytest.mark.parametrize("line", LINES)
def test_a_line_names_what_exists(line: str) -> None:
    request = asked(line)
    assert set(request.methods) <= set(methods())
    for stream in request.streams:
        stream_plugin(stream.partition("?")[0])
    for backbone in request.backbones:
        backbone_plugin(backbone)
    assert request.cells()


def test_every_method_is_asked_for() -> None:
    assert {name for line in LINES for name in asked(line).methods} == set(methods())


def test_records_are_read_and_ok() -> None:
    results = Results(REFERENCE.parent / "none", REFERENCE)
    records, broken = results.all()
    assert not broken
    assert all(record.status == "ok" for record in records)
