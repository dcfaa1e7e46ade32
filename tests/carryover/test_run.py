"""One cell, from what is asked to its record."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tiny_cells import QUICK, SHORT, only_record, ready, same_outcome, stream_of

from backbones import loading
from benchmarks.errors import RequestError
from benchmarks.progress import Silent
from benchmarks.stream import Task
from carryover.cells.learn import Maker
from carryover.cells.ready import finished
from carryover.cells.run import run_cell
from carryover.protocols import continual
from carryover.protocols.journal import CellJournal
from carryover.records.results import Results
from methods.full_finetune import FullFinetune
from methods.ncm import NCM


@pytest.mark.parametrize("method", SHORT)
def test_the_same_cell_twice_and_with_other_workers_ends_the_same(
    method: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "SMALL_BATCH", 0)
    for number, workers in enumerate((0, 0, 3)):
        cell = ready(method, stream_of(pictures), workers=workers)
        run_cell(cell, Results(tmp_path / str(number)), Silent(), workers=workers)
    same_outcome(tmp_path / "0", tmp_path / "1")
    same_outcome(tmp_path / "0", tmp_path / "2")


def test_a_record_says_what_was_run_and_what_it_cost(pictures: Path, tmp_path: Path) -> None:
    cell = ready("meat", stream_of(pictures))
    record = run_cell(cell, Results(tmp_path), Silent())
    assert record == only_record(tmp_path)
    assert record.status == "ok"
    assert record.key == cell.key
    assert record.contract == dict(cell.contract)
    assert record.config["epochs"] == 2
    assert record.cell.options == {"epochs": 2, "batch_size": 16, "min_steps": 0, "lr": 4.0}
    assert record.selection.rule == "manual"
    assert [(row.step, row.task) for row in record.rows] == [(s, t) for s in range(4) for t in range(3)]
    assert {row.n for row in record.rows} == {10}
    assert record.cost.head == 2 * 33
    masks = 2 * (16 + 2 * 32 * 64)  # per block: 16 patch tokens, two matrices of the FFN
    assert record.cost.stored_bits_per_task == masks + 32 * 2 * 33
    assert record.cost.exemplars == 0
    assert record.cost.train_s > 0
    assert record.cost.peak_mb > 0
    assert "the backbone's weights are random, not pretrained" in record.notes
    assert set(record.observations) == {0, 1, 2}
    assert 0 < record.observations[0]["ffn_keep"] < 1, "no bit flipped: the test cannot see the masks"
    assert set(record.fingerprints) == {0, 1, 2}
    assert (record.env.device, record.env.dtype, record.env.threads) == ("cpu", "float32", 1)
    assert "torch" in record.env.packages


def test_nothing_is_left_of_a_run_that_ended(pictures: Path, tmp_path: Path) -> None:
    cell, results = ready("ncm", stream_of(pictures)), Results(tmp_path)
    run_cell(cell, results, Silent())
    assert not results.journal(cell.key).exists()
    kinds = {path.suffix for path in (tmp_path / "records").rglob("*") if path.is_file()}
    assert kinds == {".json", ".npz"}


def test_what_is_recorded_is_not_run_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, results = ready("ncm", stream_of(pictures)), Results(tmp_path)
    first = run_cell(cell, results, Silent())
    monkeypatch.setattr(NCM, "learn", None)
    assert run_cell(cell, results, Silent()) == first
    assert finished(cell, results) == first


def test_an_option_typed_at_its_default_keeps_a_record_of_its_own(pictures: Path, tmp_path: Path) -> None:
    # Its selection is manual, so it stands in another table: neither may replace the other.
    results = Results(tmp_path)
    plain = run_cell(ready("ncm", stream_of(pictures)), results, Silent())
    typed = run_cell(ready("ncm", stream_of(pictures), options={"metric": "euclidean"}), results, Silent())
    assert plain.rows == typed.rows
    assert plain.contract != typed.contract
    assert len(results.all()[0]) == 2


def test_a_failure_is_recorded_with_its_traceback_and_never_as_done(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, results = ready("ncm", stream_of(pictures)), Results(tmp_path)

    def broken(self: NCM, task: object) -> None:
        raise ZeroDivisionError("a method's mistake")

    with monkeypatch.context() as patch:
        patch.setattr(NCM, "learn", broken)
        record = run_cell(cell, results, Silent())
    assert (record.status, record.reason) == ("failed", "ZeroDivisionError: a method's mistake")
    assert "in broken" in record.traceback
    assert finished(cell, results) is None
    assert run_cell(cell, results, Silent()).status == "ok"
    assert finished(cell, results) is not None


def test_a_failure_leaves_a_journal_only_where_something_was_learnt_and_until_another_code_succeeds(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, results = ready("ncm", stream_of(pictures)), Results(tmp_path)
    learn, fails = NCM.learn, [0]

    def broken(self: NCM, task: Task) -> None:
        if task.id == fails[0]:
            raise MemoryError
        learn(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(NCM, "learn", broken)
        assert run_cell(cell, results, Silent()).status == "failed"
        assert not results.journal(cell.key).exists()
        fails[0] = 1
        assert run_cell(cell, results, Silent()).status == "failed"
        assert results.journal(cell.key).exists()
    edited = results.journal("f" * 64)
    results.journal(cell.key).rename(edited)
    assert run_cell(cell, results, Silent()).status == "ok"
    assert not edited.exists()


def test_what_cannot_be_found_out_earlier_fails_its_own_cell_in_a_sentence(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: NCM, task: object) -> None:
        raise RequestError("the images are damaged; fetch them again")

    cell, results = ready("ncm", stream_of(pictures)), Results(tmp_path)
    monkeypatch.setattr(NCM, "learn", refused)
    record = run_cell(cell, results, Silent())
    assert (record.status, record.reason) == ("failed", "the images are damaged; fetch them again")
    assert results.all()[0] == [record]


def test_a_loss_that_turns_nan_fails_with_step_and_task(pictures: Path, tmp_path: Path) -> None:
    cell = ready("full_finetune", stream_of(pictures), options=QUICK | {"lr": "1e30", "warmup_epochs": "0"})
    record = run_cell(cell, Results(tmp_path), Silent())
    assert record.status == "failed"
    assert "the loss became nan at step 2 of task 0; lower the learning rate" in record.reason
    assert record.rows == ()


def test_a_failed_run_goes_on_after_its_last_whole_task(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, results = ready("full_finetune", stream_of(pictures)), Results(tmp_path / "mended")
    features = FullFinetune.features

    def broken(self: FullFinetune, images: torch.Tensor) -> torch.Tensor:
        found = features(self, images)
        return found * float("nan") if len(self.learnt) == 1 else found

    with monkeypatch.context() as patch:
        patch.setattr(FullFinetune, "features", broken)
        assert run_cell(cell, results, Silent()).status == "failed"
    learnt: list[int] = []
    learn = FullFinetune.learn
    monkeypatch.setattr(FullFinetune, "learn", lambda self, task: (learnt.append(task.id), learn(self, task)))
    assert run_cell(cell, results, Silent()).status == "ok"
    assert learnt == [1, 2]
    assert not results.journal(cell.key).exists()
    run_cell(cell, Results(tmp_path / "calm"), Silent())
    assert finished(cell, results).outcome() == only_record(tmp_path / "calm").outcome()


def test_the_second_of_two_waits_says_so_and_takes_over_the_record(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, results = ready("ncm", stream_of(pictures)), Results(tmp_path)
    working, waited_for, learn, runs = threading.Event(), threading.Event(), NCM.learn, []

    def slow(self: NCM, task) -> None:
        runs.append(task.id)
        working.set()
        assert waited_for.wait(60)
        learn(self, task)

    class Telling(Silent):
        def warn(self, message: str) -> None:
            super().warn(message)
            waited_for.set()

    monkeypatch.setattr(NCM, "learn", slow)
    made = []
    first = threading.Thread(target=lambda: made.append(run_cell(cell, results, Silent())))
    first.start()
    assert working.wait(60)
    telling = Telling()
    second = run_cell(cell, results, telling)
    first.join()
    assert telling.warnings == [f"another process is at work on {cell.key}; waiting for it"]
    assert made == [second] == [only_record(tmp_path)]
    assert runs == [0, 1, 2]


def test_kept_states_predict_what_was_predicted(pictures: Path, tmp_path: Path) -> None:
    cell, results = ready("meat", stream_of(pictures)), Results(tmp_path)
    record = run_cell(cell, results, Silent(), save_states=True)
    predicted = results.predictions(record)
    tasks, exam = cell.stream.open(0)
    for step in (1, 2, 3):
        method = Maker(cell, CellJournal(tmp_path / "none"), Silent())(cell.stream.info)
        file = tmp_path / "states" / cell.key / f"state-{step}.safetensors"
        method.restore(safetensors.torch.load_file(file))
        for task in tasks[:step]:
            logits = method.predict(exam.inputs(task.id), task.id)
            chosen = continual.pick(logits, task.classes, len(logits), where="here")
            assert chosen.tolist() == predicted[step, task.id].tolist()


def test_one_cell_never_changes_the_next(pictures: Path, tmp_path: Path) -> None:
    # All cells of a request share one opened network; each works on its own copy.
    shared = ready("full_finetune", stream_of(pictures))
    probe = replace(ready("ncm", stream_of(pictures)), backbone=shared.backbone)
    run_cell(probe, Results(tmp_path / "before"), Silent())
    run_cell(shared, Results(tmp_path / "between"), Silent())
    run_cell(probe, Results(tmp_path / "after"), Silent())
    same_outcome(tmp_path / "before", tmp_path / "after")
