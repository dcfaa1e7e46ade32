"""The metrics of the few-shot protocol; a row is an episode.

    accuracy/SOURCE    the mean of its episodes' accuracies
    interval/SOURCE    half the width of its 95 % interval, 1.96 std / sqrt(episodes)
    accuracy_mean      the mean over sources
    rank_mean          the average rank over sources, among the lines of a table

as in the leaderboard of Meta-Dataset (Triantafillou et al., ICLR 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.stream import StreamInfo
from carryover.metrics.kind import Kind, Wins
from carryover.metrics.line import Column, Line, Spread, heading, interval, metric_column, rank
from carryover.records.record import Record
from carryover.records.row import Row


class FewShot(Kind):
    """Sources with many episodes each; the unit is an episode, since its images share their support set."""

    name = "few_shot"
    title = "few-shot"
    primary = "accuracy_mean"
    unit = "episode"
    notes = ("±: 95 % interval over episodes for a source, standard deviation over seeds for the mean",)

    def metrics(self, rows: Sequence[Row], tasks: Sequence[str], groups: Sequence[str]) -> dict[str, float]:
        return few_shot_metrics(rows, tasks)

    def columns(self, lines: Sequence[Line], parts: Sequence[str], groups: Sequence[str]) -> list[Column]:
        """The mean over sources, the average rank, and each source with its 95 % interval."""
        return [
            metric_column("accuracy\nmean %", "accuracy_mean", 0),
            Column("average\nrank", "average rank", rank, 0),
            *(
                Column(heading(name), f"{name} % (95 % interval)", partial(interval, part=name), 1)
                for name in parts
            ),
        ]

    def units(self, wins: Sequence[Wins]) -> Wins:
        return np.array([np.sign(won.sum()) for won in wins], dtype=np.int64)

    def ranked(self, lines: Sequence[Line], parts: Sequence[str]) -> list[Line]:
        """The lines, with their average rank over the sources added to the metrics."""
        scores = [
            {
                part: (line.metrics[f"accuracy/{part}"].mean, line.metrics[f"interval/{part}"].mean)
                for part in parts
                if f"interval/{part}" in line.metrics
            }
            for line in lines
        ]
        found = mean_ranks({str(number): of for number, of in enumerate(scores)}, parts)
        return [
            replace(line, metrics={**line.metrics, "rank_mean": Spread(found[str(number)], None, 1)})
            if str(number) in found
            else line
            for number, line in enumerate(lines)
        ]

    def work(self, info: StreamInfo) -> tuple[float, float]:
        episodes = float(info.episodes * info.tasks)
        return episodes, episodes

    def worked(self, record: Record) -> tuple[float, float]:
        return float(len(record.rows)), float(len(record.rows))


KIND = FewShot()


def few_shot_metrics(rows: Iterable[Row], sources: Sequence[str]) -> dict[str, float]:
    """For each source the mean accuracy over episodes and half its 95 % interval; the mean over sources.

    1.96 std(ddof=0) / sqrt(episodes), as in the leaderboard of Meta-Dataset (Triantafillou et al., 2020).
    """
    accuracies: dict[int, list[float]] = {}
    for row in rows:
        if row.correct is not None and row.n:
            accuracies.setdefault(row.task, []).append(row.correct / row.n)
    values: dict[str, float] = {}
    for number, found in sorted(accuracies.items()):
        source = sources[number] if number < len(sources) else f"source {number}"
        values[f"accuracy/{source}"] = float(np.mean(found))
        values[f"interval/{source}"] = float(1.96 * np.std(found) / np.sqrt(len(found)))
    if sources and set(accuracies) == set(range(len(sources))):
        values["accuracy_mean"] = float(np.mean([values[f"accuracy/{source}"] for source in sources]))
    return values


def ranks(scores: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The rank of each model from its (mean, half 95 % interval) on one source; the best has rank 1.

    Models within sqrt(CI1^2 + CI2^2) of the best unranked model share their average rank with it.
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
    """The mean rank of each model over `sources`, from (mean, interval) by model and source.

    Models that lack a source get no rank and do not change the ranks of others.
    """
    whole = {name: of for name, of in scores.items() if all(source in of for source in sources)}
    if not sources:
        return {}
    each = [ranks({name: of[source] for name, of in whole.items()}) for source in sources]
    return {name: sum(by[name] for by in each) / len(each) for name in whole}
