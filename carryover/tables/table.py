"""Builds a table: methods side by side, from records of one contract.

A line is one method with its typed options, over its orders and seeds. Costs, in which methods may differ
(parameters, stored bits, exemplars, time, dtype if it is mixed), stand beside the accuracy.
`carryover/tables/terminal.py` and `export.py` write it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from carryover.metrics.kind import Kind
from carryover.metrics.kinds import kind_of_contract, metrics_of
from carryover.metrics.line import Line, Spread, Standing
from carryover.records.contract import Contract, differences, same_table, short
from carryover.records.record import Cell, Draw, Record, by_order, is_newer
from carryover.records.results import current, recency

SEPARATOR = " · "  # between the parts of a title

# Parts that may vary without changing which images are tested.
_SAME_IMAGES = frozenset({"preprocessing", "backbone", "selection", "inference"})


@dataclass(frozen=True)
class Table:
    """A table: lines with the best first and missing ones at the end, under one contract.

    parts: the names of the tasks (few-shot: sources) that have columns of their own; groups: the groups of
    the tasks; published: results of others under other conditions, shown apart from the lines.
    """

    title: str
    stream: str
    contract: Contract
    vary: str | None
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    published: tuple[Line, ...] = ()

    @property
    def kind(self) -> Kind:
        return kind_of_contract(self.contract)

    @property
    def mixed_dtype(self) -> bool:
        """Whether the records have more than one dtype."""
        return len({line.dtype for line in self.lines if line.seeds}) > 1


def table(
    records: Sequence[Record],
    *,
    vary: str | None = None,
    fresh: Collection[str] = (),
    standing: Callable[[Record], Standing] | None = None,
    reference_methods: Sequence[str] = (),
    fill: Callable[[str], str] | None = None,
) -> Table:
    """The table of the successful records that count.

    vary: one part of the contract that may differ; fresh: keys of the records of this run; standing: whether
    a record is current, stale or gone; reference_methods: methods of which every table should have a line;
    fill: the command that makes such a line, "" if it cannot be made. RequestError if the contracts differ
    in anything else. A record is left out, with a note, if it was tested on other images than the newest
    record of its seed.
    """
    shared = same_table(records, vary=(vary,) if vary else None)
    stands = {record.key: standing(record) if standing else "current" for record in records}
    rank = {r.key: 2 if r.key in fresh else 1 if stands[r.key] == "current" else 0 for r in records}
    counting = current(records, rank=lambda record: rank[record.key])
    kept, notes = _same_images(counting, vary, fresh)
    # By draw, the highest rank last: cells with different names may be the same under one contract.
    groups: dict[tuple[str, str, str, str], dict[Draw, Record]] = defaultdict(dict)
    for record in sorted(
        kept, key=lambda record: (by_order(record.draw), rank[record.key], *recency(record))
    ):
        name = _label(record.cell), record.cell.method, _varied(record, vary), record.prepared or ""
        groups[name][record.draw] = record
    twice = Counter(name[:3] for name in groups)
    lines = [
        replace(
            _line(list(group.values()), name[2], fresh, stands),
            prepared=name[3] if twice[name[:3]] > 1 else "",
        )
        for name, group in groups.items()
    ]
    counted = {record.key for group in groups.values() for record in group.values()}
    kept = [record for record in kept if record.key in counted]
    parts = records[0].tasks
    kind = kind_of_contract(shared)
    lines = kind.ranked(lines, parts)
    notes += kind.notes
    if newer := sum(map(is_newer, kept)):
        notes.append(
            f"{newer} of the records by a newer version of carryover, which may hold more than is shown"
        )
    lines.sort(key=lambda line: (-_mean_of(line, kind.primary), line.label, line.varied))
    for method in reference_methods:
        command = fill(method) if fill and method not in {line.method for line in lines} else ""
        if command:
            if shared.get("selection") == "manual":  # only a typed option makes such a record
                command += " -o KEY=VALUE"
            lines.append(Line(method, fill=command))
    notes += _seed_notes(lines) + list(dict.fromkeys(note for record in kept for note in record.notes))
    orders = tuple(dict.fromkeys(order for line in lines for order in line.orders))
    title, stream = _title(records[0], shared, vary, orders), records[0].cell.stream
    between = tuple(dict.fromkeys(records[0].groups))
    return Table(title, stream, shared, vary, tuple(lines), tuple(notes), parts, between)


def closing_tables(
    run: Sequence[Record],
    everything: Sequence[Record],
    *,
    standing: Callable[[Record], Standing] | None = None,
    reference_methods: Sequence[str] = (),
    fill: Callable[[str, Cell], str] | None = None,
) -> list[Table]:
    """One table per contract of this run's successful records, with every other record of that contract.

    fill(method, cell): the command that runs a method in place of that of `cell`, a cell of this run.
    """
    tables = []
    for records in by_contract(record for record in run if record.status == "ok"):
        first = records[0]
        others = [*records, *(record for record in everything if record.status == "ok")]
        made = table(
            [record for record in others if record.contract == first.contract],
            fresh={record.key for record in records},
            standing=standing,
            reference_methods=reference_methods,
            fill=partial(_swapped, fill, first.cell) if fill else None,
        )
        tables.append(replace(made, notes=(*made.notes, *_set_apart(first, current(others)))))
    return tables


def by_contract(records: Iterable[Record], vary: str | None = None) -> list[list[Record]]:
    """The records grouped by contract without the part `vary`, in order of first occurrence."""
    groups: dict[Contract, list[Record]] = defaultdict(list)
    for record in records:
        groups[Contract(record.contract).without((vary,) if vary else ())].append(record)
    return list(groups.values())


def _line(
    records: Sequence[Record], varied: str, fresh: Collection[str], stands: Mapping[str, Standing]
) -> Line:
    metrics: dict[str | None, list[dict[str, float]]] = defaultdict(list)
    for record in records:
        metrics[record.draw[0]].append(metrics_of(record))
    spreads = {
        name: _spread(name, [[one[name] for one in of if name in one] for of in metrics.values()])
        for name in dict.fromkeys(name for of in metrics.values() for one in of for name in one)
    }
    costs = [record.cost for record in records]
    return Line(
        method=records[0].cell.method,
        options=records[0].cell.options,
        varied=varied,
        seeds=tuple(sorted({record.cell.seed for record in records})),
        orders=tuple(order for order in metrics if order is not None),
        draws=tuple(record.draw for record in records),
        metrics={name: spread for name, spread in spreads.items() if spread is not None},
        trainable=_mean(cost.trainable for cost in costs),
        parameters=_mean(cost.parameters for cost in costs),
        head=_mean(cost.head for cost in costs),
        stored_bits_per_task=_mean(cost.stored_bits_per_task for cost in costs),
        exemplars=_mean(cost.exemplars for cost in costs),
        passes=_mean(cost.passes for cost in costs),
        replayed=_mean(cost.replayed for cost in costs),
        macs=_mean(cost.macs for cost in costs),
        train_s=_mean(cost.train_s for cost in costs),
        dtype=", ".join(sorted({record.env.dtype for record in records})),
        fresh=any(record.key in fresh for record in records),
        stale=any(stands[record.key] == "stale" for record in records),
        gone=any(stands[record.key] == "gone" for record in records),
        seen=any(record.overlap is not None for record in records),
        mixed=len({record.env.computed_with for record in records}) > 1,
    )


def _spread(name: str, of_orders: Sequence[Sequence[float]]) -> Spread | None:
    """The spread over orders and seeds; for intervals of k seeds with other episodes, sqrt(sum CI^2) / k."""
    if name.startswith("interval/"):
        values = [value for of in of_orders for value in of]
        return Spread(math.hypot(*values) / len(values), None, len(values))
    return Spread.over(of_orders)


def _same_images(
    records: Sequence[Record], vary: str | None, fresh: Collection[str]
) -> tuple[list[Record], list[str]]:
    """The records with the test sets of the newest record of their draw; this run's count as newest."""
    newest = sorted(records, key=lambda record: (record.key in fresh, *recency(record)), reverse=True)
    tested: dict[tuple[Draw, str], dict[int, str]] = {}
    kept, notes = [], []
    for record in newest:
        place = record.draw, "" if vary in _SAME_IMAGES or vary is None else record.contract[vary]
        if tested.setdefault(place, record.fingerprints) == record.fingerprints:
            kept.append(record)
        else:
            notes.append(f"left out, since it was tested on other images than the others: {record.cell}")
    return kept, notes


