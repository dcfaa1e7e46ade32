"""Compares two methods in pairs: seed by seed, and image by image.

Both comparisons are paired, so they need the same test images: a seed or task whose fingerprints differ
is refused, not averaged over.

- Over seeds: the differences d_s of one metric; their mean with the interval mean +- t_{n-1} sd/sqrt(n)
  of Student's t, from 3 seeds on. The seeds share most of their data, so the interval tells how much a
  result varies with the seed, not with the data.
- Over images: the exact sign test of the last step's hits. The unit is an image: its wins minus its
  losses, summed over seeds, so that seeds which share their test images do not count them twice.
  In few-shot streams the unit is an episode; the method with more correct queries wins it. With one seed
  (and images) this is McNemar's exact test (Edwards 1948; Dietterich 1998): two-sided binomial with
  p = 1/2 over the images on which only one of the methods is right.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.errors import RequestError
from carryover.metrics.kind import Wins, wins_of
from carryover.metrics.kinds import kind_of, kind_of_contract, metrics_of
from carryover.records.contract import same_table, short
from carryover.records.record import Record, typed, variant

MIN_SEEDS = 3
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """The comparison of method a with method b, as a minus b.

    differences: of the metric, by seed; interval: of their mean, None below 3 seeds; wins, losses:
    images on which a was right more often, or less often, than b; p_value: of the exact two-sided
    test named in `test`, None if a record holds no per-sample hits; left_out: seeds that only one has.
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
    protocol: str = "continual"

    @property
    def _by_unit(self) -> str:
        kind = kind_of(self.protocol)
        return " ".join(filter(None, [f"{kind.unit.capitalize()} by {kind.unit}", kind.when]))

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
            lines.append(f"{self._by_unit}: not compared, {kind_of(self.protocol).untested}.")
        else:
            lines.append(
                f"{self._by_unit}: {self.a} ahead on {self.wins:,}, {self.b} on "
                f"{self.losses:,} of {self.images:,}; {self.test}: p = {_p(self.p_value)}."
            )
        if self.left_out:
            seeds = ", ".join(map(str, self.left_out))
            lines.append(f"Left out, since only one of the methods has it: seed {seeds}.")
        return "\n".join(lines)


def compare(a: Sequence[Record], b: Sequence[Record], metric: str | None = None) -> Comparison:
    """Compare the successful records of two methods, one per seed each, over their common seeds.

    metric: by default the one that sorts the tables of this protocol.

    RequestError for records under different contracts, a method with more than one set of typed options,
    two records of one seed, no common seed, an absent metric, or a seed whose test images differ.
    """
    if not a or not b:
        raise RequestError("a comparison needs records of both methods; first run the one without records.")
    same_table([*a, *b])
    kind = kind_of_contract(a[0].contract)
    metrics = {record.key: metrics_of(record) for record in (*a, *b)}
    of_all_tasks = (name for name in metrics[a[0].key] if "/" not in name)
    metric = metric or kind.primary or next(of_all_tasks, "")
    first, second = _by_seed(a), _by_seed(b)
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise RequestError(
            f"{a[0].cell.method} has seeds {_listed(first)} and {b[0].cell.method} {_listed(second)}; "
            "run both with a common seed."
        )
    for seed in seeds:
        check_same_images(first[seed], second[seed])
        for record in (first[seed], second[seed]):
            if metric not in metrics[record.key]:
                raise RequestError(
                    f"{record.cell} has no {metric or 'metric'}; choose from {_listed(metrics[record.key])}."
                )
    differences = {
        seed: metrics[first[seed].key][metric] - metrics[second[seed].key][metric] for seed in seeds
    }
    mean = float(np.mean(list(differences.values())))
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
        if len(seeds) == 1 and kind.unit == "image"
        else f"exact sign test per {kind.unit}" + (", seeds summed" if len(seeds) > 1 else ""),
        left_out=tuple(sorted(first.keys() ^ second.keys())),
        protocol=kind.name,
    )


def check_same_images(a: Record, b: Record) -> None:
    """RequestError naming the task if two records of one seed have different test images."""
    for task in sorted(a.fingerprints.keys() | b.fingerprints.keys()):
        if a.fingerprints.get(task) != b.fingerprints.get(task):
            raise RequestError(
                f"{a.cell} and {b.cell} were tested on different images (task {task}); "
                "run both again on the same data to compare them."
            )


def student_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The two-sided 95 % interval of the mean by Student's t; None below 3 values."""
    if len(values) < MIN_SEEDS:
        return None
    from scipy.special import stdtrit

    n = len(values)
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    return mean - half, mean + half


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p-value of `wins` against `losses` under a fair coin; 1 if both are 0."""
    if wins + losses == 0:
        return 1.0
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))  # symmetric: both tails are equal


def _scores(pairs: Sequence[tuple[Record, Record]], metric: str) -> Wins | None:
    """For each unit (image or episode): the number of seeds in which a was right, minus that for b.

    None if a row that counts lacks its hits in a record, or if no rows are known to count.
    """
    kind = kind_of_contract(pairs[0][0].contract)
    images: dict[tuple[int, int, str], Wins] = {}
    for seed, (a, b) in enumerate(pairs):
        rows = kind.counting(a, metric), kind.counting(b, metric)
        for place in sorted(rows[0].keys() | rows[1].keys()):
            won = wins_of(*rows, place)
            if won is None:
                return None
            task = place[1]
            test_set = (*place, a.fingerprints.get(task, f"seed {seed}"))
            images[test_set] = images.get(test_set, 0) + won
    return kind.units(list(images.values())) if images else None


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
            raise RequestError(f"{record.cell} is {record.status}; compare only finished cells.")
        if record.cell.seed in found:
            raise RequestError(
                f"there are two records of {record.cell.method} with seed {record.cell.seed} "
                f"({found[record.cell.seed].cell}; {record.cell}); leave one out."
            )
        found[record.cell.seed] = record
    return found


def _listed(names: object) -> str:
    return ", ".join(map(str, sorted(names))) or "none"  # type: ignore[call-overload]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
