"""Compares two methods in pairs: order by order, seed by seed, and image by image.

The comparisons are paired, so they need the same test images: a draw (an order of classes with a seed) or
task whose fingerprints differ is refused, not averaged over.

- Over seeds: the differences d_s of one metric; their mean with the interval mean +- t_{n-1} sd/sqrt(n)
  of Student's t, from 3 seeds on. The seeds share most of their data, so the interval tells how much a
  result varies with the seed, not with the data.
- Over several orders: the same over the means of each order, from 3 orders on, since the seeds of an
  order are no draws of orders.
- Over images: the exact sign test of the last step's hits. The unit is an image: its wins minus its
  losses, summed over seeds, so that seeds which share their test images do not count them twice.
  In few-shot streams the unit is an episode; the method with more correct queries wins it. With one seed
  (and images) this is McNemar's exact test (Edwards 1948; Dietterich 1998): two-sided binomial with
  p = 1/2 over the images on which only one of the methods is right. Over several orders there is no test: the
  tasks of each hold the same images in other places, and would count them again.
"""

from __future__ import annotations

import math
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.errors import RequestError
from carryover.metrics.kind import Wins, wins_of
from carryover.metrics.kinds import kind_of, kind_of_contract, metrics_of
from carryover.records.contract import same_table, short
from carryover.records.record import Draw, Record, by_order, said_draw, typed, variant

MIN_SEEDS = 3
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """The comparison of method a with method b, as a minus b.

    differences: of the metric, by order and seed; interval: of their mean, None below 3 seeds (3 orders, if
    there are several); wins, losses: images on which a was right more often, or less often, than b; p_value:
    of the exact two-sided test named in `test`, None if a record holds no per-sample hits, and over several
    orders; left_out: draws that only one has.
    """

    a: str
    b: str
    metric: str
    differences: dict[Draw, float]
    mean: float
    interval: tuple[float, float] | None
    images: int
    wins: int
    losses: int
    p_value: float | None
    test: str
    left_out: tuple[Draw, ...] = ()
    protocol: str = "continual"

    @property
    def orders(self) -> int:
        """The number of orders that are averaged over."""
        return len({order for order, _ in self.differences})

    @property
    def _by_unit(self) -> str:
        kind = kind_of(self.protocol)
        return " ".join(filter(None, [f"{kind.unit.capitalize()} by {kind.unit}", kind.when]))

    def __str__(self) -> str:
        seeds = f"{len(self.differences)} seed" + ("s" if len(self.differences) > 1 else "")
        unit = "orders" if self.orders > 1 else "seeds"
        if self.interval is None:
            spread = f"no interval below {MIN_SEEDS} {unit}"
        else:
            low, high = (100 * end for end in self.interval)
            spread = f"{CONFIDENCE:.0%} interval {low:+.2f} to {high:+.2f}, Student's t over {unit}"
        if self.orders > 1:
            seeds = f"{len(self.differences)} pairs of order and seed, of {self.orders} orders"
        elif (order := next(iter(self.differences))[0]) is not None:
            seeds += f" of one order, {order}"
        points = f"{100 * self.mean:+.2f} points over {seeds} ({spread})"
        lines = [f"{self.a} minus {self.b}, {self.metric}: {points}."]
        if self.p_value is None:
            why = kind_of(self.protocol).untested
            if self.orders > 1:
                why = "since the tasks of each order hold the same images in other places; compare one order"
            lines.append(f"{self._by_unit}: not compared, {why}.")
        else:
            lines.append(
                f"{self._by_unit}: {self.a} ahead on {self.wins:,}, {self.b} on "
                f"{self.losses:,} of {self.images:,}; {self.test}: p = {_p(self.p_value)}."
            )
        if self.left_out:
            if len({order for order, _ in (*self.left_out, *self.differences)}) > 1:
                said = "; ".join(map(said_draw, self.left_out))
            else:
                said = f"seed {', '.join(str(seed) for _, seed in self.left_out)}"
            lines.append(f"Left out, since only one of the methods has it: {said}.")
        return "\n".join(lines)


