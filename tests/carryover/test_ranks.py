"""Average ranks as on Meta-Dataset's leaderboard."""

from __future__ import annotations

import pytest

from carryover.metrics.few_shot import mean_ranks, ranks


def test_those_within_the_joint_interval_of_the_best_share_their_average_rank():
    scores = {"a": (0.70, 0.01), "b": (0.69, 0.01), "c": (0.60, 0.01), "d": (0.5999, 0.0), "e": (0.1, 0.0)}
    assert ranks(scores) == {"a": 1.5, "b": 1.5, "c": 3.5, "d": 3.5, "e": 5.0}


def test_ties_are_with_the_best_that_remains_and_do_not_chain():
    # b is within reach of a, and c within reach of b but not of a.
    scores = {"a": (0.70, 0.01), "b": (0.69, 0.01), "c": (0.68, 0.01)}
    assert ranks(scores) == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_ranks_sum_to_what_ranks_sum_to():
    scores = {name: (0.5 + number / 100, 0.008) for number, name in enumerate("abcdefg")}
    assert sum(ranks(scores).values()) == pytest.approx(7 * 8 / 2)


def test_means_are_over_sources_and_leave_out_who_lacks_one():
    scores = {
        "a": {"x": (0.9, 0.0), "y": (0.1, 0.0)},
        "b": {"x": (0.8, 0.0), "y": (0.2, 0.0)},
        "half": {"x": (1.0, 0.0)},
    }
    assert mean_ranks(scores, ("x", "y")) == {"a": 1.5, "b": 1.5}
