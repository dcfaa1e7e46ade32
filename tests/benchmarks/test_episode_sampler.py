"""Episodes are sampled as Meta-Dataset samples them, uniformly, and each is a pure function of its number."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.episodes.classes import ClassSet
from benchmarks.episodes.config import EpisodeConfig
from benchmarks.episodes.sampler import Draw, Sampler
from benchmarks.episodes.specification import read_specification
from benchmarks.errors import DataError, RequestError

SPECS = Path(os.environ.get("CARRYOVER_DATA", "nowhere"), "meta-dataset-specs")
official = pytest.mark.skipif(
    not SPECS.is_dir(), reason="CARRYOVER_DATA names no folder with meta-dataset-specs/ in it"
)

# Test splits: E[T], E[sum k], P(T = 500), exact or to +-0.4.
NUMBERS = {
    "aircraft": (347.07, 338.6, 0.392),
    "dtd": (290.19, 282.2, 0.157),
    "cu_birds": (326.8, 314.4, 0.359),
    "fungi": (376.9, 362.1, 0.535),
    "mscoco": (426.26, 415.2, 0.701),
    "quickdraw": (436.83, 423.2, 0.743),
    "traffic_sign": (429.83, 417.9, 0.715),
    "vgg_flower": (300.0, 292.5, 0.251),
    "ilsvrc_2012": (384.8, 377.5, 0.534),
}
EPISODES = 1500
MANY = 200_000
STD = 165.0  # of T in one episode, at most


def flat(counts: list[int], split: str = "test", source: str = "made") -> ClassSet:
    names = tuple(f"class {number}" for number in range(len(counts)))
    return ClassSet(source, split, names, np.array(counts))


def grouped(structure: str, sizes: list[int], split: str = "train") -> ClassSet:
    """Groups of classes with 20 images each, one after the other."""
    bounds = np.cumsum([0, *sizes])
    groups = tuple(np.arange(start, end) for start, end in itertools.pairwise(bounds))
    return dataclasses.replace(flat([20] * bounds[-1], split), structure=structure, groups=groups)


def sampler(source: str, split: str = "test") -> Sampler:
    return Sampler(
        read_specification(SPECS / f"{source}_dataset_spec.json").classes(split), EpisodeConfig(), seed=0
    )


def sizes_of_support(config: EpisodeConfig, sizes: np.ndarray, betas: int) -> np.ndarray:
    """T for `betas` values in the middle of equal parts of [0, 1)."""
    left = sizes - config.queries(sizes)
    return np.array([config.support_size((part + 0.5) / betas, left) for part in range(betas)])


def check(draw: Draw, classes: ClassSet, config: EpisodeConfig) -> None:
    """What holds for every episode."""
    way, shots = draw.way, np.bincount(draw.support_labels, minlength=draw.way)
    queries = np.bincount(draw.query_labels, minlength=draw.way)
    sizes = classes.counts[draw.classes]
    assert config.least_way <= way <= config.most_way
    assert len(set(draw.classes.tolist())) == way
    assert len(draw.support_labels) == len(draw.support_images) <= config.most_support
    assert len(draw.query_labels) == len(draw.query_images)
    assert shots.min() >= 1
    assert (queries == min(config.most_queries, sizes.min() // 2)).all()
    assert (np.diff(draw.support_labels) >= 0).all()
    assert (np.diff(draw.query_labels) >= 0).all()
    labels = np.concatenate([draw.support_labels, draw.query_labels])
    images = np.concatenate([draw.support_images, draw.query_images])
    assert images.min() >= 0
    assert (images < sizes[labels]).all()
    assert len(set(zip(labels.tolist(), images.tolist(), strict=True))) == len(images)
    for part in dataclasses.fields(draw):
        assert getattr(draw, part.name).dtype == np.int64


@official
@pytest.mark.parametrize("source", NUMBERS)
def test_official_test_splits_have_the_expected_support_sizes(source: str) -> None:
    of, config = sampler(source), EpisodeConfig()
    drawn = [of.draw(number) for number in range(EPISODES)]
    for draw in drawn[:200]:
        check(draw, of.classes, config)
    total, support, full = NUMBERS[source]
    bound = 4 * STD / math.sqrt(EPISODES)
    assert np.mean([len(draw.support_labels) for draw in drawn]) == pytest.approx(support, abs=bound)
    # T over all of beta, so that only the choice of classes is left to chance.
    some = drawn[:: EPISODES // 100]
    totals = np.array([sizes_of_support(config, of.classes.counts[d.classes], 100) for d in some])
    means, shares = totals.mean(1), (totals == 500).mean(1)
    assert means.mean() == pytest.approx(total, abs=4 * means.std() / math.sqrt(len(some)) + 0.4)
    assert shares.mean() == pytest.approx(full, abs=4 * shares.std() / math.sqrt(len(some)) + 0.005)


@official
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("source", NUMBERS)
def test_official_test_splits_have_the_expected_support_sizes_over_200000_episodes(source: str) -> None:
    of = sampler(source)
    mean = np.mean([len(of.draw(number).support_labels) for number in range(MANY)])
    assert mean == pytest.approx(NUMBERS[source][1], abs=0.4 + 3 * STD / math.sqrt(MANY))


@official
@pytest.mark.parametrize(
    ("source", "split", "mean", "least", "most"),
    [
        ("omniglot", "test", 18.975, 5, 47),
        ("ilsvrc_2012", "train", 18.965, 5, 50),
        ("ilsvrc_2012", "valid", 20.389, 5, 50),
        ("ilsvrc_2012", "test", 14.80, 6, 50),
    ],
)
def test_hierarchical_sources_have_the_expected_ways(
    source: str, split: str, mean: float, least: int, most: int
) -> None:
    of = sampler(source, split)
    ways = np.array([of.draw(number).way for number in range(EPISODES)])
    assert ways.mean() == pytest.approx(mean, abs=4 * ways.std() / math.sqrt(EPISODES) + 0.005)
    assert ways.min() == least
    assert most - 3 <= ways.max() <= most  # Omniglot's 47 comes once in 860 episodes


@official
def test_fungi_has_few_queries_and_mscoco_many_shots() -> None:
    fungi, mscoco = sampler("fungi"), sampler("mscoco")
    queries = np.array([(d := fungi.draw(number)).query_labels.size / d.way for number in range(EPISODES)])
    assert queries.mean() == pytest.approx(4.04, abs=4 * queries.std() / math.sqrt(EPISODES))
    above = [np.bincount(mscoco.draw(n).support_labels).max() > 100 for n in range(EPISODES)]
    assert np.mean(above) == pytest.approx(0.34, abs=4 * math.sqrt(0.34 * 0.66 / EPISODES) + 0.005)


@pytest.mark.parametrize(
    ("way", "images", "mean", "full", "most"),
    [
        (5, 1000, 252.5, 0.01, 500),
        (50, 1000, 477.5, 0.91, 500),
        (10, 100, 32750 / 90, 41 / 90, 500),
        (20, 20, 110, 0, 200),
    ],
)
def test_support_sizes_of_equal_classes_have_closed_forms(
    way: int, images: int, mean: float, full: float, most: int
) -> None:
    sizes = np.full(way, images)
    steps = min(100, images - 10)  # T is constant within each of these parts of beta
    totals = sizes_of_support(EpisodeConfig(), sizes, steps)
    assert totals.mean() == pytest.approx(mean)
    assert (totals == 500).mean() == pytest.approx(full)
    assert totals.max() == most
    classes = flat([images] * way)
    supports = [
        len(Sampler(classes, EpisodeConfig(least_way=way), 0).draw(number).support_labels)
        for number in range(300)
    ]
    # Fractions of T - N that no class gets are lost, and shots that a class has no images for.
    assert 0.7 * mean < np.mean(supports) < mean + 4 * STD / math.sqrt(300)
    assert max(supports) <= most


def test_ways_and_classes_are_uniform() -> None:
    of = Sampler(flat([40] * 12), EpisodeConfig(most_queries=1, most_support=50), seed=3)
    drawn = [of.draw(number) for number in range(2000)]
    ways = np.bincount([draw.way for draw in drawn], minlength=13)[5:]
    assert ((ways - 250) ** 2 / 250).sum() < 29.9  # chi^2 with 7 degrees of freedom, p = 1e-4
    first = np.bincount([draw.classes[0] for draw in drawn], minlength=12)
    assert ((first - 2000 / 12) ** 2 / (2000 / 12)).sum() < 37.4  # 11 degrees of freedom


@pytest.mark.parametrize("images", [6, 24, 60])
def test_every_pair_of_images_is_as_likely(images: int) -> None:
    """Sorted (6, 24) and mostly drawn freely (60): a support and a query image take every ordered pair."""
    config = EpisodeConfig(most_way=5, most_queries=1, most_support=15)
    of = Sampler(flat([images] * 5), config, seed=1)
    found: list[tuple[int, int]] = []
    for number in range(3000):
        draw = of.draw(number)
        shots = np.bincount(draw.support_labels)
        starts = np.cumsum(shots) - shots
        found += [
            (int(draw.support_images[start]), int(query))
            for start, query in zip(starts, draw.query_images, strict=True)
        ]
    pairs = np.zeros((images, images))
    np.add.at(pairs, tuple(np.array(found).T), 1)
    assert np.trace(pairs) == 0
    cells, mean = images * (images - 1), len(found) / (images * (images - 1))
    chi = ((pairs - mean) ** 2 / mean).sum() - images * mean
    assert abs(chi - (cells - 1)) < 4.5 * math.sqrt(2 * (cells - 1))


def test_alphabets_and_nodes_are_chosen_first_unless_an_episode_ignores_them() -> None:
    for structure in ("alphabets", "graph"):
        classes = grouped(structure, [5, 9, 60])
        where = np.repeat(np.arange(3), [5, 9, 60])
        drawn = [Sampler(classes, EpisodeConfig(), 0).draw(number) for number in range(600)]
        chosen = [set(where[draw.classes].tolist()) for draw in drawn]
        assert all(len(groups) == 1 for groups in chosen)
        counts = np.bincount([groups.pop() for groups in chosen])
        assert ((counts - 200) ** 2 / 200).sum() < 18.4  # 2 degrees of freedom, p = 1e-4
        ways = {draw.way for draw in drawn}
        assert ways == {5, 9, 50} if structure == "graph" else {5, 6, 7, 8, 9, 50} < ways
        half = Sampler(classes, EpisodeConfig(), 0, flat_share=0.5)
        mixed = np.mean([len(set(where[half.draw(number).classes].tolist())) > 1 for number in range(600)])
        assert 0.4 < mixed < 0.57


def test_an_episode_does_not_depend_on_others_and_differs_by_seed_source_and_split() -> None:
    classes = flat([30, 40, 500, 6, 80, 9000, 12])
    of = Sampler(classes, EpisodeConfig(), seed=5)
    forwards = [digest(of.draw(number)) for number in range(50)]
    backwards = [digest(of.draw(number)) for number in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 50
    others = (
        Sampler(classes, EpisodeConfig(), seed=6),
        Sampler(dataclasses.replace(classes, source="other"), EpisodeConfig(), seed=5),
        Sampler(dataclasses.replace(classes, split="train"), EpisodeConfig(), seed=5),
    )
    assert all(digest(other.draw(0)) != forwards[0] for other in others)


def test_the_stream_of_episodes_is_fixed() -> None:
    """Results are compared episode by episode, so a change of the stream must be seen."""
    of = Sampler(flat([30, 40, 500, 6, 80, 9000, 12]), EpisodeConfig(), seed=5)
    assert (
        hashlib.sha256(b"".join(digest(of.draw(n)) for n in range(20))).hexdigest()[:16] == "0a44d20855c5a3af"
    )


def test_the_first_1000_episodes_are_the_same_bytes_with_1_2_and_4_processes() -> None:
    of = Sampler(
        flat([20, 30, 40, 50, 300, 3000, 100_000], source="many"), EpisodeConfig(most_support=100), seed=0
    )
    alone = digests(of, range(1000))
    for workers in (2, 4):
        context = multiprocessing.get_context("spawn" if workers == 2 else "fork")
        with ProcessPoolExecutor(workers, context) as pool:
            parts = [pool.submit(digests, of, range(start, 1000, workers)) for start in range(workers)]
            for start, part in enumerate(parts):
                assert part.result() == alone[start::workers]


def digests(of: Sampler, numbers: range) -> list[bytes]:
    return [digest(of.draw(number)) for number in numbers]


def digest(draw: Draw) -> bytes:
    parts = (getattr(draw, part.name) for part in dataclasses.fields(draw))
    return hashlib.sha256(b"|".join(part.astype("<i8").tobytes() for part in parts)).digest()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    counts=st.lists(st.integers(2, 40) | st.integers(2, 100_000), min_size=5, max_size=60),
    most_way=st.integers(5, 60),
    support=st.integers(60, 600),
    queries=st.integers(1, 20),
    log_weight=st.floats(0, 2),
    seed=st.integers(0, 2**40),
)
def test_every_episode_of_every_set_of_classes_keeps_its_bounds(
    counts: list[int], most_way: int, support: int, queries: int, log_weight: float, seed: int
) -> None:
    config = EpisodeConfig(
        most_way=most_way, most_support=support, most_queries=queries, log_weight=log_weight
    )
    classes = flat(counts)
    check(Sampler(classes, config, seed).draw(seed % 7), classes, config)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"least_way": 1}, "least_way of an episode is 1; take a whole number from 2 to 50"),
        ({"most_way": 4}, "most_way of an episode is 4; take a whole number from 5"),
        ({"most_support": 49}, r"most_support of an episode is 49; take a whole number from 50 \(most_way\)"),
        ({"most_queries": 0}, "most_queries of an episode is 0; take a whole number from 1"),
        ({"counted_per_class": True}, "counted_per_class of an episode is True"),
        ({"log_weight": math.nan}, "log_weight of an episode is nan; take a number from 0 to 2"),
    ],
)
def test_bounds_that_cannot_be_are_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        EpisodeConfig(**values)


def test_configs_that_differ_are_described_differently() -> None:
    others = [
        EpisodeConfig(least_way=6),
        EpisodeConfig(most_way=40),
        EpisodeConfig(most_queries=9),
        EpisodeConfig(most_support=100),
        EpisodeConfig(counted_per_class=99),
        EpisodeConfig(log_weight=0.5),
    ]
    assert len({config.describe() for config in [EpisodeConfig(), *others]}) == 7


def test_classes_that_make_no_episode_are_refused() -> None:
    with pytest.raises(DataError, match="made, split test: 4 classes; an episode needs at least 5"):
        flat([20] * 4)
    with pytest.raises(DataError, match=r"made, split test: class 'class 2' has 1 images; .* at least 2"):
        flat([20, 20, 1, 20, 20])
    with pytest.raises(DataError, match=r"made, split train: group 1 \('class 6', .*\) has 4 classes"):
        grouped("alphabets", [6, 4])
    with pytest.raises(DataError, match="group 0 names a class twice, or one that does not exist"):
        dataclasses.replace(flat([20] * 9), structure="graph", groups=(np.array([0, 1, 2, 3, 9]),))
    with pytest.raises(DataError, match="flat classes in 1 groups"):
        dataclasses.replace(flat([20] * 9), groups=(np.arange(5),))
    with pytest.raises(DataError, match="graph classes in 0 groups"):
        dataclasses.replace(flat([20] * 9), structure="graph")


def test_samplers_that_cannot_be_are_refused() -> None:
    with pytest.raises(
        RequestError, match="needs at least 10 classes, but there are only 9; take least_way=9"
    ):
        Sampler(grouped("alphabets", [9, 20]), EpisodeConfig(least_way=10), 0)
    with pytest.raises(RequestError, match=r"flat_share of episodes is 1.5; take a number from 0 to 1"):
        Sampler(flat([20] * 9), EpisodeConfig(), 0, flat_share=1.5)
    with pytest.raises(RequestError, match=r"split test: .* only training may ignore the graph, so take 0"):
        Sampler(grouped("graph", [9, 20], "test"), EpisodeConfig(), 0, flat_share=0.5)
    with pytest.raises(RequestError, match="episode -1 does not exist; episodes are numbered from 0"):
        Sampler(flat([20] * 9), EpisodeConfig(), 0).draw(-1)