def compare(a: Sequence[Record], b: Sequence[Record], metric: str | None = None) -> Comparison:
    """Compare the successful records of two methods, one per draw each, over their common draws.

    metric: by default the one that sorts the tables of this protocol.

    RequestError for records under different contracts, a method with more than one set of typed options,
    two records of one draw, no common draw, an absent metric, or a draw whose test images differ.
    """
    if not a or not b:
        raise RequestError("a comparison needs records of both methods; first run the one without records.")
    same_table([*a, *b])
    kind = kind_of_contract(a[0].contract)
    metrics = {record.key: metrics_of(record) for record in (*a, *b)}
    of_all_tasks = (name for name in metrics[a[0].key] if "/" not in name)
    metric = metric or kind.primary or next(of_all_tasks, "")
    first, second = _by_draw(a), _by_draw(b)
    draws = sorted(first.keys() & second.keys(), key=by_order)
    if not draws:
        raise RequestError(
            f"{a[0].cell.method} has {_said(first)} and {b[0].cell.method} {_said(second)}; "
            "run both with a common seed, and a common order."
        )
    for draw in draws:
        check_same_images(first[draw], second[draw])
        for record in (first[draw], second[draw]):
            if metric not in metrics[record.key]:
                raise RequestError(
                    f"{record.cell} has no {metric or 'metric'}; choose from {_listed(metrics[record.key])}."
                )
    differences = {
        draw: metrics[first[draw].key][metric] - metrics[second[draw].key][metric] for draw in draws
    }
    orders: dict[str | None, list[float]] = defaultdict(list)
    for (order, _), difference in differences.items():
        orders[order].append(difference)
    several = len(orders) > 1
    values = [float(np.mean(of)) for of in orders.values()] if several else list(differences.values())
    pairs = [(first[draw], second[draw]) for draw in draws]
    scores = None if several else _scores(pairs, metric)
    wins, losses = (0, 0) if scores is None else (int((scores > 0).sum()), int((scores < 0).sum()))
    return Comparison(
        a=variant(a[0].cell),
        b=variant(b[0].cell),
        metric=metric,
        differences=differences,
        mean=float(np.mean(values)),
        interval=student_interval(values),
        images=0 if scores is None else len(scores),
        wins=wins,
        losses=losses,
        p_value=None if scores is None else sign_test(wins, losses),
        test="McNemar's exact test"
        if len(draws) == 1 and kind.unit == "image"
        else f"exact sign test per {kind.unit}" + (", seeds summed" if len(draws) > 1 else ""),
        left_out=tuple(sorted(first.keys() ^ second.keys(), key=by_order)),
        protocol=kind.name,
    )


def check_same_images(a: Record, b: Record) -> None:
    """RequestError naming the task if two records of one draw have different test images."""
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


def _by_draw(records: Sequence[Record]) -> dict[Draw, Record]:
    found: dict[Draw, Record] = {}
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
        if record.draw in found:
            raise RequestError(
                f"there are two records of {record.cell.method} with {said_draw(record.draw)} "
                f"({found[record.draw].cell}; {record.cell}); leave one out."
            )
        found[record.draw] = record
    return found


def _said(draws: Iterable[Draw]) -> str:
    """Draws in words: "seeds 0, 1" if they share their order, else each of them."""
    draws = sorted(draws, key=by_order)
    orders = dict.fromkeys(order for order, _ in draws)
    seeds = f"seeds {', '.join(str(seed) for _, seed in draws)}"
    if len(orders) > 1:
        return "; ".join(map(said_draw, draws))
    return seeds if None in orders else f"order {next(iter(orders))} with {seeds}"


def _listed(names: object) -> str:
    return ", ".join(map(str, sorted(names))) or "none"  # type: ignore[call-overload]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
