"""Writes tables as Markdown (papers), CSV (spreadsheets) and JSON (programs); the last two do not round."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import msgspec

from carryover.metrics.line import Line
from carryover.tables.columns import GONE, LEGEND, MIXED, PUBLISHED, SEEN, STALE, columns
from carryover.tables.table import Table


def markdown(table: Table) -> str:
    """The table with all columns, its notes and its contract."""
    shown = columns(table)
    rows = [f"### {_escaped(table.title)}", "", _row(column.full for column in shown)]
    rows.append("|" + "|".join(["---"] + ["---:"] * (len(shown) - 1)) + "|")
    for line in table.lines:
        if line.fill:
            said = f"no record under this contract yet: `{line.fill}`"
            rows.append(_row([_escaped(line.label), said, *[""] * (len(shown) - 2)]))
            continue
        cells = [_escaped(column.text(line)) for column in shown]
        told = {STALE: line.stale, GONE: line.gone, MIXED: line.mixed, SEEN: line.seen}
        cells[0] += "".join(f" {mark}" for mark, holds in told.items() if holds)
        rows.append(_row(f"**{cell}**" if line.fresh and cell else cell for cell in cells))
    for line in table.published:
        cells = [_escaped(column.text(line)) for column in shown]
        rows.append(_row([f"*{cells[0]}* {PUBLISHED}", *cells[1:]]))
    notes = ["bold: this run"] if any(line.fresh for line in table.lines) else []
    if any(line.stale for line in table.lines):
        notes.append(f"{STALE} made by other code than the present")
    if any(line.gone for line in table.lines):
        notes.append(f"{GONE} {LEGEND[GONE]}")
    if any(line.mixed for line in table.lines):
        notes.append(f"{MIXED} {LEGEND[MIXED]}")
    if any(line.seen for line in table.lines):
        notes.append(f"{SEEN} {LEGEND[SEEN]}")
    if table.published:
        notes.append(f"{PUBLISHED} {LEGEND[PUBLISHED]}")
    notes += [_escaped(note) for note in table.notes]
    contract = [f"{name}: {_escaped(rule)}" for name, rule in table.contract.items()]
    lists = ["", *(f"- {note}" for note in notes), "", "Contract:", "", *(f"- {part}" for part in contract)]
    return "\n".join(rows + lists)


def as_csv(tables: Sequence[Table]) -> str:
    """The lines of all tables under one header; published lines name their source and have no contract."""
    rows = [
        {"table": table.title, "contract": "" if line.published else table.contract.hash, **_flat(line)}
        for table in tables
        for line in (*table.lines, *table.published)
    ]
    file = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(file, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().rstrip("\n")


def as_json(tables: Sequence[Table]) -> str:
    """A list of tables with contract, lines, published lines and notes; metrics as fractions."""
    shown = [
        {
            "title": table.title,
            "contract": dict(table.contract),
            "contract_hash": table.contract.hash,
            "vary": table.vary,
            "lines": table.lines,
            "published": table.published,
            "notes": table.notes,
        }
        for table in tables
    ]
    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()


def _flat(line: Line) -> dict[str, object]:
    row: dict[str, object] = {
        "method": line.method,
        "options": msgspec.json.encode(line.options, order="deterministic").decode(),
        "varied": line.varied,
        "prepared": line.prepared,
        "orders": " ".join(line.orders),
        "seeds": " ".join(map(str, line.seeds)),
    }
    for name, spread in line.metrics.items():
        row |= {f"{name}_mean": spread.mean, f"{name}_std": spread.std}
        if spread.orders > 1:
            row |= {f"{name}_order_std": spread.order_std, f"{name}_error": spread.error}
    costs = (
        "trainable",
        "parameters",
        "head",
        "stored_bits_per_task",
        "exemplars",
        "passes",
        "replayed",
        "macs",
        "train_s",
    )
    row |= {
        name: getattr(line, name)
        for name in (*costs, "dtype", "fresh", "stale", "gone", "mixed", "seen", "fill", "published")
    }
    return row


def _escaped(text: str) -> str:
    return re.sub(r"([|*\\])", r"\\\1", text.replace("\n", " "))


def _row(cells: object) -> str:
    return "| " + " | ".join(cells) + " |"  # type: ignore[arg-type]
