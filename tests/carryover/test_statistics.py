"""Paired comparisons: they agree with the textbook, and refuse what is not paired."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import CONTRACT, made
from msgspec.structs import replace

from benchmarks.errors import RequestError
from carryover.metrics.line import Spread
from carryover.metrics.statistics import compare, sign_test, student_interval
from carryover.records.row import Row

values = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=6)


def with_hits(method, hits, seed=0, **fields):
    """A record whose last step scored one test set with these hits."""
    fields = {"fingerprints": {0: "images"}} | fields
    row = Row.scored(1, 0, np.array(hits, dtype=bool))
    return made(method, seed, rows=(row,), metrics={"accuracy_last": float(np.mean(hits))}, **fields)


@settings(deadline=None)
@given(values)
def test_the_spread_is_the_sample_mean_and_deviation(values):
    spread = Spread.of(values)
    assert spread.n == len(values)
    assert spread.mean == pytest.approx(np.mean(values))
    if len(values) == 1:
        assert spread.std is None
    else:
        assert spread.std == pytest.approx(np.std(values, ddof=1), abs=1e-15)


def test_equal_values_have_exactly_their_mean_and_no_deviation():
    assert Spread.of([0.1] * 3) == Spread(0.1, 0.0, 3)
    assert Spread.of([]) is None


def test_orders_and_seeds_spread_apart():
    """Three orders with two seeds each: y = mu + o_k + e_ks."""
    spread = Spread.over([[80, 82], [84, 86], [90, 88]])
    assert (spread.mean, spread.n, spread.orders) == (85, 6, 3)
    assert spread.std == pytest.approx(np.sqrt(2))
    assert spread.order_std == pytest.approx(np.sqrt(15))
    assert spread.error == pytest.approx(4 / np.sqrt(3)) == pytest.approx(2.31, abs=5e-3)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=2), min_size=2))
def test_the_spread_over_orders_is_that_of_one_way_analysis_of_variance(by_order):
    values, seeds = np.array(by_order), len(by_order[0])
    within = values.var(axis=1, ddof=1).mean()
    between = values.mean(axis=1).var(ddof=1)
    spread = Spread.over(by_order)
    assert spread.mean == pytest.approx(values.mean(), abs=1e-12)
    assert spread.std**2 == pytest.approx(within, abs=1e-12)
    assert spread.order_std**2 == pytest.approx(max(0, between - within / seeds), abs=1e-12)
    assert spread.error**2 == pytest.approx(between / len(values), abs=1e-12)


def test_one_order_tells_nothing_of_others_and_one_seed_nothing_of_seeds():
    assert Spread.over([[0.8, 0.82]]) == Spread.of([0.8, 0.82])
    assert Spread.over([[0.8, 0.82], []]) == Spread.of([0.8, 0.82])
    alone = Spread.over([[0.8], [0.9]])
    assert (alone.std, alone.order_std) == (None, None)
    assert alone.error == pytest.approx(0.05)
    assert Spread.over([]) is None
    # Each order counts alike, however many seeds it has.
    assert Spread.over([[0.5], [0.7, 0.8, 0.9]]).mean == pytest.approx(0.65)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 400), st.integers(0, 400))
def test_the_sign_test_is_the_exact_binomial_one(wins, losses):
    from scipy.stats import binomtest

    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=3, max_size=8))
def test_the_interval_is_students(values):
    from scipy.stats import t

    n, error = len(values), np.std(values, ddof=1) / np.sqrt(len(values))
    low, high = student_interval(values)
    assert (high - low) / 2 == pytest.approx(t.ppf(0.975, n - 1) * error, rel=1e-6, abs=1e-12)
    assert (high + low) / 2 == pytest.approx(np.mean(values), abs=1e-12)


def test_there_is_no_interval_below_three_seeds():
    assert student_interval([0.1, 0.2]) is None


def test_one_seed_is_mcnemars_exact_test():
    both_and_none = [1] * 50 + [0] * 30
    a, b = both_and_none + [1] * 9 + [0] * 3, both_and_none + [0] * 9 + [1] * 3
    found = compare([with_hits("meat", a)], [with_hits("ncm", b)])
    assert (found.wins, found.losses, found.images) == (9, 3, 92)
    assert found.p_value == pytest.approx(0.14599609375)
    assert found.test == "McNemar's exact test"
    assert found.mean == pytest.approx(6 / 92)
    assert "meat minus ncm" in str(found)
    assert "no interval below 3 seeds" in str(found)


def test_an_image_that_several_seeds_share_counts_once():
    a = [with_hits("meat", [1] * 10, seed) for seed in range(3)]
    b = [with_hits("ncm", [0] * 6 + [1] * 4, seed) for seed in range(3)]
    found = compare(a, b)
    assert (found.images, found.wins, found.losses) == (10, 6, 0)
    assert found.interval == pytest.approx((0.6, 0.6))


def test_seeds_with_test_sets_of_their_own_are_pooled():
    a = [with_hits("meat", [1] * 10, s, fingerprints={0: f"images {s}"}) for s in range(3)]
    b = [with_hits("ncm", [0] * 10, s, fingerprints={0: f"images {s}"}) for s in range(3)]
    assert compare(a, b).images == 30


def test_wins_and_losses_of_one_image_over_seeds_cancel():
    a = [with_hits("meat", [1, 0], 0), with_hits("meat", [0, 0], 1)]
    b = [with_hits("ncm", [0, 0], 0), with_hits("ncm", [1, 0], 1)]
    found = compare(a, b)
    assert (found.wins, found.losses, found.p_value) == (0, 0, 1.0)


def test_a_metric_of_one_source_counts_its_episodes_alone():
    def episodes(method, right):
        """Of each source the queries of 4 that are right in each episode."""
        rows = tuple(
            Row.scored(episode, source, np.arange(4) < hits)
            for source, of_source in enumerate(right)
            for episode, hits in enumerate(of_source)
        )
        metrics = {f"accuracy/{name}": float(np.mean(of)) / 4 for name, of in zip("ab", right, strict=True)}
        contract = CONTRACT | {"protocol": "few-shot 1"}
        metrics["accuracy_mean"] = float(np.mean(list(metrics.values())))
        return replace(made(method, rows=rows, metrics=metrics, contract=contract), tasks=("a", "b"))

    first, second = episodes("knn", [[4, 4, 4], [1, 1]]), episodes("ncm", [[1, 1, 1], [2, 2]])
    found = {name: compare([first], [second], name) for name in ("accuracy/a", "accuracy/b", "accuracy_mean")}
    assert [(one.wins, one.losses, one.images) for one in found.values()] == [(3, 0, 3), (0, 2, 2), (3, 2, 5)]
    assert found["accuracy/a"].test == "exact sign test per episode"


def test_a_comparison_turned_round_is_its_negative():
    a, b = [made("meat", s, 0.8) for s in range(4)], [made("ncm", s, 0.6) for s in range(4)]
    there, back = compare(a, b), compare(b, a)
    assert there.mean == pytest.approx(-back.mean)
    assert there.interval == pytest.approx(tuple(-end for end in reversed(back.interval)))
    assert (there.wins, there.losses, there.p_value) == (back.losses, back.wins, back.p_value)
    assert there.p_value < 0.01 < there.interval[0]


def test_only_common_seeds_are_compared_and_the_others_named():
    found = compare([made("meat", s) for s in (0, 1, 2)], [made("ncm", s) for s in (1, 2, 5)])
    assert list(found.differences) == [("1993", 1), ("1993", 2)]
    assert found.left_out == (("1993", 0), ("1993", 5))
    assert "seed 0, 5" in str(found)


def test_only_equal_orders_and_seeds_are_paired():
    def those(method, accuracy, draws):
        return [made(method, seed, accuracy, order=order) for order, seed in draws]

    square = [(order, seed) for order in ("7", "1993", "natural") for seed in (0, 1)]
    a, b = those("meat", 0.8, square), those("ncm", 0.6, [*square[1:], ("8", 0)])
    found = compare(a, b)
    assert list(found.differences) == square[1:]
    assert found.left_out == (("7", 0), ("8", 0))
    assert "order 7, seed 0; order 8, seed 0" in str(found)
    # The interval is over the orders' means: the seeds of an order draw no orders.
    means = [
        np.mean([d for (of, _), d in found.differences.items() if of == o]) for o in ("7", "1993", "natural")
    ]
    assert found.interval == pytest.approx(student_interval([float(mean) for mean in means]))
    assert found.mean == pytest.approx(np.mean(means))
    assert "over 5 pairs of order and seed, of 3 orders" in str(found)
    assert "no interval below 3 orders" in str(compare(a[:4], b[:3]))


def test_images_are_not_counted_again_in_each_order():
    a, b = ([made(method, order=order) for order in ("1", "2")] for method in ("meat", "ncm"))
    found = compare(a, b)
    assert found.p_value is None
    assert "the tasks of each order hold the same images in other places; compare one order" in str(found)
    assert compare(a[:1], b[:1]).p_value is not None


def test_without_a_common_order_there_is_no_pair():
    with pytest.raises(RequestError, match=r"meat has order 1 with seeds 0 and ncm order 2 with seeds 0"):
        compare([made("meat", order="1")], [made("ncm", order="2")])


def test_before_schema_1_4_the_contract_named_the_order():
    assert made("meat").draw == ("1993", 0)
    assert made("meat", contract=CONTRACT | {"order": "as the source has them"}).draw == (None, 0)


def test_without_hits_the_images_are_not_compared_and_that_is_said():
    bare = made("ncm")
    bare = replace(bare, rows=tuple(replace(row, hits=None) for row in bare.rows))
    found = compare([made("meat")], [bare])
    assert found.p_value is None
    assert "no per-sample hits" in str(found)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([made("ncm", fingerprints={0: "images of task 0", 1: "others"})], r"different images \(task 1\)"),
        ([made("ncm", contract=CONTRACT | {"order": "another"})], "order: "),
        ([made("ncm", contract=CONTRACT | {"selection": "manual"})], "selection: "),
        ([made("ncm", 7)], "common seed"),
        ([made("ncm", minute=1), made("ncm", minute=2)], "two records of ncm with order 1993, seed 0"),
        (
            [made("ncm", options={"C": 0.5}), made("ncm", 1, options={"lr": 1.0, "C": 2.0})],
            "there are ncm C=0.5 and ncm C=2.0 lr=1.0; .* add -o C=0.5 or -o C=2.0 -o lr=1.0",
        ),
        (
            [replace(made("ncm"), rows=made("ncm").rows[:-1])],
            "has no accuracy_last; choose from backward_transfer",
        ),
        ([made("ncm", status="failed")], "is failed"),
        ([], "needs records of both"),
    ],
)
def test_what_is_not_paired_is_refused_by_name(other, said):
    for sides in itertools.permutations([[made("meat")], other]):
        with pytest.raises(RequestError, match=said):
            compare(*sides)
