"""The columns of a table, and how their numbers read.

Records hold fractions; here they become percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from carryover.tables.table import Line, Table

FRESH, STALE, PUBLISHED = "*", "†", "‡"
LEGEND = {
    FRESH: "this run",
    STALE: "made by other code than the present; `carryover run` makes it again",
    PUBLISHED: "published by others, under other conditions: not to be ranked with the rest",
}
ABSENT = "–"


@dataclass(frozen=True)
class Column:
    """short: heading for a terminal, of up to two lines; full: heading elsewhere; rank: where not all
    columns fit, those of the highest rank are left out first, and those of rank 0 never; words: it
    holds words, which may be broken into lines, and no numbers.
    """

    short: str
    full: str
    text: Callable[[Line], str]
    rank: int = 0
    words: bool = False


def columns(table: Table) -> list[Column]:
    """The columns of `table` in their order: the method first, a dtype only where it is mixed."""
    varied = [Column(table.vary, table.vary, lambda line: line.varied, words=True)] if table.vary else []
    dtype = [Column("dtype", "dtype", lambda line: line.dtype, 1)] if table.mixed_dtype else []
    # Where the trained share stands already, time says more than the number of parameters.
    counted, timed = (3, 2) if table.protocol == "transfer" else (2, 3)
    return [
        Column("method", "method", lambda line: line.label, words=True),
        *varied,
        Column("seeds", "seeds", lambda line: ABSENT if line.published else str(len(line.seeds))),
        *SCORES[table.protocol](table),
        Column(
            "trained\nparams",
            "trainable parameters without the head",
            lambda line: si(line.trainable),
            counted,
        ),
        Column("head\nparams", "parameters of the head", lambda line: si(line.head), 4),
        Column("bits/\ntask", "stored bits per task", lambda line: si(line.stored_bits_per_task), 2),
        Column("exem-\nplars", "exemplars", lambda line: whole(line.exemplars), 3),
        Column("image\npasses", "image passes of the training", lambda line: si(line.passes), 3),
        Column("train\ntime", "training time", lambda line: duration(line.train_s), timed),
        *dtype,
    ]


def _continual(table: Table) -> list[Column]:
    return [
        _metric("accuracy\nlast %", "accuracy_last", 0),
        _metric("accuracy\nincr. %", "accuracy_incremental", 1),
        _metric("forget-\nting %", "forgetting_last", 1),
    ]


def _few_shot(table: Table) -> list[Column]:
    """The mean over sources, the average rank, and each source with its 95 % interval over episodes."""
    return [
        _metric("accuracy\nmean %", "accuracy_mean", 0),
        Column("average\nrank", "average rank", rank, 0),
        *(
            Column(heading(name), f"{name} % (95 % interval)", partial(interval, part=name), 1)
            for name in table.parts
        ),
    ]


def _transfer(table: Table) -> list[Column]:
    """Both means, each group's, each task, and which part of the backbone's size trains."""
    means = [_metric("accuracy\nmean %", "accuracy_mean", 0)]
    if table.groups:
        means.append(_metric("group\nmean %", "accuracy_group_mean", 0))
    return [
        *means,
        # Of a single group it would be the mean once more.
        *(
            _part(name, f"accuracy_group/{name}", f"group {name} %", 1)
            for name in table.groups
            if len(table.groups) > 1
        ),
        *(_part(name, f"accuracy/{name}", f"task {name} %", 5) for name in table.parts),
        Column("trained\nshare %", "trainable share of the backbone's parameters %", share, 1),
    ]


SCORES: dict[str, Callable[[Table], list[Column]]] = {
    "continual": _continual,
    "few-shot": _few_shot,
    "transfer": _transfer,
}


def marks(line: Line) -> str:
    """What is to be said of a line beside its method: `LEGEND`."""
    return FRESH * line.fresh + STALE * line.stale + PUBLISHED * bool(line.published)


def percent(line: Line, metric: str) -> str:
    """The metric in percent, "mean±std" from two seeds on; an exact zero is a bare 0."""
    spread = line.metrics.get(metric)
    if spread is None:
        return ABSENT
    if spread.mean == 0 and not spread.std:
        return "0"
    if line.published:  # with the digits that it was printed with
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
    """A part's name in two lines, the second of them "%"; long ones are broken at a dash or an underscore."""
    cut = next((at for at in range(len(name) - 1, 3, -1) if name[at] in "-_" and at <= 10), 0)
    first, second = (name[: cut + 1], name[cut + 1 :]) if len(name) > 10 and cut else (name, "%")
    return f"{first}\n{second}"


def si(value: float | None) -> str:
    """Three digits and a letter for thousands: 0, 812, 7.69k, 85.8M."""
    if value is None:
        return ABSENT
    letters = iter("kMGTP")
    letter = ""
    while abs(value) >= 999.5:
        value, letter = value / 1000, next(letters)
    digits = 0 if not letter or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{letter}"


def whole(value: float | None) -> str:
    """A count, its thousands set apart."""
    return ABSENT if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """A time in its natural unit: 40 ms, 1.4 s, 41 s, 6.2 min, 1.4 h."""
    if seconds is None:
        return ABSENT
    for unit, length in (("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0)):
        amount = seconds / length
        if amount < {"ms": 99.5, "s": 59.5, "min": 59.5}.get(unit, math.inf):
            break
    small = amount < 9.95 and unit != "ms"
    return f"{amount:.1f} {unit}" if small else f"{amount:.0f} {unit}"


def _part(name: str, metric: str, full: str, rank: int) -> Column:
    return Column(heading(name), full, partial(percent, metric=metric), rank)


def _metric(short: str, metric: str, rank: int) -> Column:
    return Column(short, f"{metric} %", lambda line: percent(line, metric), rank)