def _seed_notes(lines: Sequence[Line]) -> list[str]:
    """Notes if the means are over different orders or seeds, or over several orders."""
    ours, notes = [line for line in lines if line.seeds], []
    if any(len(line.orders) > 1 for line in ours):
        notes.append(
            "±o: standard deviation over orders, without what seeds add to it; ±s: over the seeds of one "
            "order; std. error: of the mean over orders"
        )
    if single := [line.label for line in ours if len(line.draws) == len(line.orders) > 1]:
        notes.append(
            "one seed in each order, so that the spread over orders and that over seeds cannot be told "
            f"apart ({', '.join(single)})"
        )
    if gaps := [line.label for line in ours if len(line.draws) < len(line.orders) * len(line.seeds)]:
        notes.append(f"not every order has every seed ({', '.join(gaps)})")
    sets = Counter(line.draws for line in ours)
    if len(sets) > 1:
        of_orders = len({line.orders for line in ours}) > 1
        said = "; ".join(
            f"{', '.join(line.label for line in ours if line.draws == draws)}: {_drawn(draws, of_orders)}"
            for draws in sets
        )
        notes.append(f"the means are over different {'orders or seeds' if of_orders else 'seeds'} ({said})")
    return notes


def _drawn(draws: Sequence[Draw], of_orders: bool) -> str:
    """The seeds, with their order before them where orders differ: "1993 with 0, 1"."""
    if not of_orders:
        return ", ".join(str(seed) for seed in sorted({seed for _, seed in draws}))
    seeds: dict[str | None, list[str]] = defaultdict(list)
    for order, seed in draws:
        seeds[order].append(str(seed))
    return ", ".join(f"{order} with {' '.join(of)}" for order, of in seeds.items())


