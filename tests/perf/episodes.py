"""The sampler of few-shot episodes alone, against one written down as one would, class by class."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import numpy as np
from measure import Row, interleave, quartiles
from workload import Setup

from benchmarks.episodes.classes import ClassSet
from benchmarks.episodes.config import EpisodeConfig
from benchmarks.episodes.sampler import Draw, Sampler
from benchmarks.images import Indices

EPISODES_PER_SECOND = 3000.0
# Class sizes like those of three of Meta-Dataset's test splits.
SIZES = {
    "aircraft's 15 x 100 images": np.full(15, 100),
    "fungi's 200 x 6 to 364": np.geomspace(6, 364, 200).astype(np.int64),
    "quickdraw's 52 x 117,000 to 340,000": np.geomspace(117_000, 340_000, 52).astype(np.int64),
}


def sampler_speed(setup: Setup) -> Iterator[Row]:
    """Episodes per second of one process."""
    count = 50 if setup.quick else 500
    for name, sizes in SIZES.items():
        classes = ClassSet("perf", "test", tuple(f"class {c}" for c in range(len(sizes))), sizes)
        sampler = Sampler(classes, EpisodeConfig(), seed=0)
        pairs = interleave(
            lambda: [sampler.draw(number) for number in range(count)],  # noqa: B023
            lambda: [naive(sizes, EpisodeConfig(), 0, number) for number in range(count)],  # noqa: B023
            setup.pairs,
        )
        rate = count / statistics.median(pairs.ours)
        yield Row(
            name="sampler",
            compared=f"episodes drawn one by one, ours / naive NumPy: {name}",
            unit="episodes/s",
            ours=rate,
            theirs=count / statistics.median(pairs.theirs),
            ratio=statistics.median(pairs.ratios()),
            spread=quartiles(pairs.ratios()),
            cpu_ratio=pairs.cpu_ratio(),
            bound=f">= {EPISODES_PER_SECOND:,g}/s",
            met=rate >= EPISODES_PER_SECOND,
            samples={"ours_s": pairs.ours, "theirs_s": pairs.theirs},
        )


def naive(sizes: Indices, config: EpisodeConfig, seed: int, number: int) -> Draw:
    """An episode of flat classes as the text says it, with `Generator.choice` for each class."""
    rng = np.random.default_rng([seed, number])
    way = int(rng.integers(config.least_way, min(config.most_way, len(sizes)) + 1))
    classes = rng.choice(len(sizes), way, replace=False)
    chosen = sizes[classes]
    queries = min(config.most_queries, int(chosen.min()) // 2)
    left = chosen - queries
    counted = np.floor(rng.random() * np.minimum(config.counted_per_class, left)) + 1
    total = min(config.most_support, int(counted.sum()))
    weights = chosen * np.exp(rng.uniform(-math.log(2), math.log(2), way))
    shots = np.floor(weights / weights.sum() * (total - way)).astype(np.int64) + 1
    shots = np.minimum(shots, left)
    support, query = [], []
    for size, shot in zip(chosen, shots, strict=True):
        images = rng.choice(size, shot + queries, replace=False)
        support.append(images[:shot])
        query.append(images[shot:])
    labels = np.arange(way)
    return Draw(
        classes,
        np.repeat(labels, shots),
        np.concatenate(support),
        np.repeat(labels, queries),
        np.concatenate(query),
    )
