"""What the commands that only look print: status, report, compare."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import RequestError
from benchmarks.naming import parse
from carryover.cli import OK
from carryover.request import command
from carryover.results import Broken, Results, current, failures


def status(root: Path | None) -> int:
    """Counts of records, the failures, the journals that can go on, and files that are no record."""
    from carryover.render import failures_text

    results = Results.default(root)
    records, broken = Results(results.root).all()
    ok = sum(record.status == "ok" for record in records)
    committed = len(Results(results.reference).all()[0]) if results.reference is not None else 0
    beside = f"; {committed} more in the committed reference" if committed else ""
    print(f"{results.root}: {ok} records, {len(failures(records))} failures{beside}")
    journals = sorted((results.root / "journal").glob("*/cell.txt"))
    if journals:
        print(f"{len(journals)} interrupted or running; the same command goes on with each:")
    for journal in journals:
        print(f"  {journal.read_text().strip()}")
    if failures(records):
        print(failures_text(failures(records)))
    set_aside(broken)
    return OK


def report(
    root: Path | None, stream: str | None, vary: str | None, form: str, published: bool = False
) -> int:
    """Tables of all records, one for each contract; published: beside what others published."""
    from carryover.cell import is_stale
    from carryover.render import report_text

    results = Results.default(root)
    print(report_text(results, stream=stream, vary=vary, form=form, published=published, stale=is_stale))
    set_aside(results.all()[1])
    return OK


def compare(
    first: str, second: str, stream: str, backbone: str, metric: str | None, root: Path | None
) -> int:
    """Two methods pairwise on one stream and backbone."""
    from backbones.names import parse as backbone_named
    from carryover.statistics import compare as compared

    backbone = backbone_named(backbone).canonical
    records, _ = Results.default(root).all()
    there = [
        r for r in current(records) if parse(r.cell.stream) == parse(stream) and r.cell.backbone == backbone
    ]
    sides = []
    for name in (first, second):
        chosen = [record for record in there if record.cell.method == name]
        if not chosen:
            words = ["run", "--method", name, "--stream", stream, "--backbone", backbone]
            raise RequestError(
                f"there is no record of {name} on {stream} with {backbone}; {command(words)} makes one"
            )
        sides.append(chosen)
    print(compared(sides[0], sides[1], metric))
    return OK


def set_aside(broken: Sequence[Broken]) -> None:
    """Name the files among the records that cannot be read."""
    for file in broken:
        print(f"set aside: {file.path}: {file.reason}", file=sys.stderr)
