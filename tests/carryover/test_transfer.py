"""The transfer protocol: chosen on val, refitted on train and val, the test sets read once and last."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_resume import Short
from tiny_cells import ready, same_outcome, stream_of
from tiny_transfer import GROUPS, SIZES, TASKS, Dial, TinyEpisodes, TinyTransfer, cell_of

import carryover.cells.run
from benchmarks.errors import RequestError
from benchmarks.progress import Silent
from benchmarks.stream import Stream, Task
from carryover.cells.key import code_of
from carryover.cells.run import run_cell
from carryover.cells.selection import Rule
from carryover.metrics.transfer import transfer_metrics
from carryover.protocols import continual, few_shot
from carryover.protocols.journal import CellJournal
from carryover.records.record import Record
from carryover.records.results import Results
from carryover.records.row import Row
from carryover.tables.report import report_text

TRAIN, VAL, TEST = SIZES


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dial, "lessons", [])
    monkeypatch.setattr(Dial, "right", {0.3: 0.5, 0.2: 0.75, 0.1: 0.25})


def run(folder: Path, stream: Stream | None = None, **asked: Any) -> Record:
    return run_cell(cell_of(stream or TinyTransfer(), **asked), Results(folder), Silent())


# What is chosen, and what a record says of it


def test_options_are_chosen_on_val_and_the_refit_is_on_both(tmp_path: Path) -> None:
    record = run(tmp_path)
    assert (record.status, record.reason) == ("ok", "")
    said = [(lesson.images, lesson.lr, lesson.epochs) for lesson in Dial.lessons]
    candidates = [(TRAIN, lr, 5) for lr in (0.3, 0.2, 0.1)]
    assert said == candidates * 3 + [(TRAIN + VAL, 0.2, 5)] * 3
    assert [(row.step, row.task, row.n, row.correct) for row in record.rows] == [
        (1, task, TEST, 15) for task in range(3)
    ]
    assert record.metrics["accuracy_mean"] == 0.75
    assert record.cost.passes == 3 * 5 * (TRAIN + VAL)
    assert record.cost.stored_bits_per_task == 160
    assert record.cost.parameters > 5 == record.cost.trainable


def test_a_record_holds_every_candidate_the_budget_and_the_rule(tmp_path: Path) -> None:
    cell = cell_of(TinyTransfer())
    record = run_cell(cell, Results(tmp_path), Silent())
    selection = record.selection
    assert selection.rule == record.contract["selection"] == Rule().describe()
    assert selection.budget == 3 * 5 * TRAIN
    assert selection.chosen == {name: {"lr": 0.2} for name in TASKS}
    assert [(c.trial, c.options["lr"], c.score, c.passes) for c in selection.candidates] == [
        (name, lr, score, 5 * TRAIN) for name in TASKS for lr, score in ((0.3, 0.5), (0.2, 0.75), (0.1, 0.25))
    ]
    assert selection.choice == cell.choice
    assert Results(tmp_path).choice(cell.choice).exists()
    assert (record.tasks, record.groups) == (TASKS, GROUPS)
    assert set(record.fingerprints) == {0, 1, 2}


def test_without_selection_the_config_is_used_as_it_is(tmp_path: Path) -> None:
    record = run(tmp_path, selection="default")
    assert [(lesson.images, lesson.lr, lesson.epochs) for lesson in Dial.lessons] == [
        (TRAIN + VAL, 0.5, 30)
    ] * 3
    assert record.selection.rule == record.contract["selection"] == "default"
    assert (record.selection.choice, record.selection.candidates) == (None, ())
    typed = run(tmp_path, selection="default", options={"lr": "0.3"})
    assert typed.selection.rule == typed.contract["selection"] == "manual"


def test_an_option_typed_by_hand_is_fixed_and_said(tmp_path: Path) -> None:
    record = run(tmp_path, options={"lr": "0.1"})
    assert {lesson.lr for lesson in Dial.lessons} == {0.1}
    assert record.selection.rule == record.contract["selection"] == f"{Rule().describe()}; others manual"
    assert record.contract["selection"] != run(tmp_path).contract["selection"]


def test_a_stream_may_name_its_own_rule(tmp_path: Path) -> None:
    record = run(tmp_path, TinyTransfer(selection="search?candidates=2&epochs=1"))
    assert [c.options["lr"] for c in record.selection.candidates] == [0.3, 0.2] * 3
    assert {lesson.epochs for lesson in Dial.lessons} == {1}


def test_a_method_that_trains_more_than_its_budget_is_never_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dial, "passes_each", {0.2: 2})
    record = run(tmp_path / "best")
    assert record.selection.chosen["fur"] == {"lr": 0.3}
    assert "over the budget: 240 image passes of 120" in record.selection.candidates[1].reason
    monkeypatch.setattr(Dial, "passes_each", dict.fromkeys((0.1, 0.2, 0.3), 2))
    failed = run(tmp_path / "all")
    assert failed.status == "failed"
    assert "fur: no candidate can be chosen (lr=0.3: over the budget" in failed.reason
    assert [(c.trial, c.score, c.passes) for c in failed.selection.candidates] == [
        ("fur", score, 240) for score in (0.5, 0.75, 0.25)
    ], "a record holds every candidate, whatever became of the cell"
    assert (failed.selection.budget, failed.selection.chosen) == (3 * 5 * TRAIN, {})
    more = run(tmp_path / "typed", options={"epochs": "9"})
    assert (more.status, more.rows) == ("failed", ()), "typing more epochs is no way to a greater budget"


def test_a_candidate_that_diverges_is_recorded_and_where_all_do_the_cell_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = float("nan")
    monkeypatch.setattr(Dial, "right", {0.3: 0.5, 0.2: nan, 0.1: 0.25})
    record = run(tmp_path / "one")
    assert record.selection.chosen["bark"] == {"lr": 0.3}
    assert record.selection.candidates[1].reason.startswith("diverged: the loss became nan")
    monkeypatch.setattr(Dial, "right", dict.fromkeys((0.3, 0.2, 0.1), nan))
    stream = TinyTransfer()
    failed = run(tmp_path / "all", stream)
    assert (failed.status, failed.rows) == ("failed", ())
    assert "fur: no candidate can be chosen (lr=0.3: diverged" in failed.reason
    assert stream.exams[0].asked == [], "a test set was read though nothing was chosen"


def test_a_task_without_validation_images_is_named(tmp_path: Path) -> None:
    failed = run(tmp_path, TinyTransfer(val=0))
    assert "fur has no validation images to choose options on; write --selection default" in failed.reason
    assert Dial.lessons == []
    assert run(tmp_path, TinyTransfer(val=0), selection="default").status == "ok"


# The exam


def test_no_test_image_is_read_before_all_choices_are_made_and_each_is_scored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, at = TinyTransfer(), []
    monkeypatch.setattr(Dial, "meddle", lambda self, task: at.append(list(stream.exams[0].asked)))
    run(tmp_path, stream)
    assert at[:9] == [[]] * 9
    assert [kind for kind, _ in at[-1]] == ["inputs", "score"] * 2
    assert stream.exams[0].asked == [(kind, task) for task in range(3) for kind in ("inputs", "score")]


@pytest.mark.parametrize("ask", ["inputs", "score"])
def test_a_method_that_gets_hold_of_the_exam_reads_nothing_before_the_choice(
    ask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, peeked = TinyTransfer(), []

    def peek(self: Dial, task: Task) -> None:
        exam = stream.exams[-1]
        peeked.append(exam.inputs(2) if ask == "inputs" else exam.score(2, np.zeros(TEST, np.int64)))

    with monkeypatch.context() as patch:
        patch.setattr(Dial, "meddle", peek)
        record = run(tmp_path, stream)
    assert record.status == "failed"
    assert "the test sets are sealed" in record.reason
    assert peeked == []
    assert run(tmp_path, stream).status == "ok", "another cell is none the worse for it"


def test_a_candidate_is_handed_no_table_with_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = TinyTransfer()
    tested = {chunk.content for parts in stream.parts for chunk in parts[2].inputs.chunks}
    handed = []

    def look(self: Dial, task: Task) -> None:
        assert len(task.val) == 0, "a candidate sees no validation labels"
        handed.append(set(self.context.tables) | {chunk.content for chunk in task.train.inputs.chunks})

    monkeypatch.setattr(Dial, "meddle", look)
    assert run(tmp_path, stream).status == "ok"
    assert handed
    assert not tested & set.union(*handed)


def test_a_task_is_told_of_no_other_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(Dial, "meddle", lambda self, task: told.append((self.context.info, task)))
    run(tmp_path, selection="default")
    assert [(info.tasks, info.classes[0], task.id) for info, task in told] == [
        (1, (0, 1), 0),
        (1, (2, 3, 4), 0),
        (1, (5, 6), 0),
    ]


# Seeds, keys, and runs that are killed


def test_seeds_share_one_choice_made_with_the_draws_of_seed_0(tmp_path: Path) -> None:
    stream, results = TinyTransfer(), Results(tmp_path)
    records = [run_cell(cell_of(stream, seed=seed), results, Silent()) for seed in (2, 0, 1)]
    assert len(list((tmp_path / "choices").glob("*.json"))) == 1
    assert len({record.selection.choice for record in records}) == 1
    assert len({record.key for record in records}) == 3
    assert [record.selection for record in records] == [records[0].selection] * 3
    assert len(Dial.lessons) == 9 + 3 * 3, "candidates were fitted more than once"
    drawn = [lesson.seed for lesson in Dial.lessons]
    assert drawn[9:12] != drawn[12:15] != drawn[15:18], "refits of other seeds draw otherwise"
    by_hand = Results(tmp_path / "of seed 0")
    Dial.lessons.clear()
    run_cell(cell_of(stream, seed=0), by_hand, Silent())
    assert [lesson.seed for lesson in Dial.lessons[:9]] == drawn[:9]
    files = [next((root / "choices").glob("*.json")).read_bytes() for root in (tmp_path, by_hand.root)]
    assert files[0] == files[1]


def test_another_rule_or_option_is_another_choice_and_a_seed_is_not() -> None:
    stream = TinyTransfer()
    same = {cell_of(stream, seed=seed).choice for seed in range(3)}
    assert len(same) == 1
    others = {
        cell_of(stream, selection="search?candidates=2").choice,
        cell_of(stream, selection="search?epochs=4").choice,
        cell_of(stream, options={"lr": "0.2"}).choice,
        cell_of(TinyTransfer(val=6)).choice,
        cell_of(stream, eval_batch=8).choice,
    }
    assert len(others | same) == 6


def test_the_code_that_selects_is_part_of_the_key() -> None:
    plugins = ready("ncm", "split-digits?per_class=10").plugins
    chosen = {searched: code_of(plugins, "transfer", searched=searched) for searched in (True, False)}
    assert chosen[True].modules.keys() - chosen[False].modules.keys() == {"carryover.cells.selection"}


def test_killed_at_every_fit_of_selection_and_of_tasks_it_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = run(tmp_path / "calm")
    fits, alive = len(Dial.lessons), [False]

    def die(self: Dial, task: Task) -> None:
        alive[0] = not alive[0]
        if not alive[0]:
            raise KeyboardInterrupt

    Dial.lessons.clear()
    monkeypatch.setattr(Dial, "meddle", die)
    cell, deaths = cell_of(TinyTransfer()), 0
    while True:
        try:
            record = run_cell(cell, Results(tmp_path / "killed"), Silent())
            break
        except KeyboardInterrupt:
            deaths += 1
            assert deaths < 30, "the runs make no progress"
    assert deaths == fits - 1 == 11
    assert len(Dial.lessons) == fits, "something was fitted twice"
    assert record.selection == calm.selection
    same_outcome(tmp_path / "killed", tmp_path / "calm")


def test_a_training_that_is_gone_on_with_is_never_that_of_another_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All tasks are task 0 to their learners, so their stages have one name.
    options = {"lr": "0.01", "epochs": "3", "batch_size": "8", "min_steps": "0", "augment": "none"}
    cell = cell_of(TinyTransfer(), "full_finetune", options=options, selection="default")
    assert run_cell(cell, Results(tmp_path / "calm"), Silent()).status == "ok"
    with monkeypatch.context() as patch:  # saves at every epoch, without dying
        patch.setattr(CellJournal, "due", lambda self: True)
        assert run_cell(cell, Results(tmp_path / "saving"), Silent()).status == "ok"
    same_outcome(tmp_path / "saving", tmp_path / "calm")
    monkeypatch.setattr(carryover.cells.run, "CellJournal", Short)
    for _ in range(30):
        try:
            run_cell(cell, Results(tmp_path / "killed"), Silent())
            break
        except KeyboardInterrupt:
            continue
    same_outcome(tmp_path / "killed", tmp_path / "calm")


def test_states_are_kept_where_asked_for(tmp_path: Path) -> None:
    cell = cell_of(TinyTransfer())
    run_cell(cell, Results(tmp_path), Silent(), save_states=True)
    kept = sorted(path.name for path in (tmp_path / "states" / cell.key).iterdir())
    assert kept == [f"state-{n}.safetensors" for n in (1, 2, 3)]


@pytest.mark.parametrize("method", ["linear_probe", "full_finetune"])
def test_real_methods_select_among_their_own_candidates(method: str, tmp_path: Path) -> None:
    cell = cell_of(TinyTransfer(), method, selection="search?candidates=2&epochs=1")
    record = run_cell(cell, Results(tmp_path), Silent())
    assert (record.status, record.reason) == ("ok", "")
    assert len(record.selection.candidates) == 6
    assert {candidate.passes for candidate in record.selection.candidates} == {TRAIN}
    assert record.cost.passes == 3 * (TRAIN + VAL)


# Other protocols


def test_continual_streams_choose_on_the_validation_data_of_the_first_tasks(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert continual.TRIED == 3
    monkeypatch.setattr(continual, "TRIED", 2)
    stream = stream_of(pictures, val=0.25)
    cell = ready("linear_probe", stream, options={}, selection="search?candidates=2&epochs=2")
    record = run_cell(cell, Results(tmp_path), Silent())
    assert (record.status, record.reason) == ("ok", "")
    assert {candidate.trial for candidate in record.selection.candidates} == {"the first 2 tasks"}
    assert len(record.selection.candidates) == 2
    assert len(record.rows) == 12, "the first tasks are scored all the same"
    trained = sum(size[0] for size in cell.stream.info.sizes[:2])
    assert {candidate.passes for candidate in record.selection.candidates} == {2 * trained}
    assert record.selection.budget == 2 * 2 * trained
    plain = ready("linear_probe", stream, options={})
    assert plain.contract["selection"] == "default", "continual streams choose only where asked to"
    assert plain.rule is None


def test_few_shot_streams_choose_on_episodes_of_validation_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_shot, "VALIDATED", 3)
    monkeypatch.setattr(Dial, "right", {0.3: 1 / 3, 0.2: 1.0})
    stream = TinyEpisodes()
    record = run(tmp_path, stream, selection="search?candidates=2&epochs=2")
    assert (record.status, record.reason) == ("ok", "")
    assert stream.pool.validation.drawn == [0, 1, 2]
    assert [(c.trial, c.score, c.passes) for c in record.selection.candidates] == [
        ("validation episodes", pytest.approx(1 / 3), 3 * 2 * 6),
        ("validation episodes", 1.0, 3 * 2 * 6),
    ]
    assert {lesson.lr for lesson in Dial.lessons[6:]} == {0.2}
    assert record.metrics["accuracy_mean"] == 1.0
    assert cell_of(stream).rule is None, "few-shot streams choose only where asked to"


def test_a_rule_that_is_none_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="unknown selection 'best'"):
        run(tmp_path, selection="best")
    assert Dial.lessons == []


# Metrics


def test_both_means_and_every_group() -> None:
    rows = [Row.scored(1, task, np.arange(10) < right) for task, right in enumerate((9, 7, 4))]
    values = transfer_metrics(rows, TASKS, GROUPS)
    assert values == pytest.approx(
        {
            "accuracy/fur": 0.9,
            "accuracy/bark": 0.7,
            "accuracy/dots": 0.4,
            "accuracy_mean": 2 / 3,
            "accuracy_group/natural": 0.8,
            "accuracy_group/drawn": 0.4,
            "accuracy_group_mean": 0.6,
        }
    )
    part = transfer_metrics(rows[:2], TASKS, GROUPS)
    assert part == {"accuracy/fur": 0.9, "accuracy/bark": 0.7}, "a mean over some of the tasks is none"
    assert "accuracy_group_mean" not in transfer_metrics(rows, TASKS, ())


def test_more_epochs_than_the_rule_has_are_refused_before_anything_is_trained() -> None:
    digits, rule = "embedded-transfer?only=digits&size=32", "search?candidates=2&epochs=3"
    said = r"epochs=9 was typed, .*may train for 3; leave epochs out, or write --selection '{}'"
    with pytest.raises(RequestError, match=said.format(re.escape("search?candidates=2&epochs=9"))):
        ready("linear_probe", digits, options={"epochs": "9"}, selection=rule)
    for allowed in ("search?epochs=9", "search?epochs=0", "default"):
        assert ready("linear_probe", digits, options={"epochs": "9"}, selection=allowed).refusal is None


@pytest.mark.parametrize(
    ("method", "options", "searched"),
    [
        ("finetune_head", {}, [{"lr": 0.1}, {"lr": 0.01}, {"lr": 0.001}]),
        ("linear_probe", {"solver": "exact"}, [{"C": C} for C in (0.1, 1.0, 0.01, 10.0)]),
    ],
)
def test_what_is_searched_is_what_matters_and_fits_the_budget(
    tmp_path: Path, method: str, options: dict[str, str], searched: list[dict[str, float]]
) -> None:
    digits, rule = "embedded-transfer?only=digits&size=32", "search?epochs=2"
    record = run_cell(ready(method, digits, options=options, selection=rule), Results(tmp_path), Silent())
    assert (record.status, record.reason) == ("ok", "")
    assert [candidate.options for candidate in record.selection.candidates] == searched
    assert all(0 < candidate.passes <= 2 * 800 for candidate in record.selection.candidates)


def test_the_budget_counts_new_images_and_what_is_replayed_stands_beside_it(tmp_path: Path) -> None:
    stream, rule = "split-digits?tasks=5&per_class=20", "search?candidates=2&epochs=1"
    cell = ready("joint", stream, options={"probe": "true"}, selection=rule)
    record = run_cell(cell, Results(tmp_path), Silent())
    assert (record.status, record.reason) == ("ok", "")
    each = cell.stream.info.sizes[0][0]
    assert {candidate.passes for candidate in record.selection.candidates} == {each * 3}
    assert record.cost.passes == each * 5
    assert record.cost.replayed == each * (1 + 2 + 3 + 4)


# The real streams


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """VTAB-1k's lists over drawn images; of CIFAR-100 the real images, where they are."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import transfer_trees

    from benchmarks.procedural.families import FAMILIES

    real = Path(os.environ.get("CARRYOVER_DATA", ""), "cifar100").absolute()
    for name, family in FAMILIES.items():
        drawn = [family.draw(label, 1, 0) for label in range(min(16, len(family.class_names)))]
        images = np.stack([drawn[i % len(drawn)] for i in range(transfer_trees.COUNT)])
        monkeypatch.setattr(transfer_trees, "pixels", lambda images=images: images)
        transfer_trees.write_images(tmp_path / name)
    for number, task in enumerate(transfer_trees.vtab.TASKS):
        if task.name != "cifar" or not real.is_dir():
            folder = tmp_path / "data" / "vtab-1k" / task.name
            images = tmp_path / list(FAMILIES)[number % len(FAMILIES)]
            transfer_trees.write_vtab_task(folder, task.classes, images)
    if real.is_dir():
        (tmp_path / "data" / "cifar100").symlink_to(real)
    monkeypatch.setenv("CARRYOVER_DATA", str(tmp_path / "data"))
    return tmp_path


