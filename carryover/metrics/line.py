"""A line of a table, its columns, and the format of its numbers.

Records hold fractions; tables show percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from carryover.records.contract import short
from carryover.records.record import Draw, Option, typed

ABSENT = "–"

# Whether this checkout has the code that made a record, other code, or lacks a plugin or protocol.
Standing = Literal["current", "stale", "gone"]


@dataclass(frozen=True)
class Spread:
    """The mean of n values, and how far they spread.

    std: sample standard deviation over the seeds of one order; with several orders pooled over them; None
    where no order has two seeds; orders: how many there are; order_std: the standard deviation over orders,
    without what seeds add to it; error: the standard error of the mean over orders. The last two are None
    with one order, which cannot tell how much another would change.
    """

    mean: float
    std: float | None
    n: int
    orders: int = 1
    order_std: float | None = None
    error: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of `values`; None without values. Equal values have a deviation of exactly zero."""
        if not values:
            return None
        if min(values) == max(values):  # keeps an exact zero exact
            return cls(values[0], 0.0 if len(values) > 1 else None, len(values))
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))

    @classmethod
    def over(cls, by_order: Sequence[Sequence[float]]) -> Spread | None:
        """The spread of values y[k, s] of orders k with seeds s of their own; None without values.

        With y = mu + o_k + e_ks: the seed variance is pooled within orders (ddof 1), the order variance is
        max(0, var_k(mean_s y) - seed variance / S), and the standard error of mu sd_k(mean_s y) / sqrt(K),
        with K - 1 degrees of freedom. Where orders have different numbers of seeds, each order counts alike
        and S is their harmonic mean.
        """
        orders = [values for values in by_order if values]
        if len(orders) < 2:
            return cls.of([value for values in orders for value in values])
        means = [found.mean for values in orders if (found := cls.of(values))]
        between = cls.of(means)
        assert between is not None
        assert between.std is not None
        free = sum(len(values) - 1 for values in orders)
        within = [len(values) - 1 for values in orders], [cls.of(values) for values in orders]
        squares = sum(n * found.std**2 for n, found in zip(*within, strict=True) if found and found.std)
        seeds = math.sqrt(squares / free) if free else None
        apart = None
        if seeds is not None:
            share = seeds**2 * float(np.mean([1 / len(values) for values in orders]))
            apart = math.sqrt(max(0.0, between.std**2 - share))
        n = sum(map(len, orders))
        error = between.std / math.sqrt(len(orders))
        return cls(between.mean, seeds, n, len(orders), apart, error)


@dataclass(frozen=True)
class Line:
    """One method in a table. Costs are means over its records, or None if no record knows them.

    draws: the order and seed of each record; seeds, orders: those that occur, orders only where there are
    some to choose; varied: its value of the varied part of the contract; prepared: the hash of what it was
    prepared with, if other lines of that method were prepared with something else; parameters: of the
    backbone; fresh: made by this run; stale: made by other code than the present; gone: made with a plugin
    that this checkout lacks; mixed: its records come from several kinds of processor or instruction sets;
    seen: its backbone was pretrained on images or classes of the stream;
    fill: the command that makes this line, if it has no record yet; published: who published it, "" for ours.
    """

    method: str
    options: Mapping[str, Option] = field(default_factory=dict)
    varied: str = ""
    prepared: str = ""
    seeds: tuple[int, ...] = ()
    orders: tuple[str, ...] = ()
    draws: tuple[Draw, ...] = ()
    metrics: Mapping[str, Spread] = field(default_factory=dict)
    trainable: float | None = None
    parameters: float | None = None
    head: float | None = None
    stored_bits_per_task: float | None = None
    exemplars: float | None = None
    passes: float | None = None
    replayed: float | None = None
    macs: float | None = None
    train_s: float | None = None
    dtype: str = ""
    fresh: bool = False
    stale: bool = False
    gone: bool = False
    mixed: bool = False
    seen: bool = False
    fill: str = ""
    published: str = ""

    @property
    def trained_share(self) -> float | None:
        """Trainable parameters without the head, divided by the parameters of the backbone."""
        return self.trainable / self.parameters if self.trainable is not None and self.parameters else None

    @property
    def label(self) -> str:
        """The method, the hash of its preparation if lines differ in it, and its typed options."""
        told = [f"({short(self.prepared)})"] if self.prepared else []
        return " ".join([self.method, *told, *typed(self.options)])


