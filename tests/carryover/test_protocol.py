"""The continual protocol: which entries of the matrix there are, who is scored right, who sees what."""

from __future__ import annotations

import gc
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_cells import ready, stream_of

from backbones.numerics import Numerics
from benchmarks.images import Chunk, Inputs, Labelled
from benchmarks.progress import Silent
from benchmarks.stream import Exam, Scenario, StreamInfo, Task
from benchmarks.streams.split import SplitStream
from carryover.cells.run import run_cell
from carryover.protocols import continual
from carryover.protocols.continual import state_digest
from carryover.protocols.journal import CellJournal, Done
from carryover.protocols.work import PredictionError, pick, predictions
from carryover.records.results import Results
from carryover.records.row import unpack_hits
from methods.base import Footprint, Method
from methods.meat import MEAT

CLASSES = ((4, 1), (0, 5), (3, 2))
TESTS = 4  # images of each task
Answer = Callable[["Told", Inputs, "int | None"], torch.Tensor]


class Told(Method):
    """Predicts what it is told to; its state counts what it has learnt."""

    name = "told"

    def __init__(self, info: StreamInfo, answer: Answer) -> None:
        self.info, self.answer = info, answer
        self.learnt: list[int] = []
        self.asked: list[tuple[int, int | None]] = []
        self.changing = True

    def learn(self, task: Task) -> None:
        self.learnt.append(task.id)

    def predict(self, inputs: Inputs, task_id: int | None) -> torch.Tensor:
        self.asked.append((len(self.learnt), task_id))
        return self.answer(self, inputs, task_id)

    def columns(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(c for task in self.learnt for c in self.info.classes[task]))

    def state(self) -> dict[str, torch.Tensor]:
        return {"learnt": torch.tensor(self.learnt)}

    def state_for(self, task_id: int | None) -> dict[str, torch.Tensor]:
        return self.state() if self.changing else {}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.learnt = state["learnt"].tolist()

    def footprint(self) -> Footprint:
        return Footprint(0, 0, 0)


def truth(inputs: Inputs) -> np.ndarray:
    """The class of each image is written into its pixels."""
    return inputs.pixels()[:, 0, 0, 0].astype(np.int64)


def right(method: Told, inputs: Inputs, task_id: int | None) -> torch.Tensor:
    """The best possible logits over the promised columns."""
    columns = method.columns() if task_id is None else method.info.classes[task_id]
    return torch.from_numpy(truth(inputs)[:, None] == np.asarray(columns)).float()


def world(scenario: Scenario) -> tuple[StreamInfo, list[Task], Exam]:
    classes = ((0, 1, 2, 3, 4, 5),) * 3 if scenario == "domain" else CLASSES
    tasks, test = [], {}
    for number, own in enumerate(classes):
        labels = np.arange(TESTS) % len(own)
        table = np.zeros((TESTS, 1, 1, 3), np.uint8)
        table[:, 0, 0, 0] = np.asarray(own)[labels]
        names = tuple(f"class {cls}" for cls in own)
        data = Labelled(Inputs([Chunk(table, np.arange(TESTS), f"table {number}")]), labels, names)
        tasks.append(Task(number, data, data.select(np.array([0])), own))
        test[number] = data
    sizes = ((TESTS, 1, TESTS),) * 3
    names = tuple(f"class {cls}" for cls in range(6))
    info = StreamInfo("told", "continual", scenario, classes, names, 0, "data", "rule", (1, 1), sizes)
    return info, tasks, Exam(test, dict(enumerate(classes)))


def learn(scenario: Scenario, folder: Path, answer: Answer = right, **settings) -> tuple[Told, Done]:
    info, tasks, exam = world(scenario)
    method = Told(info, answer)
    method.changing = settings.pop("changing", True)
    outcome = continual.learn_in_turn(
        method,
        info,
        tasks,
        exam,
        journal=CellJournal(folder),
        progress=Silent(),
        tables=settings.pop("tables", {}),
        **settings,
    )
    return method, outcome


def matrix(outcome: Done) -> list[list[int | None]]:
    assert [(row.step, row.task) for row in outcome.rows] == [(s, t) for s in range(4) for t in range(3)]
    assert {row.n for row in outcome.rows} == {TESTS}
    return [[row.correct for row in outcome.rows[3 * step : 3 * step + 3]] for step in range(4)]


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        # No head for a task yet: n and null, never a number.
        ("task", [[None] * 3, [4, None, None], [4, 4, None], [4, 4, 4]]),
        # Classes not seen yet are wrong answers, not missing ones.
        ("class", [[None] * 3, [4, 0, 0], [4, 4, 0], [4, 4, 4]]),
        ("domain", [[None] * 3, [4, 4, 4], [4, 4, 4], [4, 4, 4]]),
    ],
)
def test_the_entries_of_the_matrix(scenario: Scenario, expected: list, tmp_path: Path) -> None:
    method, outcome = learn(scenario, tmp_path)
    assert matrix(outcome) == expected
    for row in outcome.rows:
        assert (row.correct is None) == (row.hits is None)
    assert all(learnt > 0 for learnt, _ in method.asked), "nothing is asked before anything is learnt"


def test_the_task_is_told_in_task_incremental_streams_only(tmp_path: Path) -> None:
    asked = {s: learn(s, tmp_path / s)[0].asked for s in ("task", "class", "domain")}
    assert asked["task"] == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    assert {task for _, task in asked["class"] + asked["domain"]} == {None}


