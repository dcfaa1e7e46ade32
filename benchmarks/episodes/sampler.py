"""Which classes and images an episode consists of: Meta-Dataset's sampling (Triantafillou et al. 2020, §3.2).

An episode is a pure function of (seed, source, split, number): no other episode is drawn before it, and
every method, model and worker sees the same. It is computed from PCG64's 64-bit words with integers and with
operations that IEEE 754 rounds in one way, so it depends on neither NumPy's version nor the CPU.

Images are drawn without replacement for all classes at once. If a class gives few of its images, numbers are
drawn freely, and those that repeat an earlier one are drawn again until none does; if it gives many, its
images are sorted by random keys. Both are uniform to the last bit: draws are compared for equality only, and
keys that tie are thrown away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.episodes.classes import ClassSet
from benchmarks.episodes.config import EpisodeConfig
from benchmarks.errors import RequestError
from benchmarks.images import Indices
from benchmarks.seeds import generator

Words = NDArray[np.uint64]
Field = NDArray[np.float64]

# A class with more images than this for each that it gives is drawn from freely.
_SPARSE = 8


@dataclass(frozen=True, eq=False)
class Draw:
    """One episode of N classes, S support and Q query images, all int64.

    classes: (N,) positions in the ClassSet; support_labels (S,) and query_labels (Q,): positions in
    `classes`, ascending; support_images (S,) and query_images (Q,): numbers of images within their
    class. No image occurs twice; every class has Q / N query images.
    """

    classes: Indices
    support_labels: Indices
    support_images: Indices
    query_labels: Indices
    query_images: Indices

    @property
    def way(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws the episodes of `classes` by `config`.

    flat_share: share of episodes that ignore alphabets or graph, for training (0.5 in CrossTransformers).
    RequestError for a share outside [0, 1] or outside training, or fewer classes than least_way.
    """

    classes: ClassSet
    config: EpisodeConfig
    seed: int
    flat_share: float = 0.0

    def __post_init__(self) -> None:
        classes, where = self.classes, self.classes.where
        if not 0 <= self.flat_share <= 1:
            raise RequestError(f"flat_share of episodes is {self.flat_share!r}; take a number from 0 to 1.")
        if self.flat_share and classes.groups and classes.split != "train":
            raise RequestError(
                f"{where}: flat_share of episodes is {self.flat_share!r}; only training may ignore the "
                f"{classes.structure}, so take 0."
            )
        if (shots := self.config.shots) is not None:
            self._check_exact(shots)
            return
        smallest = min((len(group) for group in classes.groups), default=len(classes.names))
        if smallest < self.config.least_way:
            raise RequestError(
                f"{where}: an episode needs at least {self.config.least_way} classes, but there are only "
                f"{smallest}; take least_way={smallest} or fewer."
            )

    def _check_exact(self, shots: int) -> None:
        """RequestError where N ways and K shots cannot be drawn."""
        classes, config = self.classes, self.config
        if len(classes.names) < config.most_way:
            raise RequestError(
                f"{classes.where}: an episode has way={config.most_way} classes, but there are only "
                f"{len(classes.names)}; take fewer ways."
            )
        needed = shots + config.most_queries
        few = np.flatnonzero(classes.counts < needed)
        if len(few):
            raise RequestError(
                f"{classes.where}: class {classes.names[few[0]]!r} has {classes.counts[few[0]]} images, "
                f"fewer than shots={shots} and queries={config.most_queries} need; take fewer of either."
            )

    def draw(self, number: int) -> Draw:
        """The episode `number`, from 0."""
        if number < 0:
            raise RequestError(f"episode {number} does not exist; episodes are numbered from 0.")
        bits = generator("episode", self.seed, self.classes.source, self.classes.split, number).bit_generator
        assert isinstance(bits, np.random.PCG64)  # raw words mean what they do for PCG64
        chosen = self._choose(bits)
        way, sizes = len(chosen), self.classes.counts[chosen]
        queries = self.config.queries(sizes)
        shots = self._shots(bits, sizes, queries)
        counts = shots + queries
        owner = np.repeat(np.arange(way), counts)
        starts = np.cumsum(counts) - counts
        learnt = np.arange(len(owner)) < (starts + shots)[owner]  # each class's support comes first
        images = _without_replacement(bits, sizes, counts)
        return Draw(chosen, owner[learnt], images[learnt], owner[~learnt], images[~learnt])

    def _choose(self, bits: np.random.PCG64) -> Indices:
        """(N,) positions of the episode's classes, in its order."""
        classes, config = self.classes, self.config
        whole = not classes.groups or config.shots is not None
        if self.flat_share and classes.groups:
            whole = float(_uniform(bits, 1)[0]) < self.flat_share
        if whole:
            return _some(bits, len(classes.names), self._way(bits, len(classes.names)))
        group = classes.groups[_below(bits, len(classes.groups))]
        way = min(config.most_way, len(group))  # all leaves of a node, but N characters of an alphabet
        if classes.structure == "alphabets":
            way = self._way(bits, len(group))
        return group[_some(bits, len(group), way)]

    def _way(self, bits: np.random.PCG64, available: int) -> int:
        """N ~ U{least_way..min(most_way, available)}."""
        most = min(self.config.most_way, available)
        least = self.config.least_way if self.config.shots is None else most
        return least + _below(bits, most - least + 1)

    def _shots(self, bits: np.random.PCG64, sizes: Indices, queries: int) -> Indices:
        """(N,) support images of each class.

        With T for one beta ~ U[0, 1) (see `EpisodeConfig.support_size`), class c has
        min(floor(p_c (T - N)) + 1, r_c), p_c proportional to n_c exp(u_c).
        """
        config, way, left = self.config, len(sizes), sizes - queries
        if config.shots is not None:
            return np.full(way, config.shots)
        chance = _uniform(bits, way + 1)
        total = config.support_size(float(chance[0]), left)
        weights = sizes * _exp((2 * chance[1:] - 1) * config.log_weight)
        # fsum rounds the same in every order of the terms; weights first, so that equal ones divide exactly.
        shares = np.floor(weights * (total - way) / math.fsum(weights.tolist())).astype(np.int64)
        return np.minimum(shares + 1, left)