def _set_apart(first: Record, others: Sequence[Record]) -> list[str]:
    """Notes on the records of the same stream under other contracts: how many, and how they differ."""
    apart: Counter[str] = Counter()
    for record in others:
        parts = differences(first.contract, record.contract)
        if parts and record.cell.stream == first.cell.stream:
            selection = f"selection ({record.contract.get('selection', 'none')})"
            apart[", ".join(selection if part == "selection" else part for part in parts)] += 1
    return [
        f"{count} more {'records' if count > 1 else 'record'} of this stream under another contract: {parts}"
        for parts, count in apart.items()
    ]


def _title(record: Record, shared: Contract, vary: str | None, orders: Sequence[str]) -> str:
    said = "one order" if len(orders) == 1 else f"{len(orders)} orders"
    parts = [
        record.cell.stream,
        shared.get("scenario", "").partition(":")[0],
        f"{said} ({', '.join(orders)})" if orders else "",
        record.cell.backbone if vary != "backbone" else "",
        _pooling_and_pixels(shared) if vary != "backbone" else "",
        f"selection {_selection(shared['selection'])}" if "selection" in shared else "",
        f"contract {short(shared.hash)}",
    ]
    return SEPARATOR.join(part for part in parts if part)


def _pooling_and_pixels(shared: Contract) -> str:
    """How a network of timm's pools, after whom, and its mean and deviation; an own one has one way."""
    _, _, said = shared.get("backbone", "").partition(", ")
    return said if " as " in said else ""


def _selection(rule: str) -> str:
    """The rule without its explanation, and whether options were typed."""
    rule, _, others = rule.partition("; ")
    return "; ".join(filter(None, [rule.partition(":")[0], others]))


def _swapped(fill: Callable[[str, Cell], str], cell: Cell, method: str) -> str:
    return fill(method, cell)


def _varied(record: Record, vary: str | None) -> str:
    if vary is None:
        return ""
    return record.cell.backbone if vary == "backbone" else record.contract.get(vary, "none")


def _label(cell: Cell) -> str:
    return Line(cell.method, cell.options).label


def _mean_of(line: Line, metric: str) -> float:
    spread = line.metrics.get(metric)
    return spread.mean if spread else -np.inf


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