@pytest.mark.parametrize("scenario", ["task", "class", "domain"])
def test_who_is_right_is_known_image_by_image(scenario: Scenario, tmp_path: Path) -> None:
    _, _, exam = world(scenario)
    last = {(part.content, part.rows[-1]) for task in exam.tasks for part in exam.inputs(task).chunks}

    def last_is_wrong(method: Told, inputs: Inputs, task_id: int | None) -> torch.Tensor:
        logits = right(method, inputs, task_id)
        asked = [(chunk.content, row) for chunk in inputs.chunks for row in chunk.rows]
        return torch.where(torch.tensor([one in last for one in asked])[:, None], -logits, logits)

    _, outcome = learn(scenario, tmp_path, last_is_wrong)
    for row in outcome.rows[-3:]:
        assert unpack_hits(row.hits, row.n).tolist() == [True, True, True, False]
        predicted = predictions(outcome)[f"3/{row.task}"]
        assert (predicted[:3] == truth(exam.inputs(row.task))[:3]).all()
        assert predicted[3] != truth(exam.inputs(row.task))[3]


@pytest.mark.parametrize("scenario", ["task", "class", "domain"])
@pytest.mark.parametrize("changing", [True, False])
def test_reuse_changes_no_row(scenario: Scenario, changing: bool, tmp_path: Path) -> None:
    method, reused = learn(scenario, tmp_path / "a", changing=changing, reuse=True)
    other, fresh = learn(scenario, tmp_path / "b", changing=changing, reuse=False)
    assert reused.rows == fresh.rows
    assert reused.predicted == fresh.predicted
    # In a class stream each step asks a new task together with all others.
    may = not changing and scenario != "class"
    assert (len(method.asked) < len(other.asked)) == may, "reused where, and only where, it may"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda logits: logits[:, :1], r"shape \(4, 1\) for task 1 after 2 learnt, not \(4, 2\)"),
        (lambda logits: logits[:3], r"shape \(3, 2\) for task 1 after 2 learnt, not \(4, 2\)"),
        (lambda logits: logits.T, r"shape \(2, 4\) for task 1 after 2 learnt, not \(4, 2\)"),
        (lambda logits: logits.log() * 0, r"NaN logits for task 1 after 2 learnt, first at image 0"),
    ],
)
def test_logits_that_cannot_be_scored_name_the_task(bad: Callable, said: str, tmp_path: Path) -> None:
    def answer(method: Told, inputs: Inputs, task_id: int | None) -> torch.Tensor:
        logits = right(method, inputs, task_id)
        return bad(logits) if task_id == 1 else logits

    with pytest.raises(PredictionError, match=said):
        learn("task", tmp_path, answer)


def test_of_equal_logits_the_first_counts() -> None:
    assert pick(torch.zeros(3, 2), [7, 1], 3, where="here").tolist() == [7, 7, 7]
    assert pick(torch.full((1, 2), float("-inf")), [7, 1], 1, where="here").tolist() == [7]


def test_only_tables_of_tasks_handed_over_so_far_are_at_hand(tmp_path: Path) -> None:
    tables: dict[str, np.ndarray] = {}
    seen = []

    def watching(method: Told, inputs: Inputs, task_id: int | None) -> torch.Tensor:
        seen.append((len(method.learnt), sorted(tables)))
        return right(method, inputs, task_id)

    learn("task", tmp_path, watching, tables=tables)
    assert all(names == [f"table {n}" for n in range(learnt)] for learnt, names in seen)


def test_a_digest_knows_names_types_shapes_and_values() -> None:
    base = {"a": torch.zeros(2, 2), "b": torch.ones(1)}
    others = [
        {"a": torch.zeros(4), "b": torch.ones(1)},
        {"a": torch.zeros(2, 2, dtype=torch.int32), "b": torch.ones(1)},
        {"a": torch.zeros(2, 2), "c": torch.ones(1)},
        {"a": torch.zeros(2, 2), "b": -torch.ones(1)},
        {"a": torch.zeros(2, 2)},
    ]
    digests = {state_digest(state) for state in (base, *others)}
    assert len(digests) == 1 + len(others)
    assert state_digest({"b": torch.ones(2)[:1], "a": torch.zeros(2, 2).T}) == state_digest(base)


def test_nothing_a_method_gets_in_a_real_run_leads_to_the_exam(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exams, given = [], []
    opened, learn, predict = SplitStream.open, MEAT.learn, MEAT.predict

    def open_(self: SplitStream, seed: int):
        tasks, exam = opened(self, seed)
        exams.append(exam)
        return tasks, exam

    def learn_(self: MEAT, task: Task) -> None:
        given.extend([self, task])
        learn(self, task)

    def predict_(self: MEAT, inputs: Inputs, task_id: int | None) -> torch.Tensor:
        given.append(inputs)
        return predict(self, inputs, task_id)

    monkeypatch.setattr(SplitStream, "open", open_)
    monkeypatch.setattr(MEAT, "learn", learn_)
    monkeypatch.setattr(MEAT, "predict", predict_)
    cell = ready("meat", stream_of(pictures), numerics=Numerics())
    assert run_cell(cell, Results(tmp_path), Silent()).status == "ok"
    answers = exams[0]._answers
    # By value as well: a copy of the answers would be as good as the answers.
    positions = [np.array([cell.stream.info.classes[t].index(c) for c in of]) for t, of in answers.items()]
    waiting, seen = list(given), set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, types.ModuleType | type | types.FunctionType):
            continue
        seen.add(id(thing))
        assert not isinstance(thing, Exam | SplitStream)
        if isinstance(thing, np.ndarray):
            assert not any(np.array_equal(thing, those) for those in (*answers.values(), *positions))
            waiting.append(thing.base)
        waiting += gc.get_referents(thing)
    assert len(seen) > 1000
