"""Draws tables and failures for a terminal of a given width, with rich."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from carryover.metrics.line import Column, Line
from carryover.records.record import Record
from carryover.tables.columns import LEGEND, PUBLISHED, columns, marks
from carryover.tables.table import SEPARATOR, Table

if TYPE_CHECKING:
    from rich.console import RenderableType

WORDS = 4  # a method with its options may take 1/WORDS of the width before it wraps
GAP = 2


def drawn(table: Table, width: int, color: bool = False) -> str:
    """The table in `width` columns; columns that do not fit are named below. In color, this run is bold."""
    ours = [line for line in table.lines if not line.fill]
    lines = [*ours, *table.published]
    chosen, left_out = _fitting(columns(table), lines, width)
    missing = [_missing(line, chosen[0][1], width) for line in table.lines if line.fill]
    notes = [f"{mark} {said}" for mark, said in LEGEND.items() if any(mark in marks(line) for line in lines)]
    notes += table.notes
    if left_out:
        notes.append(f"left out at this width: {', '.join(column.full for column in left_out)}")
    below = ["", *(_wrapped(note, width) for note in notes)] if notes else []
    body = _body(chosen, ours, table.published, color)
    return "\n".join([_title(table.title, width, color), body, *missing, *below])


def _title(title: str, width: int, color: bool) -> str:
    from rich.text import Text

    rows = [""]
    for part in title.split(SEPARATOR):  # a part that fits is not broken
        joined = f"{rows[-1]}{SEPARATOR}{part}" if rows[-1] else part
        rows[-1:] = [joined] if len(joined) <= width or not rows[-1] else [rows[-1], part]
    return _on_console(Text("\n".join(rows), style="bold"), width, color)


def _body(
    chosen: Sequence[tuple[Column, int]], lines: Sequence[Line], published: Sequence[Line], color: bool
) -> str:
    """Headings, a rule, the lines, and published lines below another rule."""
    height = 1 + max(column.short.count("\n") for column, _ in chosen)
    width = sum(size for _, size in chosen) + GAP * (len(chosen) - 1)
    rows = _rows(chosen, lines, width, color)
    parts = [*rows[:height], "─" * width, *rows[height:]]
    if published:
        apart = f"{PUBLISHED} published "
        parts += [apart + "┄" * (width - len(apart)), *_rows(chosen, published, width, color)[height:]]
    return "\n".join(parts)


def _rows(chosen: Sequence[tuple[Column, int]], lines: Sequence[Line], width: int, color: bool) -> list[str]:
    """Headings and lines, never narrower than the columns, so that no number is cut."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    height = 1 + max(column.short.count("\n") for column, _ in chosen)
    for column, size in chosen:
        heading = "\n" * (height - 1 - column.short.count("\n")) + column.short
        grid.add_column(
            Text(heading), justify="left" if column.words else "right", width=size, no_wrap=not column.words
        )
    for line in lines:
        style = "bold" if line.fresh else "dim" if line.stale or line.gone or line.published else ""
        grid.add_row(*(Text(_text(column, line)) for column, _ in chosen), style=style)
    return _on_console(grid, width, color).split("\n")


def drawn_failures(records: Sequence[Record], width: int, color: bool = False) -> str:
    """The cells that did not succeed, with status and reason."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    grid.add_column("not finished", overflow="fold", ratio=2)
    grid.add_column("status", no_wrap=True)
    grid.add_column("reason", overflow="fold", ratio=3)
    for record in records:
        grid.add_row(Text(str(record.cell)), Text(record.status), Text(record.reason))
    return _on_console(grid, width, color)


def _fitting(
    wanted: Sequence[Column], lines: Sequence[Line], width: int
) -> tuple[list[tuple[Column, int]], list[Column]]:
    """The columns that fit into `width`, with their sizes, and those that are left out."""
    from rich.cells import cell_len

    sizes = {}
    for column in wanted:
        texts = [*column.short.split("\n"), *(_text(column, line) for line in lines)]
        sizes[column.full] = max(cell_len(text) for text in texts)
        if column.words:
            longest = max(cell_len(word) for text in texts for word in text.split())
            sizes[column.full] = min(sizes[column.full], max(width // WORDS, longest))
    kept = list(wanted)
    while sum(sizes[column.full] for column in kept) + GAP * (len(kept) - 1) > width:
        last = max(reversed(kept), key=lambda column: column.rank)
        if last.rank == 0:
            break
        kept.remove(last)
    return [(column, sizes[column.full]) for column in kept], [c for c in wanted if c not in kept]


def _text(column: Column, line: Line) -> str:
    text = column.text(line)
    return f"{text} {marks(line)}".rstrip() if column.short == "method" else text


def _missing(line: Line, size: int, width: int) -> str:
    """A reference row without a record; its command is not broken, so that it can be copied."""
    said = f"{line.label:<{size}}  no record under this contract yet:"
    return f"{said} {line.fill}" if len(said) + 1 + len(line.fill) <= width else f"{said}\n    {line.fill}"


def _wrapped(note: str, width: int) -> str:
    return textwrap.fill(note, width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def _on_console(shown: RenderableType, width: int, color: bool) -> str:
    from rich.console import Console

    file = io.StringIO()
    system = "standard" if color else None
    console = Console(file=file, width=width, force_terminal=color, color_system=system)  # type: ignore[arg-type]
    console.print(shown)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
