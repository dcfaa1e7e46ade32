"""Tables: what stands in one, what is told beside it, and that no number is ever cut short."""

import csv
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import CONTRACT, COST, made
from msgspec.structs import replace
from rich.cells import cell_len

from benchmarks.errors import RequestError
from carryover.commands.cli import cli
from carryover.metrics.line import Line, Spread, duration, percent, si
from carryover.records.contract import Contract
from carryover.records.record import Env
from carryover.records.results import Results
from carryover.records.row import Row
from carryover.tables.columns import columns
from carryover.tables.export import as_csv, as_json, markdown
from carryover.tables.report import FORMATS, closing_text, report_text
from carryover.tables.table import Table, closing_tables, table
from carryover.tables.terminal import drawn, drawn_failures

COMMAND = "carryover run --method joint --stream split-cifar100 --backbone vit --seed 0,1,2"


def three_seeds(method, accuracy, **fields):
    return [made(method, seed, accuracy, **fields) for seed in range(3)]


def line_of(made_table, label):
    (line,) = (line for line in made_table.lines if line.label == label)
    return line


def test_methods_stand_in_order_of_their_last_accuracy():
    records = [*three_seeds("ncm", 0.6), *three_seeds("meat", 0.9), *three_seeds("full_finetune", 0.3)]
    found = table(records)
    assert [line.method for line in found.lines] == ["meat", "ncm", "full_finetune"]
    last = [r.metrics["accuracy_last"] for r in records if r.cell.method == "meat"]
    assert line_of(found, "meat").metrics["accuracy_last"] == Spread.of(last)
    assert line_of(found, "meat").seeds == (0, 1, 2)


def test_options_make_lines_of_their_own():
    found = table([made(), made(options={"lr": 0.1}), made(options={"lr": 0.2})])
    assert {line.label for line in found.lines} == {"meat", "meat lr=0.1", "meat lr=0.2"}


@pytest.mark.parametrize("part", CONTRACT)
def test_two_contracts_never_share_a_table(part):
    with pytest.raises(RequestError, match=part):
        table([made("meat"), made("ncm", contract=CONTRACT | {part: "another"})])


def test_the_declared_part_may_vary_and_is_a_column():
    swin = CONTRACT | {"backbone": "swin 99, mean"}
    found = table([made("meat"), made("meat", backbone="swin", contract=swin)], vary="backbone")
    assert {line.varied for line in found.lines} == {"vit", "swin"}
    assert "swin" in drawn(found, 100)


def test_superseded_failed_and_skipped_records_do_not_count():
    found = table([made(accuracy=0.1), made(accuracy=0.9, minute=1), made("ncm", status="failed")])
    assert [line.label for line in found.lines] == ["meat"]
    assert line_of(found, "meat").metrics["accuracy_last"].mean > 0.5


def test_this_run_and_what_is_not_stale_count_before_newer_records():
    old, new = made(minute=1), made(minute=2)
    assert line_of(table([old, new], fresh={old.key}), "meat").fresh
    assert not line_of(
        table([old, new], standing=lambda record: "stale" if record == new else "current"), "meat"
    ).stale


def test_one_cell_under_two_names_counts_once():
    alias = made(accuracy=0.9, minute=3, stream="split-cifar100?tasks=10")
    found = table([made(accuracy=0.1), alias, made(seed=1)])
    assert line_of(found, "meat").seeds == (0, 1)
    alone = table([alias, made(seed=1)])
    assert line_of(found, "meat").metrics == line_of(alone, "meat").metrics


def test_what_was_prepared_otherwise_is_another_line():
    one, other = "a" * 64, "b" * 64
    records = [made(prepared=one), made(seed=1, prepared=one), made(prepared=other, minute=2), made("ncm")]
    found = table(
        [replace(r, cell=replace(r.cell, stream=f"{r.cell.stream}?pool={r.prepared}")) for r in records]
    )
    assert {line.label: line.seeds for line in found.lines} == {
        "meat (aaaaaaaa)": (0, 1),
        "meat (bbbbbbbb)": (0,),
        "ncm": (0,),
    }
    assert [line.label for line in table(records[:2]).lines] == ["meat"]


