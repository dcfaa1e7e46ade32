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
from carryover.records.record import Option, typed

ABSENT = "–"

# Whether this checkout has the code that made a record, other code, or lacks a plugin or protocol.
Standing = Literal["current", "stale", "gone"]


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (None for one value) and number of values."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of `values`; None without values. Equal values have a deviation of exactly zero."""
        if not values:
            return None
        if min(values) == max(values):  # keeps an exact zero exact
            return cls(values[0], 0.0 if len(values) > 1 else None, len(values))
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))


@dataclass(frozen=True)
class Line:
    """One method in a table. Costs are means over seeds, or None if no record knows them.

    varied: its value of the varied part of the contract; prepared: the hash of what it was prepared with, if
    other lines of that method were prepared with something else; parameters: of the backbone; fresh: made by
    this run; stale: made by other code than the present; gone: made with a plugin that this checkout lacks;
    fill: the command that makes this line, if it has no record yet; published: who published it, "" for ours.
    """

    method: str
    options: Mapping[str, Option] = field(default_factory=dict)
    varied: str = ""
    prepared: str = ""
    seeds: tuple[int, ...] = ()
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
    """The metric in percent, as "mean±std" from two seeds on; an exact zero is "0"."""
    spread = line.metrics.get(metric)
    if spread is None:
        return ABSENT
    if spread.mean == 0 and not spread.std:
        return "0"
    if line.published:  # with as many digits as in the publication
        return f"{100 * spread.mean:.1f}"
    mean = f"{100 * spread.mean:.2f}"
    return mean if spread.std is None else f"{mean}±{100 * spread.std:.2f}"


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
