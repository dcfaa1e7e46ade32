"""Average ranks over sources, as Meta-Dataset's leaderboard computes them (Triantafillou et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def ranks(scores: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The rank of each model from its (mean, half 95 % interval) on one source; the best has 1.

    Models within sqrt(CI1^2 + CI2^2) of the best one that has no rank yet share their average rank.
    """
    remaining = sorted(scores, key=lambda name: (-scores[name][0], name))
    found: dict[str, float] = {}
    while remaining:
        best, interval = scores[remaining[0]]
        tied = [name for name in remaining if best - scores[name][0] <= math.hypot(interval, scores[name][1])]
        shared = len(found) + (len(tied) + 1) / 2
        found |= dict.fromkeys(tied, shared)
        remaining = [name for name in remaining if name not in found]
    return found


def mean_ranks(
    scores: Mapping[str, Mapping[str, tuple[float, float]]], sources: Sequence[str]
) -> dict[str, float]:
    """The mean over `sources` of each model's rank, from (mean, interval) by model and source.

    Models that lack a source have none, and do not shift the others.
    """
    whole = {name: of for name, of in scores.items() if all(source in of for source in sources)}
    if not sources:
        return {}
    each = [ranks({name: of[source] for name, of in whole.items()}) for source in sources]
    return {name: sum(by[name] for by in each) / len(each) for name in whole}
