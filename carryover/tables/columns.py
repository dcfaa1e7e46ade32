"""The columns of a table.

Records hold fractions; tables show percent.
"""

from __future__ import annotations

from functools import partial

from carryover.metrics.line import (
    ABSENT,
    Column,
    Line,
    duration,
    error_of_mean,
    passes,
    share,
    si,
    whole,
)
from carryover.tables.table import Table

FRESH, STALE, GONE, MIXED, SEEN, PUBLISHED = "*", "†", "§", "¶", "∩", "‡"
LEGEND = {
    FRESH: "this run",
    STALE: "made by other code than the present; `carryover run` makes it again",
    GONE: "made with a method, stream, backbone or protocol that this checkout lacks",
    MIXED: "computed with different processors or instruction sets, which may change a few answers in a "
    "thousand; `carryover rerun` counts them",
    SEEN: "the backbone was pretrained on images or classes of this stream; the notes say on how many",
    PUBLISHED: "published by others under other conditions: do not rank with the rest",
}


def columns(table: Table) -> list[Column]:
    """The columns of `table` in order: the method first, the dtype only if it is mixed."""
    varied = [Column(table.vary, table.vary, lambda line: line.varied, words=True)] if table.vary else []
    dtype = [Column("dtype", "dtype", lambda line: line.dtype, 1)] if table.mixed_dtype else []
    scores = table.kind.columns(table.lines, table.parts, table.groups)
    orders = []
    if any(len(line.orders) > 1 for line in table.lines):
        orders = [Column("orders", "orders", lambda line: str(len(line.orders)) if line.orders else ABSENT)]
        primary = table.kind.primary
        error = partial(error_of_mean, metric=primary)
        scores[1:1] = [Column("std.\nerror", f"standard error of {primary} over orders %", error)] * bool(
            primary
        )
    # With the trained share in the table, time says more than the number of parameters.
    counted, timed = (3, 2) if any(column.text is share for column in scores) else (2, 3)
    return [
        Column("method", "method", lambda line: line.label, words=True),
        *varied,
        *orders,
        Column("seeds", "seeds", lambda line: ABSENT if line.published else str(len(line.seeds))),
        *scores,
        Column(
            "trained\nparams",
            "trainable parameters without the head",
            lambda line: si(line.trainable),
            counted,
        ),
        Column("head\nparams", "parameters of the head", lambda line: si(line.head), 4),
        Column("bits/\ntask", "stored bits per task", lambda line: si(line.stored_bits_per_task), 2),
        Column("exem-\nplars", "exemplars", lambda line: whole(line.exemplars), 3),
        Column("image\npasses", "image passes of the training", passes, 3),
        Column("macs/\nimage", "multiply-adds of one prediction", lambda line: si(line.macs), 4),
        Column("train\ntime", "training time", lambda line: duration(line.train_s), timed),
        *dtype,
    ]


def marks(line: Line) -> str:
    """The marks beside the method of a line, explained in `LEGEND`."""
    ours = FRESH * line.fresh + STALE * line.stale + GONE * line.gone + MIXED * line.mixed
    return ours + SEEN * line.seen + PUBLISHED * bool(line.published)
