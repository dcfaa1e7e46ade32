"""A cell whose method does not score each image by itself fails, whatever its accuracy would have been."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import episode_lab
import numpy as np
import pytest
import torch
from tiny_cells import ready, stream_of
from torch import Tensor

from benchmarks.images import Chunk, Inputs, Labelled
from benchmarks.progress import Silent
from benchmarks.stream import Exam
from carryover.cells.ready import ReadyCell
from carryover.cells.run import run_cell
from carryover.protocols.continual import mixed
from carryover.protocols.per_sample import check
from carryover.records.record import Record
from carryover.records.results import Results
from methods.base.method import Method
from methods.knn import KNN
from methods.linear_probe import LinearProbe
from methods.ncm import NCM

Reader = Callable[[Method, Inputs, Tensor], Tensor]


def by_position(method: Method, inputs: Inputs, logits: Tensor) -> Tensor:
    """The classes in equal runs, as test sets come that are stored class by class."""
    images, classes = logits.shape
    wanted = torch.arange(images) * classes // images
    return torch.nn.functional.one_hot(wanted, classes).float()


def by_vote(method: Method, inputs: Inputs, logits: Tensor) -> Tensor:
    """Leans towards the classes that its batch of 256 seems to hold: many, of a batch of one task alone."""
    return torch.cat([(one + 5 * one.softmax(1).mean(0)) for one in logits.split(256)])


def by_batch_statistics(method: Method, inputs: Inputs, logits: Tensor) -> Tensor:
    """As batch normalisation that was left in training mode."""
    parts = logits.split(256)
    return torch.cat([(one - one.mean(0)) / (one.std(0, correction=0) + 1e-5) for one in parts])


READERS = [by_position, by_vote, by_batch_statistics]


def spoil(monkeypatch: pytest.MonkeyPatch, method: type[Method], reader: Reader) -> None:
    plain = method.predict

    def predict(self: Method, inputs: Inputs, task_id: int | None) -> Tensor:
        return reader(self, inputs, plain(self, inputs, task_id))

    monkeypatch.setattr(method, "predict", predict)
    if hasattr(method, "score_episodes"):
        monkeypatch.setattr(method, "score_episodes", lambda self, episodes: None)


def record_of(cell: ReadyCell, folder: Path) -> Record:
    return run_cell(cell, Results(folder), Silent())


def failed(record: Record) -> bool:
    return record.status == "failed" and "predictions depend on what else is asked" in record.reason


@pytest.mark.parametrize("scenario", ["task", "class", "domain"])
@pytest.mark.parametrize("reader", READERS)
def test_a_continual_cell_fails(reader, scenario, pictures, tmp_path, monkeypatch):
    spoil(monkeypatch, NCM, reader)
    assert failed(record_of(ready("ncm", stream_of(pictures, scenario=scenario)), tmp_path))


@pytest.mark.parametrize("stream", ["episodes", "transfer"])
@pytest.mark.parametrize("reader", READERS)
def test_an_episode_and_a_transfer_task_fail(reader, stream, pictures, tmp_path, monkeypatch):
    spoil(monkeypatch, NCM, reader)
    if stream == "episodes":
        cell = episode_lab.ready("ncm")
    else:
        cell = ready("ncm", f"transfer:folder:{pictures}?train=60&val=12&size=32")
    assert failed(record_of(cell, tmp_path))


def test_episodes_scored_in_batches_fail_by_what_scores_them(tmp_path, monkeypatch):
    plain = KNN.score_episodes
    cell = episode_lab.ready("knn")
    scored = record_of(cell, tmp_path / "plain")
    assert scored.status == "ok"

    def spoilt(self, episodes):
        found = plain(self, episodes)
        pairs = zip(episodes, found, strict=True)
        return [by_position(self, queries, logits) for (_, queries), logits in pairs]

    monkeypatch.setattr(KNN, "score_episodes", spoilt)
    assert failed(record_of(episode_lab.ready("knn"), tmp_path / "spoilt"))


@pytest.mark.parametrize("scenario", ["task", "class"])
def test_positions_alone_score_no_better_than_chance(scenario, pictures, tmp_path, monkeypatch):
    """100 % while test images came sorted by class."""
    spoil(monkeypatch, NCM, by_position)
    monkeypatch.setattr("carryover.protocols.continual.check", lambda *_, **__: None)
    record = record_of(ready("ncm", stream_of(pictures, scenario=scenario)), tmp_path)
    chance = {"task": 1 / 2, "class": 1 / 6}[scenario]
    last = [row for row in record.rows if row.step == 3]
    correct, asked = sum(row.correct for row in last), sum(row.n for row in last)
    # Four standard errors of guessing.
    assert abs(correct / asked - chance) < 4 * (chance * (1 - chance) / asked) ** 0.5


def test_a_method_that_knows_no_neighbours_passes_after_a_kill_and_for_every_seed(pictures, tmp_path):
    for seed in (0, 1):
        assert record_of(ready("linear_probe", stream_of(pictures), seed=seed), tmp_path).status == "ok"


def test_kernels_that_round_otherwise_for_many_images_are_no_neighbours():
    """From 25 rows on, distances come from a product, which cancels where all images look alike."""
    source = torch.Generator().manual_seed(0)
    table = np.zeros((100, 2, 2, 3), np.uint8)
    table[:, 0, 0, 0] = np.arange(100)
    inputs = Inputs([Chunk(table, np.arange(100), "table")])
    features = 1 + 1e-3 * torch.randn(100, 96, generator=source)
    means = 1 + 1e-3 * torch.randn(3, 96, generator=source)

    def predict(asked: Inputs) -> Tensor:
        rows = torch.from_numpy(asked.pixels()[:, 0, 0, 0].astype(np.int64))
        return -torch.cdist(features[rows], means).square()

    few, many = predict(inputs.select(np.arange(1))), predict(inputs)[:1]
    assert not torch.allclose(few, many, rtol=1e-5, atol=0), "else this test shows nothing"
    for share in (1, 5, 8):
        check(predict, inputs, predict(inputs).argmax(1).numpy(), (0, 1, 2), "here", share)


class TestTheOrderOfTestImages:
    def exam(self) -> Exam:
        test = {}
        for task in range(3):
            table = np.full((40, 2, 2, 3), task, np.uint8)
            table[:, 0, 0, 0] = np.repeat(np.arange(4), 10)
            inputs = Inputs([Chunk(table, np.arange(40), f"table {task}")])
            test[task] = Labelled(inputs, np.repeat(np.arange(4), 10), ("a", "b", "c", "d"))
        return Exam(test, dict.fromkeys(range(3), (0, 1, 2, 3)))

    def test_is_random_fixed_and_keeps_every_answer(self):
        exam, again = self.exam(), self.exam()
        for task in range(3):
            labels = exam.inputs(task).pixels()[:, 0, 0, 0].astype(np.int64)
            assert not np.array_equal(labels, np.sort(labels))
            assert np.bincount(labels).tolist() == [10] * 4
            assert exam.score(task, labels).all()
            assert exam.fingerprint(task) == again.fingerprint(task)

    def test_mixes_the_tasks_that_are_asked_together_and_keeps_each_in_order(self):
        exam = self.exam()
        inputs, owners = mixed(exam, [0, 1, 2])
        runs = [len(list(run)) for _, run in itertools.groupby(owners)]
        assert max(runs) < 12
        for task in range(3):
            rows = np.flatnonzero(owners == task)
            assert np.array_equal(inputs.pixels(rows), exam.inputs(task).pixels())

    @pytest.mark.parametrize("protocol", ["continual", "transfer"])
    def test_of_validation_images_is_random_too(self, protocol, pictures, tmp_path, monkeypatch):
        asked: list[np.ndarray] = []
        spoil(monkeypatch, LinearProbe, lambda self, inputs, logits: (asked.append(inputs.ids), logits)[1])
        stream = stream_of(pictures, val=0.4)
        if protocol == "transfer":
            stream = f"transfer:folder:{pictures}?train=36&val=24&size=32"
        options = {"epochs": "1", "batch_size": "16"}
        cell = ready("linear_probe", stream, options=options, selection="search?candidates=2&epochs=1")
        assert record_of(cell, tmp_path).status == "ok"
        val = cell.stream.open(0)[0][0].val
        those = [ids for ids in asked if sorted(ids) == sorted(val.inputs.ids)]
        assert len(those) >= 2, "each candidate is scored on the validation images"
        assert all(not np.array_equal(ids, val.inputs.ids) for ids in those)
