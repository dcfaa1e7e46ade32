"""Two methods compared pairwise: seed by seed, and image by image.

Both comparisons are paired, so they hold only where both methods were tested on the same images: a
seed or task whose fingerprints differ is refused, not averaged over.

- Over seeds: the differences d_s of one metric; their mean with the interval mean +- t_{n-1} sd/sqrt(n)
  of Student's t, from 3 seeds on. The seeds share most of their data, so it tells how much a result
  moves with the seed, not with other data.
- Over images: the exact sign test of the last step's hits. The unit is an image: its wins minus its
  losses, summed over seeds, so that seeds which share their test images do not count them twice.
  In few-shot streams the unit is an episode, and who has more of its queries right wins it. With one seed
  (and images) this is McNemar's exact test (Edwards 1948; Dietterich 1998): two-sided binomial with
  p = 1/2 over the images on which only one of the methods is right.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import RequestError
from carryover.metrics.continual import PRIMARY, protocol_of
from carryover.records.contract import same_table, short
from carryover.records.record import Cell, Option, Record, Row, show_option, unpack_hits

MIN_SEEDS = 3
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """mean, sample standard deviation (None for one value) and number of values."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of `values`; None for none. Equal values have exactly zero deviation."""
        if not values:
            return None
        if min(values) == max(values):  # keeps an exact zero exact
            return cls(values[0], 0.0 if len(values) > 1 else None, len(values))
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))


@dataclass(frozen=True)
class Comparison:
    """Method a minus method b.

    differences: of the metric, by seed; interval: of their mean, None below 3 seeds; wins, losses:
    images on which a was right more often, or less often, than b; p_value: of the exact two-sided
    test named in `test`, None where a record holds no per-sample hits; left_out: seeds that only one has.
    """

    a: str
    b: str
    metric: str
    differences: dict[int, float]
    mean: float
    interval: tuple[float, float] | None
    images: int
    wins: int
    losses: int
    p_value: float | None
    test: str
    left_out: tuple[int, ...] = ()
    unit: str = "image"

    @property
    def _by_unit(self) -> str:
        when = " after the last task" * (self.unit == "image" and self.metric == PRIMARY["continual"])
        return f"{self.unit.capitalize()} by {self.unit}{when}"

    def __str__(self) -> str:
        seeds = f"{len(self.differences)} seed" + ("s" if len(self.differences) > 1 else "")
        if self.interval is None:
            spread = f"no interval below {MIN_SEEDS} seeds"
        else:
            low, high = (100 * end for end in self.interval)
            spread = f"{CONFIDENCE:.0%} interval {low:+.2f} to {high:+.2f}, Student's t over seeds"
        points = f"{100 * self.mean:+.2f} points over {seeds} ({spread})"
        lines = [f"{self.a} minus {self.b}, {self.metric}: {points}."]
        if self.p_value is None:
            lines.append(f"{self._by_unit}: not compared, the records hold no per-sample hits.")
        else:
            lines.append(
                f"{self._by_unit}: {self.a} ahead on {self.wins:,}, {self.b} on "
                f"{self.losses:,} of {self.images:,}; {self.test}: p = {_p(self.p_value)}."
            )
        if self.left_out:
            seeds = ", ".join(map(str, self.left_out))
            lines.append(f"Left out, since only one of the two has them: seed {seeds}.")
        return "\n".join(lines)


def compare(a: Sequence[Record], b: Sequence[Record], metric: str | None = None) -> Comparison:
    """The paired comparison of two methods' successful records, one per seed each, over their common seeds.

    metric: the one that the protocol is led by, if none is named (accuracy_last, accuracy_mean).

    RequestError for records under different contracts, a method with more than one set of typed options,
    two records of one seed, no common seed, a metric that is absent, or a seed whose test images differ.
    """
    if not a or not b:
        raise RequestError("a comparison needs records of both methods; run the one that has none first.")
    same_table([*a, *b])
    protocol = protocol_of(a[0].contract)
    metric = metric or PRIMARY[protocol]
    first, second = _by_seed(a), _by_seed(b)
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise RequestError(
            f"{a[0].cell.method} has seeds {_listed(first)} and {b[0].cell.method} {_listed(second)}; "
            "run both with a common seed to compare them."
        )
    for seed in seeds:
        check_same_images(first[seed], second[seed])
        for record in (first[seed], second[seed]):
            if metric not in record.metrics:
                raise RequestError(f"{record.cell} has no {metric}; it has {_listed(record.metrics)}.")
    differences = {seed: first[seed].metrics[metric] - second[seed].metrics[metric] for seed in seeds}
    mean = float(np.mean(list(differences.values())))
    unit = "episode" if protocol == "few-shot" else "image"
    scores = _scores([(first[seed], second[seed]) for seed in seeds], metric)
    wins, losses = (0, 0) if scores is None else (int((scores > 0).sum()), int((scores < 0).sum()))
    return Comparison(
        a=variant(a[0].cell),
        b=variant(b[0].cell),
        metric=metric,
        differences=differences,
        mean=mean,
        interval=student_interval(list(differences.values())),
        images=0 if scores is None else len(scores),
        wins=wins,
        losses=losses,
        p_value=None if scores is None else sign_test(wins, losses),
        test="McNemar's exact test"
        if len(seeds) == 1 and unit == "image"
        else f"exact sign test per {unit}" + (", seeds summed" if len(seeds) > 1 else ""),
        left_out=tuple(sorted(first.keys() ^ second.keys())),
        unit=unit,
    )