@dataclass(frozen=True)
class Column:
    """A column of a table.

    short: heading on a terminal, of up to two lines; full: heading elsewhere; rank: if not all columns fit,
    those of the highest rank are left out first, and those of rank 0 never; words: whether it holds words,
    which may be broken into lines, instead of numbers.
    """

    short: str
    full: str
    text: Callable[[Line], str]
    rank: int = 0
    words: bool = False


def percent(line: Line, metric: str) -> str:
    """The metric in percent, as "mean±std" from two seeds on; an exact zero is "0".

    Over several orders as "mean ±std o ±std s", with the deviations over orders and over seeds; never as one.
    """
    spread = line.metrics.get(metric)
    if spread is None:
        return ABSENT
    if spread.mean == 0 and not spread.std and not spread.error:
        return "0"
    if line.published:  # with as many digits as in the publication
        return f"{100 * spread.mean:.1f}"
    mean = f"{100 * spread.mean:.2f}"
    if spread.orders > 1:
        parts = [(spread.order_std, "o"), (spread.std, "s")]
        return mean + "".join(f"±{100 * std:.2f}{letter}" for std, letter in parts if std is not None)
    return mean if spread.std is None else f"{mean}±{100 * spread.std:.2f}"


def error_of_mean(line: Line, metric: str) -> str:
    """The standard error of the mean over orders, in percent."""
    spread = line.metrics.get(metric)
    return ABSENT if spread is None or spread.error is None else f"{100 * spread.error:.2f}"


def interval(line: Line, part: str) -> str:
    """The mean accuracy on one part in percent and half its 95 % interval."""
    mean, half = line.metrics.get(f"accuracy/{part}"), line.metrics.get(f"interval/{part}")
    if mean is None:
        return ABSENT
    return f"{100 * mean.mean:.1f}" + (f"±{100 * half.mean:.1f}" if half else "")


def rank(line: Line) -> str:
    """The average rank over the parts."""
    found = line.metrics.get("rank_mean")
    return ABSENT if found is None else f"{found.mean:.2f}"


def share(line: Line) -> str:
    """The trained share in percent."""
    found = line.trained_share
    return ABSENT if found is None else "0" if found == 0 else f"{100 * found:.2f}"


def heading(name: str) -> str:
    """The name of a part in two lines, the second "%"; long names break at a dash or an underscore."""
    cut = next((at for at in range(len(name) - 1, 3, -1) if name[at] in "-_" and at <= 10), 0)
    first, second = (name[: cut + 1], name[cut + 1 :]) if len(name) > 10 and cut else (name, "%")
    return f"{first}\n{second}"


def si(value: float | None) -> str:
    """A number with three digits and an SI letter: 0, 812, 7.69k, 85.8M."""
    if value is None:
        return ABSENT
    letters = iter("kMGTP")
    letter = ""
    while abs(value) >= 999.5:
        value, letter = value / 1000, next(letters)
    digits = 0 if not letter or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{letter}"


def passes(line: Line) -> str:
    """Image passes, plus the replayed exemplars."""
    return si(line.passes) + (f" + {si(line.replayed)}" if line.replayed else "")


def whole(value: float | None) -> str:
    """A count with separated thousands."""
    return ABSENT if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """A time in a readable unit: 40 ms, 1.4 s, 41 s, 6.2 min, 1.4 h."""
    if seconds is None:
        return ABSENT
    for unit, length in (("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0)):
        amount = seconds / length
        if amount < {"ms": 99.5, "s": 59.5, "min": 59.5}.get(unit, math.inf):
            break
    small = amount < 9.95 and unit != "ms"
    return f"{amount:.1f} {unit}" if small else f"{amount:.0f} {unit}"


def part_column(name: str, metric: str, full: str, rank: int) -> Column:
    return Column(heading(name), full, partial(percent, metric=metric), rank)


def metric_column(short: str, metric: str, rank: int) -> Column:
    return Column(short, f"{metric} %", lambda line: percent(line, metric), rank)
