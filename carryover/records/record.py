"""The record of a cell: its request, contract, results and cost.

A record is one JSON file. Its deterministic part (`Record.outcome`) is equal for two runs of one
key; the rest says where, when and how long. The schema is versioned: a reader accepts any minor
version of its own major version and ignores unknown fields. `record.schema.json` is the output of
`json_schema()`, for readers in other languages.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from carryover.records.row import Count, Row

SCHEMA = "1.4"

# How options are chosen: defaults of the Config, typed, or by a search.
DEFAULT, MANUAL, SEARCH = "default", "manual", "search"

Scalar = str | int | float | bool | None
Option = Scalar | list[Scalar]
Status = Literal["ok", "skipped", "failed", "timeout"]
Seconds = Annotated[float, Meta(ge=0)]
Key = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Moment = Annotated[datetime, Meta(tz=True)]
Draw = tuple[str | None, int]  # the order and the seed of a cell

_ONE_ORDER = re.compile(r"numpy RandomState\((\d+)\) permutation")  # in the contract before schema 1.4


class Cell(Struct, frozen=True, kw_only=True):
    """A cell: method, stream, backbone, order and seed. Names are canonical; options: the typed ones.

    order: of the classes of a stream that has some to choose: a number (of the stream's rule), `natural`, or
    `list-` and the hash of a given list. None where there is no order to choose, and before schema 1.4, when
    the order was a part of the stream's name.
    """

    method: str
    stream: str
    backbone: str
    seed: int
    order: str | None = None
    options: dict[str, Option] = {}

    def __str__(self) -> str:
        typed = "".join(f" {name}={show_option(value)}" for name, value in sorted(self.options.items()))
        return f"{self.method}{typed} on {self.stream}, {self.backbone}, {said_draw((self.order, self.seed))}"


class ClassOrder(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The order in which the classes of a stream came. rule: how it was made, in words.

    hash: the first 12 digits of the sha256 of the class ids, joined by commas; classes: the ids, of a given
    list, which no number makes again.
    """

    rule: str
    hash: Annotated[str, Meta(pattern="^[0-9a-f]{12}$")]
    classes: tuple[int, ...] = ()


class Candidate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A config that a search tried. trial: its validation run; options: the values that it tried.

    score: accuracy on validation data, null if it has none; passes: images of the stream trained on,
    counted in every pass; reason: why it could not be chosen, "" if it could.
    """

    trial: str
    options: dict[str, Option] = {}
    score: float | None = None
    passes: Count = 0
    reason: str = ""


class Selection(Struct, frozen=True, kw_only=True):
    """How options were chosen: "default", "manual", or a rule.

    budget: image passes that the candidates of one validation run may take; choice: key of the choice, which
    seeds share; chosen: options by validation run; candidates: all that were tried.
    """

    rule: str = "default"
    budget: Count = 0
    choice: Key | None = None
    chosen: dict[str, dict[str, Option]] = {}
    candidates: tuple[Candidate, ...] = ()


class Cost(Struct, frozen=True, kw_only=True):
    """Seconds of work (without waiting), peak memory in 2^20 bytes, and the footprint of the method.

    trainable: trained parameters without the head; head: those of the head; stored_bits_per_task: what must
    be kept for each learnt task, with exemplars; exemplars: images kept at the end; passes: images of the
    stream trained on, counted in every pass; replayed: exemplars trained on beside them; macs: multiply-adds
    of predicting one image; parameters: of the backbone, without classifier. None: unknown.
    """

    train_s: Seconds = 0.0
    eval_s: Seconds = 0.0
    prepare_s: Seconds = 0.0
    peak_mb: Seconds | None = None
    trainable: Count | None = None
    head: Count | None = None
    stored_bits_per_task: Annotated[float, Meta(ge=0)] | None = None
    exemplars: Count | None = None
    passes: Count | None = None
    replayed: Count | None = None
    macs: Count | None = None
    parameters: Count | None = None


class Overlap(Struct, frozen=True, kw_only=True):
    """What the backbone has seen of a stream in pretraining on `source`.

    test, train: images of the stream that it was pretrained on, of so many distinct tested, trained (val
    included); classes: those of the stream that it was pretrained on, by name.
    """

    source: str
    test: Count = 0
    tested: Count = 0
    train: Count = 0
    trained: Count = 0
    classes: tuple[str, ...] = ()


class Code(Struct, frozen=True, kw_only=True):
    """The commit that ran (None outside a clone), and whether files differed from it."""

    git: str | None = None
    dirty: bool = False


class Env(Struct, frozen=True, kw_only=True):
    """The machine: device class and dtype (both in the key), threads per cell, and versions.

    instructions: the set that the CPU computed with (`backbones/instructions.py`), which may change a few
    answers in a thousand; "" on an accelerator, whose name is the processor's, and in records before 1.4.
    """

    device: str
    dtype: str
    threads: Count
    python: str = ""
    platform: str = ""
    processor: str = ""
    instructions: str = ""
    packages: dict[str, str] = {}

    @property
    def computed_with(self) -> str:
        """What rounds alike: the instruction set, or the name of the processor where none is recorded."""
        return self.instructions or self.processor


class Record(Struct, frozen=True, kw_only=True):
    """Everything known about one run of one cell.

    key: identity of the computation; key_parts: hashes of its parts, so that a stale record can say why;
    contract: named rules (`carryover/records/contract.py`), empty if the run ended before they were known;
    order: of the classes, if the stream has some to choose; config: all options with their values;
    prepared: key of the preparation used; plugin: where method, stream and backbone come from; reason: one
    sentence unless status is ok; data: fingerprint of the source; fingerprints: of the test set of each
    task under this seed; weights: hash of the backbone's weights; observations: numbers that a method
    reported about each task (such as a keep ratio); notes: notes for readers of a table; tasks: their
    names, if they have some (few-shot: the sources); groups: the group of each task, if means over groups
    are reported.
    """

    schema: Annotated[str, Meta(pattern=r"^1\.\d+$")] = SCHEMA
    key: Key
    cell: Cell
    status: Status
    reason: str = ""
    traceback: str = ""
    contract: dict[str, str] = {}
    order: ClassOrder | None = None
    config: dict[str, Option] = {}
    selection: Selection = Selection()
    prepared: Key | None = None
    plugin: dict[str, str] = {}
    metrics: dict[str, float] = {}
    cost: Cost = Cost()
    data: str = ""
    fingerprints: dict[int, str] = {}
    weights: str = ""
    observations: dict[int, dict[str, float]] = {}
    key_parts: dict[str, str] = {}
    code: Code = Code()
    env: Env
    notes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    overlap: Overlap | None = None
    started: Moment
    ended: Moment
    rows: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if not math.isfinite(value):  # JSON has no NaN
                raise ValueError(f"metric {name} is {value}; leave out a metric that cannot be computed")

    @property
    def draw(self) -> Draw:
        """The order and seed, which two records must share to be compared in pairs.

        Before schema 1.4 the contract named the one order of its records.
        """
        told = _ONE_ORDER.fullmatch(self.contract.get("order", ""))
        return self.cell.order or (told[1] if told else None), self.cell.seed

    def outcome(self) -> dict[str, object]:
        """What two runs of one key agree on: status, rows, metrics, test sets, footprint, passes."""
        footprint = {
            name: getattr(self.cost, name)
            for name in (
                "trainable",
                "head",
                "stored_bits_per_task",
                "exemplars",
                "passes",
                "replayed",
                "macs",
            )
        }
        return {
            "status": self.status,
            "rows": self.rows,
            "metrics": self.metrics,
            "fingerprints": self.fingerprints,
            "footprint": footprint,
        }


def is_newer(record: Record) -> bool:
    """Whether a newer version wrote it, which may have added fields that this version ignores."""
    return int(record.schema.partition(".")[2]) > int(SCHEMA.partition(".")[2])


class _Version(Struct):
    schema: str


def encode(record: Record) -> bytes:
    """The JSON of a record, the same bytes for equal records; one line per row and per named value."""
    fields = msgspec.to_builtins(record, order="deterministic", str_keys=True)
    lines = ",\n".join(f"{_json(name)}: {_block(value)}" for name, value in fields.items())
    return f"{{\n{lines}\n}}\n".encode()


def decode(data: bytes) -> Record:
    """The record in a JSON text; ValueError if it is broken, of another major schema, or not a record."""
    try:
        version = msgspec.json.decode(data, type=_Version).schema
        if version.partition(".")[0] != SCHEMA.partition(".")[0]:
            raise ValueError(
                f"it has schema {version}, but this version of carryover reads {SCHEMA.partition('.')[0]}.x"
            )
        return msgspec.json.decode(data, type=Record)
    except msgspec.ValidationError as error:
        raise ValueError(f"it is not a record: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"its JSON is broken: {error}") from error


def json_schema() -> bytes:
    """The JSON Schema of a record, as in record.schema.json."""
    schema = {"title": f"Carryover record {SCHEMA}", **msgspec.json.schema(Record)}
    return msgspec.json.format(msgspec.json.encode(schema, order="deterministic"), indent=2) + b"\n"


def show_option(value: Option) -> str:
    """An option as it is typed on the command line."""
    if isinstance(value, list):
        return ",".join(show_option(part) for part in value)
    return value if isinstance(value, str) else _json(value)


def by_order(draw: Draw) -> tuple[bool, int, str, int]:
    """A sort key: the orders that are numbers first, by their value, then the others; then by seed."""
    order, seed = draw
    number = order is not None and order.isdecimal()
    return not number, int(order or 0) if number else 0, order or "", seed


def said_draw(draw: Draw) -> str:
    """An order and a seed, as shown to people."""
    order, seed = draw
    return f"seed {seed}" if order is None else f"order {order}, seed {seed}"


def variant(cell: Cell) -> str:
    """The method with its typed options."""
    return " ".join([cell.method, *typed(cell.options)])


def typed(options: Mapping[str, Option]) -> list[str]:
    """The options as they are typed, sorted by name."""
    return [f"{name}={show_option(value)}" for name, value in sorted(options.items())]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _block(value: object) -> str:
    """A named value; non-empty containers have one entry per line."""
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"  {_json(name)}: {_json(part)}" for name, part in value.items()) + "\n}"
    if isinstance(value, (list, tuple)) and value:
        return "[\n" + ",\n".join(f"  {_json(part)}" for part in value) + "\n]"
    return _json(value)