def test_a_stale_record_is_shown_and_marked():
    found = table([made()], standing=lambda record: "stale")
    assert "meat †" in drawn(found, 100)
    assert "† made by other code" in drawn(found, 100)
    assert "†" in markdown(found)


def on(seed, instructions="", processor="A", method="meat"):
    env = Env(device="cpu", dtype="float32", threads=1, instructions=instructions, processor=processor)
    return made(method, seed, env=env)


def test_a_line_whose_seeds_come_from_different_instruction_sets_is_marked():
    found = table([on(0, "AVX2"), on(1, "AVX512"), on(0, "AVX2", method="ncm"), on(1, "AVX2", method="ncm")])
    said = drawn(found, 100)
    assert "meat ¶" in said
    assert "ncm ¶" not in said
    assert "¶ computed with different processors" in said
    assert "meat ¶" in markdown(found)
    assert "- ¶ computed with" in markdown(found)


def test_processors_are_compared_where_no_instruction_set_was_recorded():
    assert table([on(0, processor="A"), on(1, processor="B")]).lines[0].mixed
    assert not table([on(0, processor="A"), on(1, processor="A")]).lines[0].mixed


def test_status_names_the_kinds_of_processor(tmp_path, capsys):
    for record in (on(0, "AVX2"), on(1, "AVX512"), on(2, "AVX512")):
        Results(tmp_path).write(record)
    assert cli(["status", "--results", str(tmp_path)]) == 0
    assert "computed with 2 kinds of processor, whose answers differ a little: AVX512 (2); AVX2 (1)" in (
        capsys.readouterr().out
    )


def test_this_runs_line_is_marked():
    found = table([made("meat"), made("ncm")], fresh={made("meat").key})
    assert "meat *" in drawn(found, 100)
    assert "ncm *" not in drawn(found, 100)
    assert "**meat**" in markdown(found)
    assert "\x1b[1mmeat" in drawn(found, 100, color=True)
    assert "\x1b" not in drawn(found, 100)


def test_a_reference_row_without_a_record_names_the_command_that_fills_it():
    wanted = ["ncm", "joint", "unfit"]
    found = table([made("ncm")], reference_methods=wanted, fill=lambda m: COMMAND if m == "joint" else "")
    assert [line.label for line in found.lines] == ["ncm", "joint"]
    for width in (60, 80, 100, 140):
        assert COMMAND in drawn(found, width)
    assert COMMAND in markdown(found)
    assert COMMAND in as_csv([found])
    assert COMMAND in as_json([found])


def test_a_reference_row_beside_options_typed_by_hand_needs_one_too():
    manual = CONTRACT | {"selection": "manual"}
    found = table([made(contract=manual)], reference_methods=["ncm"], fill=lambda method: "carryover run")
    assert line_of(found, "ncm").fill == "carryover run -o KEY=VALUE"


def test_dtype_is_a_column_only_where_it_is_mixed():
    alike = table([made("meat"), made("ncm")])
    mixed = table([made("meat"), made("ncm", dtype="bfloat16")])
    assert "dtype" not in drawn(alike, 140)
    assert "dtype" in drawn(mixed, 140)
    assert "bfloat16" in drawn(mixed, 140)


def test_a_record_tested_on_other_images_is_left_out_and_named():
    odd = made("ncm", 1, fingerprints={0: "others"})
    found = table([*three_seeds("meat", 0.8, minute=1), made("ncm", 0), odd])
    assert line_of(found, "ncm").seeds == (0,)
    assert any("other images" in note and "ncm" in note and "seed 1" in note for note in found.notes)


def test_means_over_different_seeds_are_said_to_be():
    found = table([*three_seeds("meat", 0.8), made("ncm", 0)])
    assert "the means are over different seeds (meat: 0, 1, 2; ncm: 0)" in found.notes
    assert table(three_seeds("meat", 0.8)).notes == ()


def in_orders(method, accuracy, orders=("1993", "1994", "natural"), seeds=(0, 1), **fields):
    return [made(method, seed, accuracy, order=order, **fields) for order in orders for seed in seeds]


