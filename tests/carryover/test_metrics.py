"""Metrics: the golden file, what is absent, and the relations between the variants."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from carryover.metrics.continual import accuracy_matrix, continual_metrics, from_matrix
from carryover.records.row import Row

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "continual_metrics.json").read_text())
MACRO = {
    "accuracy_last",
    "accuracy_incremental",
    "learning_accuracy",
    "forgetting_last",
    "backward_transfer",
    "forgetting_max",
    "forgetting_stepwise",
    "forward_transfer",
}


def matrices(low=1, high=6):
    def sized(tasks):
        entries = st.floats(0, 1, allow_subnormal=False)
        return arrays.arrays(np.float64, (tasks + 1, tasks), elements=entries)

    return st.integers(low, high).flatmap(sized)


def equal_counts(accuracy):
    return np.full(accuracy.shape, 50)


def rows(correct, n=10):
    """Rows of a nested list: correct[step][task], None for null."""
    return [
        Row(step=step, task=task, n=n, correct=value)
        for step, line in enumerate(correct)
        for task, value in enumerate(line)
    ]


@pytest.mark.parametrize("case", GOLDEN)
def test_the_golden_values_are_reproduced(case):
    learnt = np.array(case["matrix"])
    before = np.full(len(learnt), np.nan) if case["baseline"] is None else np.array(case["baseline"])
    found = from_matrix(np.vstack([before, learnt]), np.full((len(learnt) + 1, len(learnt)), 10))
    expected = {name: value for name, value in case.items() if name in MACRO}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9, rel=0)
    assert found.keys() & MACRO == expected.keys()


def test_each_name_on_one_small_matrix():
    found = continual_metrics(rows([[1, 2, 3], [9, 4, 2], [9, 8, 5], [6, 8, 8]]))
    assert found == pytest.approx(
        {
            "accuracy_last": 2.2 / 3,
            "accuracy_last_micro": 2.2 / 3,
            "accuracy_incremental": (0.9 + 0.85 + 2.2 / 3) / 3,
            "accuracy_incremental_micro": (0.9 + 0.85 + 2.2 / 3) / 3,
            "accuracy_all_incremental_micro": (1.5 + 2.2 + 2.2) / 9,
            "learning_accuracy": 2.5 / 3,
            "forgetting_last": 0.15,
            "backward_transfer": -0.15,
            "forgetting_max": 0.15,
            "forgetting_stepwise": (0.0 + 0.15) / 2,
            "forward_transfer": (0.2 + 0.2) / 2,
        }
    )


def test_micro_weighs_images_and_macro_tasks():
    found = continual_metrics(
        [
            Row(step=1, task=0, n=10, correct=10),
            Row(step=2, task=0, n=10, correct=10),
            Row(step=2, task=1, n=30, correct=0),
        ]
    )
    assert found["accuracy_last"] == 0.5
    assert found["accuracy_last_micro"] == 0.25
    assert found["accuracy_incremental"] == pytest.approx((1 + 0.5) / 2)
    assert found["accuracy_incremental_micro"] == pytest.approx((1 + 0.25) / 2)


def test_without_heads_for_unlearnt_tasks_only_forward_transfer_is_absent():
    found = continual_metrics(rows([[None, None], [9, None], [7, 8]]))
    assert found.keys() == (MACRO | {"accuracy_last_micro", "accuracy_incremental_micro"}) - {
        "forward_transfer"
    }


def test_one_task_has_no_forgetting_and_no_transfer():
    found = continual_metrics(rows([[1], [9]]))
    assert found.keys() == {
        "accuracy_last",
        "accuracy_last_micro",
        "accuracy_incremental",
        "accuracy_incremental_micro",
        "accuracy_all_incremental_micro",
        "learning_accuracy",
    }


def test_a_run_that_stopped_early_has_no_last_accuracy():
    found = continual_metrics(rows([[1, 1], [9, 1]]))
    assert found.keys() == {"forward_transfer"}  # which reads no later row than T-1


def test_no_forgetting_is_exactly_zero_and_not_minus_zero():
    found = continual_metrics(rows([[1, 1], [7, 1], [7, 3]]))
    assert str(found["forgetting_last"]) == str(found["backward_transfer"]) == "0.0"


def test_other_splits_do_not_enter():
    scored = rows([[1, 2], [5, 6], [7, 8]])
    beside = [Row(step=2, task=0, split="val", n=10, correct=0)]
    assert continual_metrics(scored + beside) == continual_metrics(scored)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([], "no test rows"),
        (rows([[1], [2]]) + rows([[1]]), "two test rows for task 0 at step 0"),
        ([Row(step=3, task=0, n=1, correct=1)], "no step 3"),
    ],
)
def test_impossible_rows_are_refused(bad, said):
    with pytest.raises(ValueError, match=said):
        accuracy_matrix(bad)


@settings(deadline=None)
@given(matrices())
def test_equal_task_sizes_make_micro_and_macro_coincide(accuracy):
    found = from_matrix(accuracy, equal_counts(accuracy))
    assert found["accuracy_last"] == pytest.approx(found["accuracy_last_micro"])
    assert found["accuracy_incremental"] == pytest.approx(found["accuracy_incremental_micro"])


@settings(deadline=None)
@given(matrices(low=2))
def test_relations_between_the_variants(accuracy):
    found = from_matrix(accuracy, equal_counts(accuracy))
    assert found["backward_transfer"] == pytest.approx(-found["forgetting_last"])
    assert found["forgetting_max"] >= found["forgetting_last"] - 1e-12
    assert not any(np.isnan(value) for value in found.values())


@settings(deadline=None)
@given(matrices(low=2), st.data())
def test_forgetting_never_reads_rows_before_a_task_was_learnt(accuracy, data):
    tasks = accuracy.shape[1]
    changed = accuracy.copy()
    early = np.arange(tasks + 1)[:, None] <= np.arange(tasks)[None, :]
    changed[early] = data.draw(st.floats(0, 1))
    counts = equal_counts(accuracy)
    before, after = from_matrix(accuracy, counts), from_matrix(changed, counts)
    early_too = {"forward_transfer", "accuracy_all_incremental_micro"}  # which are about tasks not yet learnt
    assert {n: v for n, v in before.items() if n not in early_too} == {
        n: v for n, v in after.items() if n not in early_too
    }
