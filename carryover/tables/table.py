"""A table: methods side by side, from records of one contract.

A line is one method with its typed options, over its seeds. What methods may rightly differ in
(parameters, stored bits, exemplars, time, dtype where it is mixed) stands beside the accuracy.
`render.py` draws what is built here.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from carryover.metrics.continual import PRIMARY, protocol_of
from carryover.metrics.ranks import mean_ranks
from carryover.metrics.statistics import Spread, typed
from carryover.records.contract import Contract, differences, same_table, short
from carryover.records.record import Cell, Option, Record
from carryover.records.results import current, recency

SEPARATOR = " · "  # between the parts of a title

# Parts that may vary without changing which images are tested.
_SAME_IMAGES = frozenset({"preprocessing", "backbone", "selection", "inference"})

PLUS_MINUS = "after ±: of a source its 95 % interval over episodes, of the mean its deviation over seeds"


@dataclass(frozen=True)
class Line:
    """One method. Costs are means over seeds, None where no record knows them.

    varied: its value of the table's varied part; prepared: the hash of what it was prepared with, where
    other lines of that method were prepared with something else; parameters: of the backbone; fresh: of the
    present run; stale: made by other code than the present; fill: the command that makes this line, which
    has no record yet; published: who published it, "" where it is ours.
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
    train_s: float | None = None
    dtype: str = ""
    fresh: bool = False
    stale: bool = False
    fill: str = ""
    published: str = ""

    @property
    def trained_share(self) -> float | None:
        """Trainable parameters without the head over those of the backbone."""
        return self.trainable / self.parameters if self.trainable is not None and self.parameters else None

    @property
    def label(self) -> str:
        """The method, what it was prepared with where lines differ in it, and the options typed for it."""
        told = [f"({short(self.prepared)})"] if self.prepared else []
        return " ".join([self.method, *told, *typed(self.options)])