def test_a_line_over_several_orders_shows_both_deviations_and_the_error_of_its_mean():
    found = table([*in_orders("meat", 0.8), *in_orders("ncm", 0.6)])
    line = line_of(found, "meat")
    assert (line.orders, line.seeds) == (("1993", "1994", "natural"), (0, 1))
    y = [[r.metrics["accuracy_last"] for r in in_orders("meat", 0.8, [o])] for o in line.orders]
    assert line.metrics["accuracy_last"] == Spread.over(y)
    said = drawn(found, 140)
    assert " · 3 orders (1993, 1994, natural) · " in found.title
    assert re.search(r"meat +3 +2 +\d\d\.\d\d±\d\.\d\do±\d\.\d\ds +\d\.\d\d ", said)
    assert "±o: standard deviation over orders" in said
    (row,) = (row for row in csv.DictReader(io.StringIO(as_csv([found]))) if row["method"] == "meat")
    assert (row["orders"], row["seeds"]) == ("1993 1994 natural", "0 1")
    assert float(row["accuracy_last_error"]) == Spread.over(y).error
    assert float(row["accuracy_last_order_std"]) == Spread.over(y).order_std
    assert float(row["accuracy_last_std"]) == Spread.over(y).std


def test_one_order_is_said_to_be_one_and_shows_the_deviation_over_seeds_alone():
    found = table(in_orders("meat", 0.8, ["1994"]))
    assert " · one order (1994) · " in found.title
    assert percent(found.lines[0], "accuracy_last").count("±") == 1
    assert not {"orders", "std.\nerror"} & {column.short for column in columns(found)}


def test_means_over_different_orders_or_seeds_are_said_to_be():
    found = table([*in_orders("meat", 0.8), *in_orders("ncm", 0.6, ["1993"])])
    assert "meat: 1993 with 0 1, 1994 with 0 1, natural with 0 1; ncm: 1993 with 0 1)" in found.notes[1]
    assert "different orders or seeds" in found.notes[1]
    found = table(in_orders("meat", 0.8)[1:])
    assert "not every order has every seed (meat)" in found.notes
    found = table(in_orders("meat", 0.8, seeds=[0]))
    assert any(note.startswith("one seed in each order") for note in found.notes)
    assert "±" not in percent(found.lines[0], "accuracy_last")


def test_where_tasks_are_of_unequal_size_accuracies_per_image_stand_beside_those_per_task():
    def of_sizes(sizes):
        hits = [Row.scored(2, task, np.arange(n) < right) for task, (n, right) in enumerate(sizes)]
        before = Row.scored(1, 0, np.arange(sizes[0][0]) < sizes[0][0])
        return made(rows=(before, Row(step=1, task=1, n=sizes[1][0], correct=0), *hits))

    equal, unequal = (table([of_sizes(sizes)]) for sizes in ([(10, 8), (10, 4)], [(30, 24), (10, 4)]))
    assert not [column for column in columns(equal) if "micro" in column.full]
    said = {column.full: column.text(unequal.lines[0]) for column in columns(unequal)}
    assert (said["accuracy_last %"], said["accuracy_last_micro %"]) == ("60.00", "70.00")
    assert (said["accuracy_incremental %"], said["accuracy_incremental_micro %"]) == ("80.00", "85.00")


def test_notes_of_records_are_told_once():
    found = table([made(seed=s, notes=("the weights are random",)) for s in range(3)])
    assert found.notes == ("the weights are random",)
    assert "the weights are random" in drawn(found, 80)


def test_the_closing_table_holds_every_record_of_its_contract_and_counts_the_others():
    manual = CONTRACT | {"selection": "manual"}
    run = three_seeds("meat", 0.8, minute=9)
    by_hand = [made("ncm", options={"metric": "cosine"}, contract=manual, seed=seed) for seed in (0, 1)]
    elsewhere = made("ncm", stream="split-digits", contract=CONTRACT | {"data": "digits"})
    (found,) = closing_tables(run, [*run, *three_seeds("ncm", 0.5), *by_hand, elsewhere])
    assert [line.label for line in found.lines] == ["meat", "ncm"]
    assert line_of(found, "meat").fresh
    assert "2 more records of this stream under another contract: selection (manual)" in found.notes
    assert len(found.notes) == 1