RULE = "search?candidates=2&epochs=1"


@pytest.mark.slow
def test_nineteen_tasks_end_to_end(tree: Path) -> None:
    cell = ready("linear_probe", "vtab-1k?size=32", options={}, selection=RULE)
    record = run_cell(cell, Results(tree / "results"), Silent())
    assert (record.status, record.reason) == ("ok", "")
    assert len(record.rows) == len(record.tasks) == 19
    assert len(record.selection.candidates) == 2 * 19
    assert record.selection.budget == 2 * 800
    assert {candidate.passes for candidate in record.selection.candidates} == {800}
    assert record.cost.passes == 19 * 1000
    assert {row.n for row in record.rows} <= {12, 10_000}
    groups = [name for name in record.metrics if name.startswith("accuracy_group/")]
    assert len(groups) == 3
    means = [
        np.mean([record.metrics[f"accuracy/{t}"] for t in record.tasks]),
        record.metrics["accuracy_mean"],
    ]
    assert means[0] == pytest.approx(means[1])
    said = report_text(Results(tree / "results"), published=True)
    assert "‡ published" in said


def test_a_record_holds_the_options_that_were_trained_with(tmp_path: Path) -> None:
    record = run_cell(
        cell_of(TinyTransfer(), "linear_probe", selection="search?candidates=2&epochs=3"),
        Results(tmp_path),
        Silent(),
    )
    assert record.config["epochs"] == 3
    for trial, chosen in record.selection.chosen.items():
        same = {name: record.config[name] for name in chosen if name in record.config}
        assert same.items() <= chosen.items(), trial


@pytest.mark.slow
def test_the_cifar_task_is_the_real_one(tree: Path) -> None:
    if not (tree / "data" / "cifar100").is_dir():
        pytest.skip("needs CIFAR-100: set CARRYOVER_DATA to a folder with cifar100/ in parquet")
    results, rule = Results(tree / "results"), "search?candidates=2&epochs=20"
    cells = [
        ready("linear_probe", "vtab-1k?only=cifar&size=64", "vit_64", seed, {}, selection=rule)
        for seed in (0, 1)
    ]
    assert cells[0].stream.info.sizes == ((800, 200, 10_000),)
    records = [run_cell(cell, results, Silent()) for cell in cells]
    assert [record.status for record in records] == ["ok", "ok"]
    assert {row.n for record in records for row in record.rows} == {10_000}
    assert records[0].selection == records[1].selection
    assert records[0].metrics["accuracy_mean"] > 0.05, "little better than chance"
