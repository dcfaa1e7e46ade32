"""The commands `status` and `report`, which only read records."""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from carryover.cells.executors import EXECUTORS
from carryover.cells.executors.executor import Phase
from carryover.cells.executors.submission import Submission, Submissions
from carryover.exit_codes import OK
from carryover.records.record import Record, is_newer
from carryover.records.results import Broken, Results, failures


def status(root: Path | None) -> int:
    """Print how many records there are, what runs where, failures, journals to resume, and broken files."""
    from carryover.tables.report import failures_text

    results = Results.default(root)
    records, broken = Results(results.root).all()
    ok = sum(record.status == "ok" for record in records)
    committed = len(Results(results.reference).all()[0]) if results.reference is not None else 0
    beside = f"; {committed} more in the committed reference" if committed else ""
    print(f"{results.root}: {ok} records, {len(failures(records))} failures{beside}")
    for line in [*_computed_with(records), *_not_from_here(records)]:
        print(line)
    submissions, unread = Submissions(results.root).all()
    running = [cell for submission in submissions for cell in _show_submission(submission, results)]
    others = [cell for cell in _journaled(results.root) if cell not in running]
    if others:
        print(f"{len(others)} interrupted or running; the same command continues each:")
    for cell in others:
        print(f"  {cell}")
    if failures(records):
        print(failures_text(failures(records)))
    set_aside([*broken, *unread])
    return OK


def _computed_with(records: Sequence[Record]) -> list[str]:
    """A line on the kinds of processor if there are several: equal bits are promised on one kind."""
    kinds = Counter(record.env.computed_with for record in records if record.status == "ok")
    if len(kinds) < 2:
        return []
    said = "; ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
    return [f"computed with {len(kinds)} kinds of processor, whose answers differ a little: {said}"]


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


def _journaled(root: Path) -> list[str]:
    """The cells that have a journal."""
    cells = []
    for path in sorted((root / "journal").glob("*/cell.txt")):
        with contextlib.suppress(FileNotFoundError):  # its run has just ended
            cells.append(path.read_text().strip())
    return cells


def _show_submission(submission: Submission, results: Results) -> list[str]:
    """Print where it stands; returns the cells that run."""
    since = _when(submission.started)
    name = f"submission {submission.id} ({submission.executor}, from {submission.host}, {since})"
    if submission.executor not in EXECUTORS:
        print(f"{name}: this version of carryover has no executor {submission.executor!r} to ask")
        return []
    polled = EXECUTORS[submission.executor](results).poll(submission)
    counts = Counter(polled.phases)
    print(f"{name}: {', '.join(f'{count} {phase}' for phase, count in counts.items())}")
    running = [
        cell for cell, phase in zip(polled.submission.cells, polled.phases, strict=True) if phase == "running"
    ]
    for cell in running:
        since = f" since {_when(cell.started)}" if cell.started else ""
        print(f"  {cell.cell}: running{since}, {cell.where}, log {results.root / cell.log}")
    if "unknown" in counts:
        print(f"  what is unknown can be asked on {submission.host} alone: carryover status there")
    elif not polled.watched:
        print(f"  {_unwatched(counts)} Go on with:\n    {submission.command}")
    return [str(cell.cell) for cell in running]


def _unwatched(counts: Counter[Phase]) -> str:
    """What becomes of cells whose submitter was killed."""
    parts = []
    if counts["running"]:
        parts.append(f"{counts['running']} still running, up to the record")
    if counts["lost"]:
        parts.append(f"{counts['lost']} ended without a record or never started")
    return f"The process that submitted it is gone: {', '.join(parts) or 'all ended'}."


def _when(moment: datetime.datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def report(
    root: Path | None, stream: str | None, vary: str | None, form: str, published: bool = False
) -> int:
    """Print a table for each contract; published: with the published results of others."""
    from carryover.cells.key import standing
    from carryover.commands.compare import asked_order, recorded_stream
    from carryover.tables.report import report_text

    results = Results.default(root)
    records, broken = results.all()
    order = None
    if stream is not None:
        recorded = {record.cell.stream for record in records}
        order = asked_order(stream, recorded)
        stream = recorded_stream(stream, recorded | {name.partition("?")[0] for name in recorded})
    print(
        report_text(
            results,
            stream=stream,
            order=order,
            vary=vary,
            form=form,
            published=published,
            standing=standing,
        )
    )
    set_aside(broken)
    return OK


def set_aside(broken: Sequence[Broken]) -> None:
    """Warn about files among the records that cannot be read."""
    for file in broken:
        print(f"ignored: {file.path}: {file.reason}", file=sys.stderr)