def test_a_run_by_hand_gets_a_table_of_its_own():
    manual = CONTRACT | {"selection": "manual"}
    run = [made(options={"lr": 0.1}, contract=manual)]
    (found,) = closing_tables(run, [*run, *three_seeds("ncm", 0.5)])
    assert [line.label for line in found.lines] == ["meat lr=0.1"]
    assert any("selection (default)" in note for note in found.notes)


def test_a_run_over_two_streams_ends_in_two_tables_and_its_failures():
    other = made(stream="split-digits", contract=CONTRACT | {"data": "digits"})
    said = closing_text([made(), other, made("ewc", status="failed")], [])
    assert said.count("contract ") == 2
    assert "ewc on split-cifar100" in said
    assert "the loss turned NaN" in said


def test_a_run_in_which_all_failed_ends_in_failures_alone():
    said = closing_text([made(status="failed")], [])
    assert "accuracy" not in said
    assert "failed" in said


def test_failures_name_cell_status_and_reason():
    said = drawn_failures([made(status="timeout", reason="stopped after 30 s")], 100)
    assert re.search(r"meat on split-cifar100, vit, seed 0 +timeout +stopped after 30 s", said)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (812, "812"), (999.6, "1.00k"), (7690, "7.69k"), (9999, "10.0k"), (85_798_656, "85.8M")],
)
def test_counts_read_in_three_digits(value, said):
    assert si(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 ms"), (0.04, "40 ms"), (3.21, "3.2 s"), (59.7, "1.0 min"), (372, "6.2 min"), (5000, "1.4 h")],
)
def test_times_read_in_their_natural_unit(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("spread", "said"),
    [
        (Spread(0.0, 0.0, 3), "0"),
        (Spread(0.0, None, 1), "0"),
        (Spread(0.0, 0.01, 3), "0.00±1.00"),
        (Spread(0.00001, None, 1), "0.00"),
        (Spread(-0.0125, None, 1), "-1.25"),
        (None, "–"),
    ],
)
def test_only_an_exact_zero_is_a_bare_one(spread, said):
    line = Line("meat", metrics={"forgetting_last": spread} if spread else {})
    assert percent(line, "forgetting_last") == said


words = st.text("abcdefgh_=.", min_size=1, max_size=20)
spreads = st.builds(Spread, st.floats(-1, 1), st.none() | st.floats(0, 1), st.just(3))
costs = st.none() | st.floats(0, 1e13)
lines = st.builds(
    Line,
    method=words,
    options=st.dictionaries(words, st.integers(0, 999) | words, max_size=3),
    seeds=st.just((0, 1, 2)),
    metrics=st.fixed_dictionaries({}, optional={"accuracy_last": spreads, "forgetting_last": spreads}),
    trainable=costs,
    head=costs,
    stored_bits_per_task=costs,
    exemplars=st.none() | st.integers(0, 10**6),
    passes=costs,
    train_s=st.none() | st.floats(0, 1e6),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    fresh=st.booleans(),
    stale=st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(lines, min_size=1, max_size=4), st.sampled_from([40, 80, 100, 140]))
def test_no_number_is_cut_short_at_any_width_and_the_table_fits(lines, width):
    made_table = Table("title", "stream", Contract(CONTRACT), None, tuple(lines))
    said = drawn(made_table, width)
    body = said.split("─\n", 1)[1].split("\n\n")[0].splitlines()
    left_out = said.replace("\n  ", " ").partition("left out at this width: ")[2].split(", ")
    shown = [c for c in columns(made_table) if c.full not in left_out and not c.words]
    first_lines = [row for row in body if re.search(r" 3( |$)", row)]
    for line in lines:
        cells = [column.text(line) for column in shown]
        assert any(
            row.split()[-len(" ".join(cells).split()) :] == " ".join(cells).split() for row in first_lines
        )
    for line in lines:
        for word in line.label.split():
            assert word in said
    rule = next(row for row in said.splitlines() if row.startswith("─"))
    if any(column.rank for column in shown):
        assert max(cell_len(row) for row in [rule, *body]) <= width


