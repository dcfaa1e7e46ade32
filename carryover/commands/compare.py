"""`carryover compare`: selects the records of two methods that may be compared, and names the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.errors import RequestError
from benchmarks.naming import canonical, parse, typed
from benchmarks.orders import name_of
from carryover.cells.request import command, option
from carryover.exit_codes import OK
from carryover.metrics.kinds import kind_of_contract
from carryover.metrics.line import Standing
from carryover.plugins import catalogue
from carryover.records.contract import differences
from carryover.records.record import Draw, Option, Record, by_order, said_draw, show_option
from carryover.records.results import Results, current, failures, recency

Pair = tuple[list[Record], list[Record]]


@dataclass(frozen=True)
class Asked:
    """Two methods to compare on one stream and backbone, as typed.

    methods: may carry options of their own (`lora?rank=4`); options: each applies to the methods that have a
    record with it; selection: as for `run`, or manual.
    """

    methods: tuple[str, str]
    stream: str
    backbone: str
    options: tuple[tuple[str, str], ...] = ()
    selection: str | None = None
    results: Path | None = None

    @classmethod
    def typed(cls, asked: Mapping[str, Any]) -> Asked:
        """From the values of the command line; RequestError for a malformed option."""
        return cls(
            methods=(asked["first"], asked["second"]),
            options=tuple(option(text) for text in asked["options"]),
            **{name: asked[name] for name in ("stream", "backbone", "selection", "results")},
        )

    @property
    def place(self) -> str:
        return f"on {self.stream} with {self.backbone}"

    @property
    def by_hand(self) -> bool:
        own = any(parse(name)[1] for name in self.methods)
        return own or bool(self.options) or self.selection == "manual"

    def run(self, methods: Sequence[str], records: Iterable[Record]) -> str:
        """The command that runs `methods` on this stream and backbone, for the draws of `records`."""
        draws = sorted({(record.cell.order, record.cell.seed) for record in records}, key=by_order)
        orders = dict.fromkeys(order for order, _ in draws if order)
        seeds = sorted({seed for _, seed in draws})
        words = ["run", "--method", ",".join(methods), "--stream", self.stream, "--backbone", self.backbone]
        words += ["--order", ",".join(orders)] if orders and asked_order(self.stream) is None else []
        words += ["--seed", ",".join(map(str, seeds))] if seeds else []
        words += ["--selection", self.selection] if self.selection and not self.by_hand else []
        return command([*words, *(["--results", str(self.results)] if self.results else [])])


def compare(asked: Asked, metric: str | None = None) -> int:
    """Compare two methods on records of one contract, print it, and note which other records there are.

    If both methods have records under several contracts, the contract of a run without options is
    preferred, then one without stale records.
    """
    from carryover.cells.key import standing
    from carryover.metrics.statistics import compare as compared

    everything = Results.default(asked.results).all()[0]
    recorded = {record.cell.stream for record in everything}
    stream, order = recorded_stream(asked.stream, recorded), asked_order(asked.stream, recorded)
    everything = [record for record in everything if order in (None, record.draw[0])]
    backbone = _recorded_backbone(asked.backbone, {record.cell.backbone for record in everything})
    everything = [record for record in everything if record.cell.backbone == backbone]
    records = [record for record in everything if record.status == "ok"]
    there = [record for record in records if record.cell.stream == stream]
    sides = [_side(name, everything) for name in asked.methods]
    there = [record for record in there if any(record.cell.method == side.method for side in sides)]
    for side, as_typed in zip(sides, asked.methods, strict=True):
        if not any(map(side.has, there)):
            near = _alike(stream, [record.cell.stream for record in records if side.has(record)])
            ended = [record for record in failures(everything) if record.cell.stream == stream]
            raise RequestError(
                f"there is no finished record of {as_typed} {asked.place}"
                + (f", only on {', '.join(near)}" if near else "")
                + "".join(f" (one {r.status}: {r.reason})" for r in ended[-1:] if side.has(r))
                + f"; {_way_to(asked, side.method, as_typed, there)}"
            )
    stands = {record.key: standing(record) for record in there}
    stale = {key for key, found in stands.items() if found != "current"}
    counting = current(there, rank=lambda record: record.key not in stale)
    pairs = _pairs(asked, sides, counting)
    if not pairs:
        raise _apart(asked, counting)
    pair = max(pairs, key=lambda pair: _preference(pair, stale))
    print(compared(*pair, metric))
    if stream != asked.stream and parse(stream) != parse(asked.stream):
        print(f"The stream is recorded as {stream}.")
    for note in _notes(pair, pairs, counting, stands):
        print(note)
    return OK


def _way_to(asked: Asked, method: str, as_typed: str, there: Collection[Record]) -> str:
    """How to make the record: a command, or the reason why it cannot be made here."""
    try:
        catalogue.method_class(method)
        catalogue.stream_plugin(parse(asked.stream)[0])
        catalogue.backbone_plugin(asked.backbone)
    except RequestError as error:
        return f"it cannot be made here: {error}"
    return f"{asked.run([as_typed], there)} makes one"


def recorded_stream(name: str, recorded: Collection[str]) -> str:
    """The name under which `run` records a stream, as far as it is known without opening it.

    An opened stream may reorder a list (`only=b+a`): if the name is not recorded, a recorded one with the
    same parts is taken. An order of classes is no part of a recorded name (`asked_order`).
    """
    if name in recorded:
        return name
    bare, parameters = parse(name)
    found = catalogue.stream_class(bare)[1]
    full = canonical(bare, typed(bare, "parameter", found.Parameters, parameters))
    if full not in recorded and parameters.pop("order", None) is not None:
        full = canonical(bare, typed(bare, "parameter", found.Parameters, parameters))
    same = [other for other in _alike(full, recorded) if _parts(other) == _parts(full)]
    return full if full in recorded or not same else same[0]


def asked_order(stream: str, recorded: Collection[str] = ()) -> str | None:
    """The order of classes in the name of a stream as typed, as records name it; None if there is none.

    recorded: names of recorded streams, of which an order is a part before schema 1.4.
    """
    order = None if stream in recorded else parse(stream)[1].get("order")
    return None if order is None else name_of(order)


def _alike(stream: str, recorded: Iterable[str]) -> list[str]:
    """The recorded streams that differ from `stream` only in parameters."""
    return sorted({other for other in recorded if other.partition("?")[0] == stream.partition("?")[0]})


def _parts(stream: str) -> dict[str, list[str]]:
    return {key: sorted(value.split("+")) for key, value in parse(stream)[1].items()}


@dataclass(frozen=True)
class _Side:
    """One of the two methods: its recorded name, and the options typed with it."""

    method: str
    own: Mapping[str, str]

    def has(self, record: Record) -> bool:
        options = record.cell.options
        return record.cell.method == self.method and all(
            key in options and _means(text, options[key]) for key, text in self.own.items()
        )


def _recorded_backbone(name: str, recorded: set[str]) -> str:
    """The name as it is recorded: parameters sorted, an old name of timm's by its present one."""
    from backbones.names import parse as backbone_named

    typed = backbone_named(name).canonical
    if typed in recorded:
        return typed
    # Imported here: timm knows its old names, and a comparison seldom needs it.
    from backbones.architecture import spec_of

    return spec_of(name).canonical


