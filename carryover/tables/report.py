"""The tables of `run` and `report`, as text in any format."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from benchmarks.errors import unknown
from carryover.metrics.line import Standing
from carryover.records.contract import check_vary, differences
from carryover.records.record import Cell, Record
from carryover.records.results import Results, failures
from carryover.tables.export import as_csv, as_json, markdown
from carryover.tables.published import published_for
from carryover.tables.table import Table, by_contract, closing_tables, table
from carryover.tables.terminal import drawn, drawn_failures

FORMATS = ("terminal", "markdown", "csv", "json")
PIPED = 100  # columns where the output is no terminal


def closing_text(
    run: Sequence[Record],
    everything: Sequence[Record],
    *,
    standing: Callable[[Record], Standing] | None = None,
    reference_methods: Sequence[str] = (),
    fill: Callable[[str, Cell], str] | None = None,
) -> str:
    """The tables of this run (`closing_tables`), then its cells that did not succeed."""
    tables = closing_tables(
        run, everything, standing=standing, reference_methods=reference_methods, fill=fill
    )
    width, color = _screen()
    parts = [drawn(made, width, color) for made in tables]
    if failed := [record for record in run if record.status != "ok"]:
        parts.append(drawn_failures(failed, width, color))
    return "\n\n".join(parts)


def failures_text(records: Sequence[Record]) -> str:
    """The cells that did not succeed, as a table."""
    return drawn_failures(records, *_screen())


def report_text(
    results: Results,
    *,
    stream: str | None = None,
    order: str | None = None,
    vary: str | None = None,
    form: str = "terminal",
    published: bool = False,
    standing: Callable[[Record], Standing] | None = None,
    reference_methods: Sequence[str] = (),
    fill: Callable[[str, Cell], str] | None = None,
) -> str:
    """Every record that counts, in one table per contract, grouped by stream.

    stream: only this one, by its full name or its name without parameters; order: of its records only those
    of this order of classes; vary: one part of the contract that may differ within a table; published:
    whether to add published results below the lines.
    RequestError for a stream without records, an unknown part or an unknown format.
    """
    check_vary((vary,) if vary else ())
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    found, _ = results.all()
    records = [record for record in found if stream in (None, *_names(record.cell))]
    records = [record for record in records if order in (None, record.draw[0])]
    if stream is not None and not records:
        recorded = {record.cell.stream for record in found}
        raise unknown("stream with records", stream, recorded, f"Records are read from {results.root}.")
    tables = []
    for group in by_contract((record for record in records if record.status == "ok"), vary):
        cell = group[0].cell
        command = (lambda method, cell=cell: fill(method, cell)) if fill else None
        tables.append(
            table(group, vary=vary, standing=standing, reference_methods=reference_methods, fill=command)
        )
    tables = _told_apart(sorted(tables, key=lambda made: made.title))
    if published:
        tables = [_with_published(made) for made in tables]
    return _rendered(tables, failures(records), form) or f"no records yet in {results.root}"


def _told_apart(tables: Sequence[Table]) -> list[Table]:
    """Add a note to each table after another of its stream: how their contracts differ."""
    told = list(tables[:1])
    for before, made in pairwise(tables):
        if before.stream == made.stream:
            parts = ", ".join(differences(before.contract, made.contract))
            made = replace(made, notes=(f"under another contract than the table above: {parts}", *made.notes))
        told.append(made)
    return told


def _with_published(made: Table) -> Table:
    found = published_for(made)
    return replace(made, published=found.lines, notes=(*made.notes, *found.notes))


def _rendered(tables: Sequence[Table], failed: Sequence[Record], form: str) -> str:
    if form == "csv":
        return as_csv(tables)
    if form == "json":
        return as_json(tables)
    if form == "markdown":
        parts = [markdown(made) for made in tables]
        lines = [f"- {record.cell}: {record.status}, {record.reason}" for record in failed]
        return "\n\n".join([*parts, *(["### Not finished\n\n" + "\n".join(lines)] if lines else [])])
    width, color = _screen()
    parts = [drawn(made, width, color) for made in tables]
    return "\n\n".join([*parts, *([drawn_failures(failed, width, color)] if failed else [])])


def _names(cell: Cell) -> tuple[str, str]:
    return cell.stream, cell.stream.partition("?")[0]


def _screen() -> tuple[int, bool]:
    """The width of the output, and whether to use colors (no-color.org)."""
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return shutil.get_terminal_size((PIPED, 24)).columns, color