@pytest.mark.parametrize(("width", "left_out"), [(110, False), (100, True)])
def test_at_110_columns_three_seeds_show_everything(width, left_out):
    names = ("meat", "linear_probe", "full_finetune", "ncm", "joint")
    big = replace(COST, train_s=5150.0, stored_bits_per_task=2.7e9)
    said = drawn(table([r for name in names for r in three_seeds(name, 0.7, cost=big)]), width)
    ending = "left out at this width: parameters of the head, multiply-adds of one prediction"
    assert said.endswith(ending) is left_out
    assert ("left out" in said) is left_out
    assert max(len(row) for row in said.splitlines()) <= width


def test_csv_and_json_lose_no_digit():
    found = table(three_seeds("meat", 0.77))
    mean = found.lines[0].metrics["accuracy_last"].mean
    (row,) = csv.DictReader(io.StringIO(as_csv([found])))
    assert float(row["accuracy_last_mean"]) == mean
    assert row["seeds"] == "0 1 2"
    (shown,) = json.loads(as_json([found]))
    assert shown["lines"][0]["metrics"]["accuracy_last"]["mean"] == mean
    assert shown["contract"] == CONTRACT


def test_markdown_cells_hold_no_stray_bar():
    found = table([made(options={"x": "a|b*c"})])
    rows = [row for row in markdown(found).splitlines() if row.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


@pytest.fixture
def results(tmp_path):
    found = Results(tmp_path)
    other = CONTRACT | {"order": "another"}
    for record in [
        *three_seeds("meat", 0.8),
        *three_seeds("ncm", 0.6),
        made("meat", 0, stream="split-cifar100?order=7", contract=other),
        made("ncm", 0, contract=other),
        made("ewc", status="failed"),
    ]:
        found.write(record)
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_a_report_has_a_table_for_each_contract(results, form):
    said = report_text(results, form=form)
    for contract in (CONTRACT, CONTRACT | {"order": "another"}):
        assert Contract(contract).hash[:8] in said


def test_a_report_says_what_tells_its_tables_apart(results):
    assert "under another contract than the table above: order" in report_text(results)


def test_a_report_of_one_varied_part_is_one_table(results):
    assert len(json.loads(report_text(results, vary="order", form="json"))) == 1


def test_a_report_ends_with_what_failed(results):
    for form in ("terminal", "markdown"):
        assert "ewc" in report_text(results, form=form)


def test_a_report_of_a_stream_takes_its_bare_name(results):
    assert len(json.loads(report_text(results, stream="split-cifar100", form="json"))) == 2
    assert len(json.loads(report_text(results, stream="split-cifar100?order=7", form="json"))) == 1
    with pytest.raises(RequestError, match="did you mean 'split-cifar100'"):
        report_text(results, stream="split-cifar10")


def test_a_report_of_nothing_says_so(tmp_path):
    assert "no records yet" in report_text(Results(tmp_path))
    assert json.loads(report_text(Results(tmp_path), form="json")) == []


def test_a_report_refuses_what_it_does_not_know(results):
    with pytest.raises(RequestError, match="format 'html'"):
        report_text(results, form="html")
    with pytest.raises(RequestError, match="did you mean 'order'"):
        report_text(results, vary="ordr")


def test_the_heading_says_how_a_network_of_timm_s_pools_and_after_whom():
    said = "pooling token as in Simeoni et al. 2025, DINOv3, mean 0.485,0.456,0.406, std 0.229,0.224,0.225"
    network = "vit_small_patch16_dinov3.lvd1689m"
    there = made(contract=CONTRACT | {"backbone": f"{network}-0123456789ab, {said}"})
    assert said in table([there]).title
    assert said not in table([there], vary="backbone").title
    own = made(contract=CONTRACT | {"backbone": "vit_64.supervised-0123456789ab, pooling token, mean 0.5"})
    assert "pooling" not in table([own]).title