def variant(cell: Cell) -> str:
    """The method with the options typed for it."""
    return " ".join([cell.method, *typed(cell.options)])


def check_same_images(a: Record, b: Record) -> None:
    """RequestError naming the task if two records of one seed were not tested on the same images."""
    for task in sorted(a.fingerprints.keys() | b.fingerprints.keys()):
        if a.fingerprints.get(task) != b.fingerprints.get(task):
            raise RequestError(
                f"{a.cell} and {b.cell} were tested on different images (task {task}); "
                "run both again on the same data to compare them."
            )


def student_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The two-sided 95 % interval of the mean by Student's t; None for fewer than 3 values."""
    if len(values) < MIN_SEEDS:
        return None
    from scipy.special import stdtrit

    n = len(values)
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    return mean - half, mean + half


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p-value of `wins` against `losses` under a fair coin; 1 for none of either."""
    if wins + losses == 0:
        return 1.0
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))  # symmetric: both tails are equal


def _scores(pairs: Sequence[tuple[Record, Record]], metric: str) -> NDArray[np.int64] | None:
    """Per image: the seeds in which only a was right minus those in which only b was.

    Over all tasks, or those that the metric is of. None if a row that counts holds no hits in either record.
    """
    images: dict[tuple[int, int, str], NDArray[np.int64]] = {}
    for seed, (a, b) in enumerate(pairs):
        rows = _rows_that_count(a, metric), _rows_that_count(b, metric)
        for step, task in sorted(rows[0].keys() | rows[1].keys()):
            hits = [of[step, task].hits if (step, task) in of else None for of in rows]
            if hits[0] is None or hits[1] is None:
                return None
            n = rows[0][step, task].n
            won = unpack_hits(hits[0], n).astype(np.int64) - unpack_hits(hits[1], n)
            place = step, task, a.fingerprints.get(task, f"seed {seed}")
            images[place] = images.get(place, 0) + won
    if not images:
        return None
    if protocol_of(pairs[0][0].contract) == "few-shot":
        # The images of an episode share their support: the episode is the unit.
        return np.array([np.sign(won.sum()) for won in images.values()], dtype=np.int64)
    return np.concatenate(list(images.values()))


def _rows_that_count(record: Record, metric: str) -> dict[tuple[int, int], Row]:
    """Every episode; of continual learning, each task after the last one was learnt.

    A metric of one task, source or group (`accuracy/dtd`, `accuracy_group/natural`) counts those alone.
    """
    rows = [row for row in record.rows if row.split == "test"]
    if protocol_of(record.contract) == "continual":
        last = max((row.step for row in rows), default=0)
        rows = [row for row in rows if row.step == last]
    kind, _, name = metric.partition("/")
    names = {"accuracy": record.tasks, "accuracy_group": record.groups}.get(kind, ())
    if name in names:
        rows = [row for row in rows if names[row.task] == name]
    return {(row.step, row.task): row for row in rows}


def _by_seed(records: Sequence[Record]) -> dict[int, Record]:
    found: dict[int, Record] = {}
    variants = {variant(record.cell): record.cell for record in records}
    if len(variants) > 1:
        each = [
            " ".join(f"-o {shlex.quote(word)}" for word in typed(cell.options)) for cell in variants.values()
        ]
        raise RequestError(
            f"there are {' and '.join(variants)}; choose one of them: add {' or '.join(filter(None, each))}"
        )
    if len(prepared := {record.prepared for record in records}) > 1:
        said = ", ".join(sorted(short(str(one)) for one in prepared))
        raise RequestError(
            f"the seeds of {records[0].cell.method} were prepared with different things ({said}); run them "
            "again with one"
        )
    for record in records:
        if record.status != "ok":
            raise RequestError(f"{record.cell} is {record.status}; only finished cells can be compared.")
        if record.cell.seed in found:
            raise RequestError(
                f"there are two records of {record.cell.method} with seed {record.cell.seed} "
                f"({found[record.cell.seed].cell}; {record.cell}); give one of them."
            )
        found[record.cell.seed] = record
    return found


def typed(options: Mapping[str, Option]) -> list[str]:
    """Each as it is typed, by name."""
    return [f"{name}={show_option(value)}" for name, value in sorted(options.items())]


def _listed(names: object) -> str:
    return ", ".join(map(str, sorted(names))) or "none"  # type: ignore[call-overload]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
