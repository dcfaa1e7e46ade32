"""The protocols of this checkout, and how records of other protocols are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module

from benchmarks.errors import unknown
from carryover.metrics.kind import Entry, Kind
from carryover.metrics.line import Column, Line, metric_column
from carryover.records.record import Record
from carryover.records.row import Row

# A protocol is a file in protocols/, a file in metrics/, and its name here.
PROTOCOLS = ("continual", "few_shot", "transfer")


class Unknown(Kind):
    """A protocol of another version of Carryover: its metrics are shown as they were recorded."""

    primary = ""
    untested = "it is unknown which rows of this protocol count"

    def __init__(self, name: str) -> None:
        self.name = self.title = name  # type: ignore[misc]
        self.notes = (  # type: ignore[misc]
            f"this version of carryover does not know the protocol {name!r}: metrics are shown as they were "
            "recorded, and the lines are not ranked",
        )

    def metrics(self, rows: Sequence[Row], tasks: Sequence[str], groups: Sequence[str]) -> dict[str, float]:
        return {}

    def metrics_of(self, record: Record) -> dict[str, float]:
        return dict(record.metrics)

    def columns(self, lines: Sequence[Line], parts: Sequence[str], groups: Sequence[str]) -> list[Column]:
        """A column for each recorded metric, except those of single tasks."""
        names = dict.fromkeys(name for line in lines for name in line.metrics if "/" not in name)
        return [
            metric_column(name.replace("_", "_\n", 1), name, 1 if number else 0)
            for number, name in enumerate(names)
        ]

    def counting(self, record: Record, metric: str) -> dict[Entry, Row]:
        """No rows, since it is unknown which ones count."""
        return {}


@cache
def kind_of(protocol: str) -> Kind:
    """The `Kind` of a protocol, by its name."""
    if protocol not in PROTOCOLS:
        return Unknown(protocol)
    found = import_module(f"carryover.metrics.{protocol}").KIND
    assert isinstance(found, Kind)
    return found


def known_protocol(protocol: str) -> str:
    """The name itself; RequestError if this checkout lacks the protocol."""
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    return protocol


def protocol_of(contract: Mapping[str, str]) -> str:
    """The name of a protocol: the first word of its part in the contract (with a dash before schema 1.3)."""
    return contract.get("protocol", "continual").partition(" ")[0].replace("-", "_")


def kind_of_contract(contract: Mapping[str, str]) -> Kind:
    """The `Kind` of the protocol in a contract."""
    return kind_of(protocol_of(contract))


def metrics_of(record: Record) -> dict[str, float]:
    """The metrics of a record, as the `Kind` of its protocol reads them from its rows."""
    return kind_of_contract(record.contract).metrics_of(record)