@dataclass(frozen=True)
class Table:
    """Lines with the best first, missing ones at the end; contract: what they share.

    parts: the names of the tasks (few-shot: sources) that have columns of their own; groups: those that
    tasks are in; published: what others measured under other conditions, shown apart from the lines.
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
    def protocol(self) -> str:
        return protocol_of(self.contract)

    @property
    def mixed_dtype(self) -> bool:
        """Whether the numbers were made in more than one dtype."""
        return len({line.dtype for line in self.lines if line.seeds}) > 1


def table(
    records: Sequence[Record],
    *,
    vary: str | None = None,
    fresh: Collection[str] = (),
    stale: Callable[[Record], bool] | None = None,
    reference_methods: Sequence[str] = (),
    fill: Callable[[str], str] | None = None,
) -> Table:
    """The table of the successful records that count.

    vary: the one part of the contract that may differ; fresh: keys of the present run's records;
    stale: whether other code made a record; reference_methods: methods of which every table should
    have a line; fill: the command that makes it, "" where it cannot be made. RequestError if the
    contracts differ in anything else. Records of one seed that were tested on other images than the
    newest one of that seed are left out, and a note says so.
    """
    shared = same_table(records, vary=(vary,) if vary else None)
    stale = stale or (lambda record: False)
    rank = {record.key: 2 if record.key in fresh else 0 if stale(record) else 1 for record in records}
    counting = current(records, rank=lambda record: rank[record.key])
    kept, notes = _same_images(counting, vary, fresh)
    # By seed, the one that counts most last: cells of other names may be the same under one contract.
    groups: dict[tuple[str, str, str, str], dict[int, Record]] = defaultdict(dict)
    for record in sorted(kept, key=lambda record: (record.cell.seed, rank[record.key], *recency(record))):
        name = _label(record.cell), record.cell.method, _varied(record, vary), record.prepared or ""
        groups[name][record.cell.seed] = record
    twice = Counter(name[:3] for name in groups)
    lines = [
        replace(
            _line(list(group.values()), name[2], fresh, stale),
            prepared=name[3] if twice[name[:3]] > 1 else "",
        )
        for name, group in groups.items()
    ]
    counted = {record.key for group in groups.values() for record in group.values()}
    kept = [record for record in kept if record.key in counted]
    parts = records[0].tasks
    if protocol_of(shared) == "few-shot":
        lines = _ranked(lines, parts)
        notes.append(PLUS_MINUS)
    primary = PRIMARY[protocol_of(shared)]
    lines.sort(key=lambda line: (-_mean_of(line, primary), line.label, line.varied))
    for method in reference_methods:
        command = fill(method) if fill and method not in {line.method for line in lines} else ""
        if command:
            if shared.get("selection") == "manual":  # reached only with an option typed by hand
                command += " -o KEY=VALUE"
            lines.append(Line(method, fill=command))
    notes += _seed_notes(lines) + list(dict.fromkeys(note for record in kept for note in record.notes))
    title, stream = _title(records[0], shared, vary), records[0].cell.stream
    between = tuple(dict.fromkeys(records[0].groups))
    return Table(title, stream, shared, vary, tuple(lines), tuple(notes), parts, between)


def closing_tables(
    run: Sequence[Record],
    everything: Sequence[Record],
    *,
    stale: Callable[[Record], bool] | None = None,
    reference_methods: Sequence[str] = (),
    fill: Callable[[str, Cell], str] | None = None,
) -> list[Table]:
    """This run beside every record of the same contract: a table for each contract of its successful records.

    fill(method, cell): the command that runs a method where `cell`, one of this run's, was run.
    """
    tables = []
    for records in by_contract(record for record in run if record.status == "ok"):
        first = records[0]
        others = [*records, *(record for record in everything if record.status == "ok")]
        made = table(
            [record for record in others if record.contract == first.contract],
            fresh={record.key for record in records},
            stale=stale,
            reference_methods=reference_methods,
            fill=partial(_swapped, fill, first.cell) if fill else None,
        )
        tables.append(replace(made, notes=(*made.notes, *_set_apart(first, current(others)))))
    return tables


def by_contract(records: Iterable[Record], vary: str | None = None) -> list[list[Record]]:
    """The records in groups of one contract, the part `vary` left open, in the order they first come."""
    groups: dict[Contract, list[Record]] = defaultdict(list)
    for record in records:
        groups[Contract(record.contract).without((vary,) if vary else ())].append(record)
    return list(groups.values())


def _line(
    records: Sequence[Record], varied: str, fresh: Collection[str], stale: Callable[[Record], bool]
) -> Line:
    names = dict.fromkeys(name for record in records for name in record.metrics)
    spreads = {
        name: _spread(name, [record.metrics[name] for record in records if name in record.metrics])
        for name in names
    }
    costs = [record.cost for record in records]
    return Line(
        method=records[0].cell.method,
        options=records[0].cell.options,
        varied=varied,
        seeds=tuple(record.cell.seed for record in records),
        metrics={name: spread for name, spread in spreads.items() if spread is not None},
        trainable=_mean(cost.trainable for cost in costs),
        parameters=_mean(cost.parameters for cost in costs),
        head=_mean(cost.head for cost in costs),
        stored_bits_per_task=_mean(cost.stored_bits_per_task for cost in costs),
        exemplars=_mean(cost.exemplars for cost in costs),
        passes=_mean(cost.passes for cost in costs),
        train_s=_mean(cost.train_s for cost in costs),
        dtype=", ".join(sorted({record.env.dtype for record in records})),
        fresh=any(record.key in fresh for record in records),
        stale=any(stale(record) for record in records),
    )


def _spread(name: str, values: Sequence[float]) -> Spread | None:
    """Over seeds. The interval of a mean over k seeds, each with episodes of its own: sqrt(sum CI^2) / k."""
    if name.startswith("interval/"):
        return Spread(math.hypot(*values) / len(values), None, len(values))
    return Spread.of(values)


def _same_images(
    records: Sequence[Record], vary: str | None, fresh: Collection[str]
) -> tuple[list[Record], list[str]]:
    """The records that agree with the newest of their seed (this run's first) on the test sets."""
    newest = sorted(records, key=lambda record: (record.key in fresh, *recency(record)), reverse=True)
    tested: dict[tuple[int, str], dict[int, str]] = {}
    kept, notes = [], []
    for record in newest:
        place = record.cell.seed, "" if vary in _SAME_IMAGES or vary is None else record.contract[vary]
        if tested.setdefault(place, record.fingerprints) == record.fingerprints:
            kept.append(record)
        else:
            notes.append(f"left out, since it was tested on other images than the rest: {record.cell}")
    return kept, notes


def _seed_notes(lines: Sequence[Line]) -> list[str]:
    """What to know when the means are over different seeds."""
    sets = Counter(line.seeds for line in lines if line.seeds)
    if len(sets) < 2:
        return []
    said = "; ".join(
        f"{', '.join(line.label for line in lines if line.seeds == seeds)}: {', '.join(map(str, seeds))}"
        for seeds in sets
    )
    return [f"the means are over different seeds ({said})"]


def _set_apart(first: Record, others: Sequence[Record]) -> list[str]:
    """How many records of the same stream stand under other contracts, and what they differ in."""
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


def _title(record: Record, shared: Contract, vary: str | None) -> str:
    parts = [
        record.cell.stream,
        shared.get("scenario", "").partition(":")[0],
        record.cell.backbone if vary != "backbone" else "",
        f"selection {_selection(shared['selection'])}" if "selection" in shared else "",
        f"contract {short(shared.hash)}",
    ]
    return SEPARATOR.join(part for part in parts if part)


def _selection(rule: str) -> str:
    """The rule without its explanation, and that options were typed beside it."""
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


def _ranked(lines: Sequence[Line], sources: Sequence[str]) -> list[Line]:
    """The lines with their average rank over `sources` among the metrics."""
    scores = {
        f"{line.label} {line.varied}": {
            source: (line.metrics[f"accuracy/{source}"].mean, line.metrics[f"interval/{source}"].mean)
            for source in sources
            if f"interval/{source}" in line.metrics
        }
        for line in lines
    }
    found = mean_ranks(scores, sources)
    return [
        replace(line, metrics={**line.metrics, "rank_mean": Spread(found[name], None, 1)})
        if (name := f"{line.label} {line.varied}") in found
        else line
        for line in lines
    ]


def _mean_of(line: Line, metric: str) -> float:
    spread = line.metrics.get(metric)
    return spread.mean if spread else -np.inf


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
