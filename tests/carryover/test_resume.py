"""A run that is killed at any moment and started again ends like one that nobody disturbed."""

from __future__ import annotations

import functools
import random
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import tiny_cells
import torch
from tiny_cells import only_record, python, ready, same_outcome, stream_of, words

import carryover.cells.run
import carryover.protocols.journal
from benchmarks.progress import Silent
from carryover.cells.run import run_cell
from carryover.protocols.journal import CellJournal, Done
from carryover.records.results import Results
from carryover.records.row import Row

SMALL = Path(__file__).parents[1] / "methods" / "small"


class Short(CellJournal):
    """Saves at every epoch and every score; the process dies when it wants to write for the second time."""

    writes = 0

    def __init__(self, folder: Path, interval: float = 0.0, states: Path | None = None) -> None:
        super().__init__(folder, 0.0, states)

    def commit(self, *arguments) -> None:
        self._live()
        super().commit(*arguments)

    def save(self, *arguments) -> None:
        self._live()
        super().save(*arguments)

    def _live(self) -> None:
        if self.writes == 1:
            raise KeyboardInterrupt
        self.writes += 1


@pytest.mark.parametrize(
    ("method", "scenario", "backbone"),
    [
        ("meat", "task", "tiny_vit"),
        ("meat", "task", "tiny_swin"),
        ("full_finetune", "task", "tiny_vit"),
        ("full_finetune", "class", "tiny_swin"),
        ("full_finetune", "domain", "tiny_vit"),
        ("joint", "task", "tiny_vit"),
        ("joint", "class", "tiny_vit"),
        ("linear_probe", "task", "tiny_vit"),
        ("linear_probe", "class", "tiny_vit"),
        ("ncm", "class", "tiny_vit"),
        (str(SMALL / "two_stages.py"), "class", "tiny_vit"),
        (str(SMALL / "averaged_gradient.py"), "class", "tiny_vit"),
        (str(SMALL / "averaged_gradient.py"), "task", "tiny_vit"),
    ],
)
def test_stopped_after_each_write_of_the_journal_it_ends_the_same(
    method: str, scenario: str, backbone: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = ready(method, stream_of(pictures, scenario=scenario), backbone)
    run_cell(cell, Results(tmp_path / "calm"), Silent())
    monkeypatch.setattr(carryover.cells.run, "CellJournal", Short)
    deaths = 0
    while True:
        try:
            run_cell(cell, Results(tmp_path / "killed"), Silent())
        except KeyboardInterrupt:
            deaths += 1
            assert deaths < 50, "the runs make no progress"
        else:
            break
    assert deaths >= 6, "at each of three tasks that was learnt, and at each scoring"
    same_outcome(tmp_path / "killed", tmp_path / "calm")
    assert not Results(tmp_path / "killed").journal(cell.key).exists()


def test_the_time_before_a_kill_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(
        carryover.protocols.journal, "time", types.SimpleNamespace(monotonic=lambda: clock[0])
    )
    first = CellJournal(tmp_path)
    first.begin()
    clock[0] += 20
    first.save("task 0", {"epoch": torch.tensor(1)})
    clock[0] += 7  # lost in the kill
    again = CellJournal(tmp_path)
    again.begin()
    clock[0] += 1
    assert again.load("task 1") is None
    assert again.spent() == 1
    assert again.load("task 0") == {"epoch": torch.tensor(1)}
    clock[0] += 3
    assert again.spent() == 23
    again.begin()
    assert again.spent() == 0


def test_a_journal_that_cannot_be_read_starts_the_cell_over(pictures: Path, tmp_path: Path) -> None:
    cell = ready("ncm", stream_of(pictures))
    run_cell(cell, Results(tmp_path / "calm"), Silent())
    broken = Results(tmp_path / "broken")
    folder = broken.journal(cell.key)
    for text in ('{"learnt": 2, "ro', '{"learnt": 2}', '{"learnt": "two"}'):
        folder.mkdir(parents=True)
        (folder / "progress.json").write_text(text)
        (folder / "state-2.safetensors").write_bytes(b"torn")
        (folder / "stage.safetensors").write_bytes(b"torn")
        run_cell(cell, broken, Silent())
        same_outcome(tmp_path / "broken", tmp_path / "calm")
        broken.path(only_record(tmp_path / "broken")).unlink()


def test_a_journal_keeps_one_state_and_reads_back_what_it_wrote(tmp_path: Path) -> None:
    import torch

    journal = CellJournal(tmp_path / "journal", states=tmp_path / "states")
    rows = [Row(step=0, task=0, n=3)]
    for learnt in (1, 2, 3):
        journal.save(f"task {learnt - 1}", {"x": torch.tensor(learnt)})
        view = torch.arange(6.0).reshape(2, 3).T  # not contiguous, shares its storage
        state = {"a": view, "b": view[0]}
        journal.commit(Done(learnt=learnt, rows=rows, predicted={"1/0": b"\xff\x00"}), state)
    done, state = CellJournal(tmp_path / "journal").resume()
    assert (done.learnt, done.rows, done.predicted) == (3, rows, {"1/0": b"\xff\x00"})
    assert torch.equal(state["a"], view)
    assert torch.equal(state["b"], view[0])
    assert sorted(p.name for p in (tmp_path / "journal").iterdir()) == [
        "progress.json",
        "state-3.safetensors",
    ]
    assert len(list((tmp_path / "states").iterdir())) == 3
    assert journal.load("task 2") is None, "a stage that is over is not resumed"


# What is killed, and at which call of it in that process. `None` lets the process live.
MOMENTS = {
    "a training step of the first epoch": ("backbones.training", "_finite", 2),
    "a training step after a journaled epoch": ("backbones.training", "_finite", 5),
    "an evaluation": ("carryover.protocols.continual", "_score", 1),
    "a file of the journal half written": ("os", "fsync", 3),
    "a file of the journal written and not yet renamed": ("os", "replace", 2),
    "all done, nothing written": ("carryover.records.results", "_pack_predictions", 1),
    "the predictions written and the record not": ("carryover.records.results", "encode", 1),
    "the journal half removed": ("shutil", "rmtree", 1),
}
KILLER = """
import importlib, os, signal
import carryover.cells.run, carryover.records.results, backbones.training, carryover.protocols.continual
from carryover.protocols.journal import CellJournal
CellJournal.__init__.__defaults__ = (0.0, None)
where, name, at = {moment!r}
module = importlib.import_module(where)
real, calls = getattr(module, name), 0
def dying(*arguments, **settings):
    global calls
    frame, journaled = sys._getframe(1), False
    while frame:
        journaled |= frame.f_code.co_name in ("commit", "save", "write", "close")
        frame = frame.f_back
    calls += journaled or where not in ("os", "shutil")
    if calls == at:
        if name == "fsync":
            os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
        if name == "rmtree":
            next(arguments[0].iterdir()).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **settings)
setattr(module, name, dying)
"""


@pytest.mark.slow
def test_kill_9_at_eight_chosen_moments_of_one_run(measured: None, tmp_path: Path) -> None:
    """One cell, killed again and again, each time further on; then left alone."""
    stream = "split-digits?per_class=10"
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    from carryover.commands.cli import cli

    assert cli(words("meat", stream, calm, "--quiet")) == 0
    command = words("meat", stream, killed)
    for moment, place in MOMENTS.items():
        died = python(KILLER.format(moment=place), command)
        assert died.returncode == -signal.SIGKILL, f"{moment}: {died.stderr}"
        records, broken = Results(killed).all()
        assert broken == [], moment
        assert moment == "the journal half removed" or records == [], moment
    assert cli([*command, "--quiet"]) == 0
    same_outcome(killed, calm)
    assert not list((killed / "journal").glob("*"))


@pytest.mark.slow
def test_kill_9_at_random_moments(measured: None, tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    from carryover.commands.cli import cli

    options = ["--stream", "split-digits?per_class=10", "--results"]
    base = ["run", "--method", "meat", "--backbone", "tiny_vit", *tiny_cells.HERE, "-o", "min_steps=60"]
    assert cli([*base, "--quiet", *options, str(calm)]) == 0
    draw = random.Random(3)
    for _ in range(3):
        command = [sys.executable, "-P", "-m", "carryover", *base, *options, str(killed)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr:
                if "started" in line or "resumed" in line or "already" in line:
                    break
            time.sleep(draw.uniform(0.05, 1.5))
            process.kill()
    assert cli([*base, "--quiet", *options, str(killed)]) == 0
    same_outcome(killed, calm)


def test_warnings_from_before_a_kill_are_in_the_record(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # meat warns when a task begins that no bit can flip; whoever reads the table must know it.
    cell = ready("meat", stream_of(pictures), options=tiny_cells.QUICK)
    monkeypatch.setattr(carryover.cells.run, "CellJournal", functools.partial(CellJournal, interval=0.0))
    calm = run_cell(cell, Results(tmp_path / "calm"), Silent())
    assert any("no mask bit can flip" in note for note in calm.notes)
    monkeypatch.setattr(carryover.cells.run, "CellJournal", Short)
    for _ in range(50):
        try:
            resumed = run_cell(cell, Results(tmp_path / "killed"), Silent())
            break
        except KeyboardInterrupt:
            pass
    assert set(resumed.notes) == set(calm.notes)
