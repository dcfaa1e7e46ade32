"""How long a cell may take, told from records."""

from __future__ import annotations

import episode_lab
import msgspec
import pytest
from made_records import made
from tiny_cells import ready

from carryover.cells.estimate import seconds
from carryover.cells.ready import ReadyCell
from carryover.records.record import Candidate, Cost, Record, Selection
from carryover.records.row import Row

DIGITS = "embedded-transfer?only=digits&size=32"
EPISODES = "episodes:blots+others?episodes={}&way=5&support=12"


def recorded(cell: ReadyCell, **found: object) -> Record:
    """An ok record of the cell, under its contract, that took 10 s to train and 1 s to score."""
    values = {"contract": dict(cell.contract), "cost": Cost(train_s=10, eval_s=1, passes=5000), **found}
    record = made(cell.cell.method, stream=cell.cell.stream, backbone=cell.cell.backbone)
    return msgspec.structs.replace(record, cell=cell.cell, **values)


def test_episodes_are_counted_and_not_their_images() -> None:
    short, long = (episode_lab.ready("protonet", EPISODES.format(count)) for count in (2, 200))
    rows = tuple(Row(step=1, task=number, split="test", n=10, correct=5) for number in range(2 * 2))
    record = recorded(short, rows=rows, cost=Cost(train_s=0, eval_s=1, prepare_s=7))
    assert seconds(short, [record], chosen=True) == 8
    assert seconds(long, [record], chosen=True) == pytest.approx(107)


def test_candidates_are_counted_until_they_are_chosen() -> None:
    cell = ready("linear_probe", DIGITS, options={}, selection="search?candidates=2&epochs=5")
    tried = tuple(Candidate(trial="digits", options={"lr": lr}, passes=4000) for lr in (0.1, 0.2))
    row = Row(step=1, task=0, split="test", n=359, correct=300)
    record = recorded(cell, rows=(row,), tasks=("digits",), selection=Selection(candidates=tried))
    assert seconds(cell, [record], chosen=True) == pytest.approx(11)
    assert seconds(cell, [record], chosen=False) == pytest.approx(10 * (1 + 8000 / 5000) + 1)


def test_a_record_of_another_rule_or_protocol_tells_nothing() -> None:
    cell = ready("linear_probe", DIGITS, options={}, selection="search?candidates=2&epochs=5")
    row = Row(step=1, task=0, split="test", n=359, correct=300)
    for other in (
        ready("linear_probe", DIGITS, options={}, selection="search?candidates=2&epochs=100"),
        ready("linear_probe", DIGITS, options={}, selection="default"),
        ready("linear_probe", "split-digits", options={}),
    ):
        assert seconds(cell, [recorded(other, rows=(row,))], chosen=False) is None
