"""One record per cell: what was asked, under which contract, what came out, at which cost.

A record is one JSON file. Its deterministic part (`Record.outcome`) is equal for two runs of one
key; the rest says where, when and how long. The schema is versioned: a reader takes any minor
version of its own major one and ignores fields that it does not know. `record.schema.json` is
`json_schema()`, written out for readers in other languages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from carryover.records.row import Count, Row

SCHEMA = "1.3"

# How options are chosen: as the Config has them, typed by hand, or by a rule that searches.
DEFAULT, MANUAL, SEARCH = "default", "manual", "search"

Scalar = str | int | float | bool | None
Option = Scalar | list[Scalar]
Status = Literal["ok", "skipped", "failed", "timeout"]
Seconds = Annotated[float, Meta(ge=0)]
Key = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Moment = Annotated[datetime, Meta(tz=True)]


class Cell(Struct, frozen=True, kw_only=True):
    """The unit of reporting. Names are canonical; options are those that were typed, by name."""

    method: str
    stream: str
    backbone: str
    seed: int
    options: dict[str, Option] = {}

    def __str__(self) -> str:
        typed = "".join(f" {name}={show_option(value)}" for name, value in sorted(self.options.items()))
        return f"{self.method}{typed} on {self.stream}, {self.backbone}, seed {self.seed}"


class Candidate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A config that was tried. trial: the task it was tried for; options: what sets it apart.

    score: accuracy on validation data, null where nothing was to choose from; passes: images trained
    with, counted in every pass; reason: why it could not be chosen, "" if it could.
    """

    trial: str
    options: dict[str, Option] = {}
    score: float | None = None
    passes: Count = 0
    reason: str = ""


class Selection(Struct, frozen=True, kw_only=True):
    """How the config came about: "default", "manual", or a rule.

    budget: image passes that the candidates of one trial may take; choice: identity of the choice, which
    seeds share; chosen: options by trial; candidates: all that were tried.
    """

    rule: str = "default"
    budget: Count = 0
    choice: Key | None = None
    chosen: dict[str, dict[str, Option]] = {}
    candidates: tuple[Candidate, ...] = ()


class Cost(Struct, frozen=True, kw_only=True):
    """Seconds of work (without waiting), peak memory in 2^20 bytes, and the method's footprint.

    trainable: parameters that train, the head apart from the rest; stored_bits_per_task: what must be
    kept for each task learnt, exemplars included; exemplars: images kept at the end; passes: images of the
    stream trained with, counted in every pass; replayed: exemplars trained with beside them; macs:
    multiply-adds of one image's prediction; parameters: of the backbone, without classifier. None: not known.
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


class Code(Struct, frozen=True, kw_only=True):
    """The commit that ran (None outside a clone) and whether files differed from it."""

    git: str | None = None
    dirty: bool = False


class Env(Struct, frozen=True, kw_only=True):
    """The machine: device class and dtype (both in the key), threads per cell, and versions."""

    device: str
    dtype: str
    threads: Count
    python: str = ""
    platform: str = ""
    processor: str = ""
    packages: dict[str, str] = {}


class Record(Struct, frozen=True, kw_only=True):
    """Everything known of one run of one cell.

    key: identity of the computation; key_parts: hashes of what entered it, so that a stale record can
    say why; contract: named rules (`contract.py`), empty if the run ended before they were known; config: all
    options with their values; prepared: key of the preparation used; plugin: where method, stream
    and backbone come from; reason: one sentence unless status is ok; data: the source's fingerprint;
    fingerprints: of each task's test set under this seed; weights: hash of the backbone's weights;
    observations: numbers that a method reported about each task (a keep ratio);
    notes: what a reader of the table must know; tasks: their names, where they have some (few-shot: the
    sources); groups: which group each task belongs to, where means over groups are reported.
    """

    schema: Annotated[str, Meta(pattern=r"^1\.\d+$")] = SCHEMA
    key: Key
    cell: Cell
    status: Status
    reason: str = ""
    traceback: str = ""
    contract: dict[str, str] = {}
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
    started: Moment
    ended: Moment
    rows: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if not math.isfinite(value):  # JSON has no NaN
                raise ValueError(f"metric {name} is {value}; a metric that cannot be computed is absent")

    def outcome(self) -> dict[str, object]:
        """What two runs of one key must agree on: status, rows, metrics, test sets, footprint and passes."""
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
    """Whether a later version wrote it, which may have said more than is read here."""
    return int(record.schema.partition(".")[2]) > int(SCHEMA.partition(".")[2])


class _Version(Struct):
    schema: str


def encode(record: Record) -> bytes:
    """The record's JSON, the same bytes for equal records; one line per row and per named value."""
    fields = msgspec.to_builtins(record, order="deterministic", str_keys=True)
    lines = ",\n".join(f"{_json(name)}: {_block(value)}" for name, value in fields.items())
    return f"{{\n{lines}\n}}\n".encode()


def decode(data: bytes) -> Record:
    """The record of a JSON text; ValueError with a reason: broken, another major schema, or not a record."""
    try:
        version = msgspec.json.decode(data, type=_Version).schema
        if version.partition(".")[0] != SCHEMA.partition(".")[0]:
            raise ValueError(
                f"it has schema {version}, and this version of carryover reads {SCHEMA.partition('.')[0]}.x"
            )
        return msgspec.json.decode(data, type=Record)
    except msgspec.ValidationError as error:
        raise ValueError(f"it is no record: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"its JSON is broken: {error}") from error


def json_schema() -> bytes:
    """The JSON Schema of a record, as committed in record.schema.json."""
    schema = {"title": f"Carryover record {SCHEMA}", **msgspec.json.schema(Record)}
    return msgspec.json.format(msgspec.json.encode(schema, order="deterministic"), indent=2) + b"\n"


def show_option(value: Option) -> str:
    """An option as it is typed on the command line."""
    if isinstance(value, list):
        return ",".join(show_option(part) for part in value)
    return value if isinstance(value, str) else _json(value)


def variant(cell: Cell) -> str:
    """The method with the options typed for it."""
    return " ".join([cell.method, *typed(cell.options)])


def typed(options: Mapping[str, Option]) -> list[str]:
    """Each as it is typed, by name."""
    return [f"{name}={show_option(value)}" for name, value in sorted(options.items())]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _block(value: object) -> str:
    """A named value: containers that hold something with one entry per line."""
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"  {_json(name)}: {_json(part)}" for name, part in value.items()) + "\n}"
    if isinstance(value, (list, tuple)) and value:
        return "[\n" + ",\n".join(f"  {_json(part)}" for part in value) + "\n]"
    return _json(value)