def _exp(u: Field) -> Field:
    """exp(u) for |u| <= 2, to 1e-12 for |u| <= log 2: NumPy's rounds differently from one CPU to the next."""
    x = u / 16
    total: Field = 1 + x / 6
    for divisor in (5, 4, 3, 2, 1):  # the Taylor series
        total = 1 + total * x / divisor
    for _ in range(4):
        total = total * total
    return total


def _uniform(bits: np.random.PCG64, count: int) -> Field:
    """(count,) in [0, 1), multiples of 2^-53."""
    words: Words = bits.random_raw(count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _below(bits: np.random.PCG64, end: int) -> int:
    """One of 0..end-1, every one exactly as likely: words from the last incomplete round are passed over."""
    while True:
        word = int(bits.random_raw())
        if word < 2**64 - 2**64 % end:
            return word % end


def _some(bits: np.random.PCG64, size: int, count: int) -> Indices:
    """`count` of 0..size-1 in random order, without replacement."""
    while True:
        keys: Words = bits.random_raw(size)
        order = np.argsort(keys)
        if not _repeats(keys[order]).any():
            return order[:count]


def _repeats(ascending: Words) -> NDArray[np.bool_]:
    """(M - 1,) whether each but the first equals the one before."""
    return np.asarray(ascending[1:] == ascending[:-1])


def _without_replacement(bits: np.random.PCG64, sizes: Indices, counts: Indices) -> Indices:
    """(sum of counts,) for each class in turn `counts` distinct numbers below `sizes`, in random order."""
    crowded = sizes <= _SPARSE * counts
    if crowded.all():
        return _by_sorting(bits, sizes, counts)
    if not crowded.any():
        return _by_rejection(bits, sizes, counts)
    few = np.repeat(crowded, counts)
    images = np.empty(len(few), dtype=np.int64)
    images[few] = _by_sorting(bits, sizes[crowded], counts[crowded])
    images[~few] = _by_rejection(bits, sizes[~crowded], counts[~crowded])
    return images


def _by_sorting(bits: np.random.PCG64, sizes: Indices, counts: Indices) -> Indices:
    """The first `counts` of all images of each class in random order: O(sum of sizes)."""
    total = int(sizes.sum())
    width = np.uint64(total.bit_length())
    # One key for each image: whose it is (16 bits), chance, its own place. Only chance may decide.
    ends = np.repeat(np.arange(len(sizes), dtype=np.uint64) << np.uint64(48), sizes)
    ends |= np.arange(total, dtype=np.uint64)
    chance_from = np.uint64(16) + width
    while True:
        words: Words = bits.random_raw(total)
        words >>= chance_from
        words <<= width
        words |= ends
        words.sort()
        if not _repeats(words >> width).any():
            break
    starts = np.cumsum(sizes) - sizes
    chosen = words[np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)]
    return (chosen & _low(width)).view(np.int64) - np.repeat(starts, counts)


def _by_rejection(bits: np.random.PCG64, sizes: Indices, counts: Indices) -> Indices:
    """Free draws; those that repeat an earlier one of their class are drawn again: O(sum of counts)."""
    bounds = np.repeat(sizes.astype(np.uint64), counts)
    width = np.uint64(len(bounds).bit_length())
    # One key for each draw: whose it is, the image, its place, so that later ones of equals are known.
    ends = np.repeat(np.arange(len(sizes), dtype=np.uint64) * np.uint64(sizes.max()) << width, counts)
    ends += np.arange(len(bounds), dtype=np.uint64)
    images = _numbers(bits, bounds)
    while True:
        keys = images << width
        keys += ends
        keys.sort()
        again = (keys[1:] & _low(width))[_repeats(keys >> width)]
        if not len(again):
            return images.view(np.int64)
        images[again] = _numbers(bits, bounds[again])


def _low(width: np.uint64) -> np.uint64:
    """A mask of the lowest `width` bits."""
    return (np.uint64(1) << width) - np.uint64(1)


def _numbers(bits: np.random.PCG64, ends: Words) -> Words:
    """(M,) numbers below `ends` (< 2^32), every one exactly as likely (Lemire 2019, algorithm 5)."""
    words: Words = bits.random_raw(len(ends))
    products = (words >> np.uint64(32)) * ends
    numbers = products >> np.uint64(32)
    uneven = np.flatnonzero((products & np.uint64(2**32 - 1)) < np.uint64(2**32) % ends)
    if len(uneven):
        numbers[uneven] = _numbers(bits, ends[uneven])
    return numbers
