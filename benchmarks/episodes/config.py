"""How large an episode is: the constants of Meta-Dataset's sampling (Triantafillou et al. 2020, §3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.errors import RequestError
from benchmarks.images import Indices

# From here on the sampler's packed 64-bit keys would overflow, and its exponential lose digits.
_MOST = {"most_way": 1_000, "most_queries": 1_000, "most_support": 100_000, "counted_per_class": 1_000_000}
_MOST_LOG_WEIGHT = 2.0


@dataclass(frozen=True)
class EpisodeConfig:
    """Bounds on the size of an episode; the defaults are Meta-Dataset's.

    An episode has least_way to most_way classes, at most most_queries query images of each class (as
    many of every class) and at most most_support support images. counted_per_class bounds what one
    class adds to the size of the support set, not its shots. Class weights are the class sizes times
    exp(u), u uniform in [-log_weight, log_weight). With shots, an episode is N ways and K shots instead:
    exactly most_way classes of `shots` support and most_queries query images each. RequestError for values
    out of range.
    """

    least_way: int = 5
    most_way: int = 50
    most_queries: int = 10
    most_support: int = 500
    counted_per_class: int = 100
    log_weight: float = math.log(2)
    shots: int | None = None

    def __post_init__(self) -> None:
        least = {"most_way": self.least_way, "least_way": 2, "most_queries": 1, "counted_per_class": 1}
        # Every class has a support image, so that a smaller support set would have fewer classes.
        least["most_support"] = self.most_way
        for name, low in least.items():
            value, high = getattr(self, name), _MOST.get(name, self.most_way)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                said = {"most_way": " (least_way)", "most_support": " (most_way)"}.get(name, "")
                raise RequestError(
                    f"{name} of an episode is {value!r}; take a whole number from {low}{said} to {high}."
                )
        if self.shots is not None and not 1 <= self.shots <= _MOST["most_queries"]:
            raise RequestError(
                f"shots of an episode is {self.shots!r}; take a whole number from 1 to "
                f"{_MOST['most_queries']}."
            )
        if not 0 <= self.log_weight <= _MOST_LOG_WEIGHT:
            raise RequestError(
                f"log_weight of an episode is {self.log_weight!r}; take a number from 0 to "
                f"{_MOST_LOG_WEIGHT:g} (Meta-Dataset has log 2)."
            )

    def queries(self, sizes: Indices) -> int:
        """q, the query images of each class, if the classes of the episode have `sizes` (N,) images."""
        if self.shots is not None:
            return self.most_queries
        return min(self.most_queries, int(sizes.min()) // 2)

    def support_size(self, beta: float, left: Indices) -> int:
        """T = min(most_support, sum_c (floor(beta min(counted_per_class, r_c)) + 1)).

        beta: in [0, 1), one for the episode; left: (N,) r_c = n_c - q. T bounds the support images from
        above, N from below.
        """
        counted = np.floor(beta * np.minimum(self.counted_per_class, left))
        return min(self.most_support, int(counted.sum()) + len(left))

    def describe(self) -> str:
        """In words; two that draw differently are described differently."""
        if self.shots is not None:
            return (
                f"episodes of {self.most_way} ways and {self.shots} shots, {self.most_queries} query images "
                "of each class, classes drawn from all of the split"
            )
        factor = "log 2" if self.log_weight == math.log(2) else repr(self.log_weight)
        return (
            f"Meta-Dataset episodes of {self.least_way} to {self.most_way} classes, at most "
            f"{self.most_queries} query images of each class and {self.most_support} support images, of "
            f"which a class counts for at most {self.counted_per_class}, log-weights within {factor}"
        )