def _side(name: str, records: Sequence[Record]) -> _Side:
    """The method as typed; a method that is a file is run to learn its name."""
    bare, own = parse(name)
    known = any(record.cell.method == bare for record in records)
    return _Side(bare if known else catalogue.method_class(bare)[0].name, own)


def _pairs(asked: Asked, sides: Sequence[_Side], records: Sequence[Record]) -> list[Pair]:
    """The records of both sides, for each contract under which both have matching records."""
    from carryover.tables.table import by_contract

    rules = _rules(asked)
    groups = [g for g in by_contract(records) if rules is None or g[0].contract.get("selection") in rules]
    return [pair for group in groups if (pair := _pair(asked.options, sides, group)) is not None]


def _rules(asked: Asked) -> set[str] | None:
    """The accepted values of the contract's selection; None for any."""
    from carryover.cells.selection import Rule
    from carryover.records.record import DEFAULT, MANUAL

    if asked.selection in (None, MANUAL):
        return {MANUAL} if asked.selection else None
    rule = Rule.typed(asked.selection)
    if rule is None:
        return {MANUAL if asked.options else DEFAULT}
    return {rule.describe(by_hand=by_hand) for by_hand in (False, True)}


def _pair(
    options: Sequence[tuple[str, str]], sides: Sequence[_Side], records: Sequence[Record]
) -> Pair | None:
    """The records of both methods with the options; None if a side has none, both sides are the same, or
    neither has one of the options."""
    found, used = [], set()
    for side in sides:
        chosen, keys = [record for record in records if side.has(record)], set(side.own)
        for key, text in options:
            having = [r for r in chosen if key in r.cell.options and _means(text, r.cell.options[key])]
            if having:
                chosen, keys = having, keys | {key}
                used.add((key, text))
        # Exactly these options, if there are also records with more.
        found.append([record for record in chosen if record.cell.options.keys() == keys] or chosen)
    first, second = found
    same = {record.key for record in first} == {record.key for record in second}
    return (first, second) if first and second and not same and used == set(options) else None


