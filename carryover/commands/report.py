"""The commands `status` and `report`, which only read records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from carryover.exit_codes import OK
from carryover.records.record import Record, is_newer
from carryover.records.results import Broken, Results, failures


def status(root: Path | None) -> int:
    """Print the number of records, the failures, the journals to resume, and unreadable files."""
    from carryover.tables.report import failures_text

    results = Results.default(root)
    records, broken = Results(results.root).all()
    ok = sum(record.status == "ok" for record in records)
    committed = len(Results(results.reference).all()[0]) if results.reference is not None else 0
    beside = f"; {committed} more in the committed reference" if committed else ""
    print(f"{results.root}: {ok} records, {len(failures(records))} failures{beside}")
    for line in _not_from_here(records):
        print(line)
    journals = sorted((results.root / "journal").glob("*/cell.txt"))
    if journals:
        print(f"{len(journals)} interrupted or running; the same command continues each:")
    for journal in journals:
        print(f"  {journal.read_text().strip()}")
    if failures(records):
        print(failures_text(failures(records)))
    set_aside(broken)
    return OK


def _not_from_here(records: Sequence[Record]) -> list[str]:
    """Lines on records by a newer version, or made with something that this checkout lacks."""
    from carryover.cells.key import standing

    lines = []
    if newer := sorted({r.schema for r in records if is_newer(r)}):
        count = sum(map(is_newer, records))
        lines.append(f"{count} of them written by a newer version of carryover (schema {', '.join(newer)})")
    gone = [record for record in records if standing(record) == "gone"]
    if gone:
        lines.append(
            f"{len(gone)} of them made with a method, stream, backbone or protocol that is not here:"
        )
        lines += [f"  {record.cell}" for record in gone]
    return lines


def report(
    root: Path | None, stream: str | None, vary: str | None, form: str, published: bool = False
) -> int:
    """Print a table for each contract; published: with the published results of others."""
    from carryover.cells.key import standing
    from carryover.commands.compare import recorded_stream
    from carryover.tables.report import report_text

    results = Results.default(root)
    records, broken = results.all()
    if stream is not None:
        recorded = {record.cell.stream for record in records}
        stream = recorded_stream(stream, recorded | {name.partition("?")[0] for name in recorded})
    print(report_text(results, stream=stream, vary=vary, form=form, published=published, standing=standing))
    set_aside(broken)
    return OK


def set_aside(broken: Sequence[Broken]) -> None:
    """Warn about files among the records that cannot be read."""
    for file in broken:
        print(f"ignored: {file.path}: {file.reason}", file=sys.stderr)
