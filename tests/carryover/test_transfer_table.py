"""Tables of transfer streams: both means, groups, tasks, shares; and what others published, kept apart."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from made_records import CONTRACT, COST, made
from msgspec.structs import replace

from carryover.cells.selection import Rule
from carryover.metrics.line import Line
from carryover.metrics.transfer import transfer_metrics
from carryover.records.record import Record
from carryover.records.results import Results
from carryover.records.row import Row
from carryover.tables.columns import columns
from carryover.tables.export import as_csv, as_json, markdown
from carryover.tables.published import META_DATASET, SOURCES, VTAB, published_for
from carryover.tables.report import report_text
from carryover.tables.table import table
from carryover.tables.terminal import drawn

GROUPS = ("natural",) * 7 + ("specialised",) * 4 + ("structured",) * 8
NAMES = tuple(f"{group[:4]}-{number}" for number, group in enumerate(GROUPS))
TRANSFER = CONTRACT | {
    "protocol": "transfer 1: every task from the start",
    "order": "as the source has them",
    "scenario": "transfer: a task is scored among its own classes",
    "selection": Rule().describe(),
}


def transferred(method: str, seed: int = 0, right: int = 70, tasks: int = 19, **fields: object) -> Record:
    """A record of `tasks` tasks of 100 images; the first of them has `right` right, every other one more."""
    rows = [Row.scored(1, task, np.arange(100) < right + task) for task in range(tasks)]
    names, groups = NAMES[:tasks], GROUPS[:tasks]
    settings = {
        "stream": "vtab-1k",
        "contract": TRANSFER,
        "rows": tuple(rows),
        "metrics": transfer_metrics(rows, names, groups),
        "groups": groups,
        "cost": replace(COST, trainable=294_912, parameters=85_798_656),
        "fingerprints": {},
        **fields,
    }
    return replace(made(method, seed, **settings), tasks=names)


def seeds_of(method: str, right: int) -> list[Record]:
    return [transferred(method, seed, right + seed) for seed in range(3)]


def row_of(said: str, method: str) -> list[str]:
    return next(line for line in said.splitlines() if line.startswith(f"{method} ")).split()


def test_both_means_and_each_group_stand_in_100_columns() -> None:
    found = table([*seeds_of("lora", 60), *seeds_of("vpt_deep", 50)])
    said = drawn(found, 100)
    assert max(map(len, said.splitlines())) <= 100
    heading = said.split("─")[0]
    for name in ("accuracy", "group", "natural", "specialised", "structured", "share"):
        assert name in heading
    # Tasks 0 to 18 have 61 to 79 right on average; the groups' means are 64, 69.5 and 75.5.
    assert row_of(said, "lora")[1:7] == [
        "3",
        "70.00±1.00",
        "69.67±1.00",
        "64.00±1.00",
        "69.50±1.00",
        "75.50±1.00",
    ]


def test_every_task_is_a_column_and_the_last_to_get_room() -> None:
    found = table(seeds_of("lora", 60))
    wide = drawn(found, 400)
    assert "left out" not in wide
    assert all(f"{number}" in wide.split("─")[0] for number in range(19))
    narrow = drawn(found, 100)
    left_out = narrow.replace("\n  ", " ").partition("left out at this width: ")[2]
    assert all(f"task {name} %" in left_out for name in NAMES)
    assert "group" not in left_out
    assert "share" not in left_out


def test_the_trained_share_is_without_the_head_and_absent_where_it_is_not_known() -> None:
    (share,) = (column for column in columns(table([transferred("lora")])) if "share" in column.full)
    assert share.text(Line("lora", trainable=294_912, parameters=85_798_656)) == "0.34"
    assert share.text(Line("linear_probe", trainable=0, parameters=85_798_656)) == "0"
    assert share.text(Line("of an older record", trainable=5)) == "–"


def test_a_stream_without_groups_has_one_mean() -> None:
    metrics = {"accuracy_mean": 0.7}
    found = table([transferred("lora", groups=(), metrics=metrics)])
    assert "group" not in drawn(found, 400).split("─")[0]


def test_a_title_is_readable_in_100_columns() -> None:
    backbone, stream = "vit_base_patch16_224.augreg_in21k", "vtab-1k?only=cifar+dtd+eurosat"
    found = table([transferred("lora", backbone=backbone, stream=stream, tasks=3)])
    title = drawn(found, 100).split("accuracy")[0].splitlines()
    assert title[0] == f"{stream} · transfer · {backbone}"
    assert title[1].startswith("selection search, up to 4 candidates x 5 epochs · contract ")
    manual = TRANSFER | {"selection": f"{Rule().describe()}; others manual"}
    assert "x 5 epochs; others manual · contract" in table([transferred("lora", contract=manual)]).title


@pytest.fixture
def results(tmp_path):
    found = Results(tmp_path)
    for record in [*seeds_of("lora", 60), *seeds_of("vpt_deep", 95 - 19)]:
        found.write(record)
    return found


def test_published_rows_stand_below_ours_marked_and_with_their_source(results: Results) -> None:
    said = report_text(results, published=True)
    ours, apart, theirs = said.partition("‡ published ┄")
    assert apart
    assert "lora" in ours
    assert "NOAH" not in ours
    names = [line.split(" ‡")[0] for line in theirs.splitlines()[1:] if " ‡" in line]
    assert names == ["NOAH", "SSF", "LoRA", "Adapter", "VPT-deep", "Full", "VPT-shallow", "Linear"]
    assert row_of(theirs, "LoRA")[1:5] == ["‡", "–", "72.3", "74.6"]
    said = " ".join(said.split())
    assert "many of these rows were selected on test accuracy" in said
    assert "Jia et al., ECCV 2022: VPT-deep, Full, VPT-shallow, Linear" in said
    assert "under other conditions" in said


def test_published_rows_are_marked_in_every_form(results: Results) -> None:
    text = report_text(results, form="markdown", published=True)
    assert "| *SSF* ‡ | – | 73.1 | 75.7 |" in text
    assert text.index("| vpt_deep") < text.index("| lora") < text.index("*NOAH*")
    rows = list(csv.DictReader(io.StringIO(report_text(results, form="csv", published=True))))
    assert [row["published"] for row in rows[:2]] == ["", ""]
    theirs = next(row for row in rows if row["method"] == "Linear")
    assert theirs["published"] == "Jia et al., ECCV 2022"
    assert theirs["contract"] == ""
    assert (theirs["accuracy_mean_mean"], theirs["accuracy_group_mean_mean"]) == ("0.529", "0.576")
    (shown,) = json.loads(report_text(results, form="json", published=True))
    assert [line["method"] for line in shown["lines"]] == ["vpt_deep", "lora"]
    assert [line["method"] for line in shown["published"]][:2] == ["NOAH", "SSF"]


@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "json"])
def test_nothing_published_is_shown_unasked(results: Results, form: str) -> None:
    assert "NOAH" not in report_text(results, form=form)
    assert "‡" not in report_text(results, form=form)


def test_means_over_other_tasks_than_ours_are_not_shown() -> None:
    found = published_for(table([transferred("lora", stream="vtab-1k?only=cifar", tasks=1)]))
    assert found.lines == ()
    assert found.notes == ("the published means are over 19 tasks, and this table has 1",)


def test_a_stream_on_which_nothing_was_published_has_no_rows() -> None:
    found = published_for(table([made()]))
    assert (found.lines, found.notes) == ((), ())


@pytest.mark.parametrize("count", [10, 3])
def test_the_leaderboard_stands_by_source_and_its_mean_only_where_it_is_over_the_same(count: int) -> None:
    contract = CONTRACT | {"protocol": "few-shot 1", "scenario": "few-shot: an episode"}
    sources = tuple(f"meta-dataset/{name}" for name in SOURCES[:count])
    rows = tuple(Row(step=0, task=task, n=10, correct=5) for task in range(count))
    record = made("ncm", stream="meta-dataset", contract=contract)
    found = table([replace(record, rows=rows, tasks=sources)])
    lines = {line.method: line for line in published_for(found).lines}
    assert next(iter(lines)) == "DIPA" if count == 10 else set(lines) == set(META_DATASET)
    ctx = lines["CTX + SimCLR + augmentation"].metrics
    assert ctx["accuracy/meta-dataset/omniglot"].mean == 0.822
    assert ("accuracy_mean" in ctx) is (count == 10)


def test_published_means_are_the_means_of_their_row() -> None:
    for row in META_DATASET.values():
        assert len(row) == 11
        assert sum(row[:-1]) / 10 == pytest.approx(row[-1], abs=0.06)
    assert all(0 < tasks < groups < 100 for _, tasks, groups in VTAB.values())


def test_a_table_with_published_rows_exports_like_one_without() -> None:
    found = table([transferred("lora")])
    assert json.loads(as_json([found]))[0]["published"] == []
    assert "‡" not in markdown(found)
    assert next(csv.DictReader(io.StringIO(as_csv([found]))))["parameters"] == "85798656.0"