def _means(text: str, value: Option) -> bool:
    """Whether the typed text stands for that value of an option."""
    if value is None or isinstance(value, list):
        return text in (("none", "null") if value is None else (show_option(value),))
    try:
        return bool(msgspec.convert(text, type(value), strict=False) == value)
    except msgspec.ValidationError:
        return False


def _preference(pair: Pair, stale: Collection[str]) -> tuple[bool, bool, bool, tuple[float, str]]:
    """The larger, the sooner a pair is taken: without typed options, usual selection, fresh, recent."""
    from carryover.records.record import MANUAL

    records = [*pair[0], *pair[1]]
    selection = _selection(records[0])
    usual = kind_of_contract(records[0].contract).selection
    fresh = all(record.key not in stale for record in records)
    return not selection.endswith(MANUAL), selection.startswith(usual), fresh, max(map(recency, records))


def _selection(record: Record) -> str:
    return record.contract.get("selection", "default")


def _notes(
    pair: Pair, pairs: Sequence[Pair], counting: Sequence[Record], stands: Mapping[str, Standing]
) -> list[str]:
    """Notes on records under other contracts, and on stale records or ones that cannot be made here."""
    from carryover.records.record import variant

    contract, notes = pair[0][0].contract, []
    if apart := [record for record in counting if record.contract != contract]:
        said = _listed((record, differences(contract, record.contract)) for record in apart)
        choice = len({_selection(side[0]) for side, _ in pairs}) > 1
        way = "; choose with --selection RULE or -o KEY=VALUE" if choice else ""
        notes.append(
            f"Left out, under another contract than this one (selection {_selection(pair[0][0])!r}): "
            f"{said}{way}."
        )
    both = {record.draw for record in pair[0]} & {record.draw for record in pair[1]}
    several = len({order for order, _ in both}) > 1
    sentences = {
        "stale": "Stale, since the code changed: {}; `run` makes them again.",
        "gone": "Made with a method, stream, backbone or protocol that this checkout lacks: {}.",
    }
    for found, sentence in sentences.items():
        old = [
            f"{variant(side[0].cell)} ({_drawn(draws, several)})"
            for side in pair
            if (draws := sorted(both & {r.draw for r in side if stands[r.key] == found}, key=by_order))
        ]
        if old:
            notes.append(sentence.format(" and ".join(old)))
    kind = kind_of_contract(contract)
    return [*notes, *(kind.notes if not kind.primary else ())]


def _drawn(draws: Sequence[Draw], several: bool) -> str:
    """Seeds, each with its order if there are several orders."""
    return "; ".join(map(said_draw, draws)) if several else f"seed {', '.join(str(s) for _, s in draws)}"


def _apart(asked: Asked, counting: Sequence[Record]) -> RequestError:
    """The error for two methods whose records cannot be compared: why, and what helps."""
    parts = dict.fromkeys(
        part for record in counting for part in differences(counting[0].contract, record.contract)
    )
    given = [f"-o {key}={text}" for key, text in asked.options]
    given += [f"--selection {asked.selection}"] if asked.selection else []
    if asked.by_hand:
        way = (
            "a run with typed options compares only with another such run: type an option for both methods, "
            "if only its default, or compare without options"
        )
    else:
        way = f"{asked.run(asked.methods, counting)} runs both alike"
    return RequestError(
        f"{' and '.join(asked.methods)} have no records{' for ' * bool(given)}{' '.join(given)} "
        f"under one contract {asked.place}; there are {_listed((r, list(parts)) for r in counting)}; {way}"
    )


def _listed(records: Iterable[tuple[Record, Sequence[str]]]) -> str:
    """Each method with its options and the given parts of its contract."""
    from carryover.records.record import variant

    said = []
    for record, parts in records:
        rules = ", ".join(f"{part} {record.contract.get(part, 'none')!r}" for part in parts)
        said.append(f"{variant(record.cell)}{f' ({rules})' if rules else ''}")
    return ", ".join(dict.fromkeys(said))
