"""Cells handed to an executor, and their records collected as they end.

The one that computes says the key: a worker with other threads, another GPU or other packages records a cell
under another key than planned. That record is taken for what it is, and said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

from benchmarks.progress import Progress
from carryover.cells.executors import EXECUTORS
from carryover.cells.executors.executor import Executor, Planned
from carryover.cells.executors.submission import Submissions, SubmittedCell
from carryover.cells.ready import ReadyCell, finished
from carryover.cells.run import ended
from carryover.records.record import Cell, Record
from carryover.records.results import Results


def run_apart(
    cells: Sequence[ReadyCell],
    executor: Executor,
    words: Callable[[ReadyCell, str | None], Sequence[str]],
    results: Results,
    progress: Progress,
    *,
    command: str,
    report: Callable[[ReadyCell, Record], None],
) -> list[Record]:
    """The records of `cells`, in their order; Ctrl-C stops all of them, and their journals stay.

    words(cell, device): the command line's words for one cell; command: what to type to go on with all of
    them if this process is killed; report: told of each as it ends.
    """
    planned = [Planned(one.cell, one.key, partial(words, one)) for one in cells]
    files, records = Submissions(results.root), dict[int, Record]()
    submission = executor.submit(planned, command)
    try:
        with progress.bar("cells", len(cells), "cell") as bar:
            while len(records) < len(cells):
                polled = executor.poll(submission)
                for number, phase in enumerate(polled.phases):
                    if phase in ("ended", "lost") and number not in records:
                        record = collected(cells[number], polled.submission.cells[number], results)
                        records[number] = record
                        report(cells[number], record)
                        bar.advance(1)
                if len(records) < len(cells):
                    time.sleep(executor.pause)
    except BaseException:
        executor.stop(submission)
        files.remove(submission)
        raise
    files.remove(submission)
    return [records[number] for number in range(len(cells))]


def collected(ready: ReadyCell, submitted: SubmittedCell, results: Results) -> Record:
    """The record that its worker reported, else one of how it ended without."""
    said = Submissions(results.root).reported(submitted)
    if said is not None:
        for record in results.find(said.cell):
            if record.key == said.key and record.status == said.status:
                return record
    done = finished(ready, results)  # killed between its record and its report
    if done is not None:
        return done
    if submitted.late:
        reason = f"{submitted.how}; its journal is kept, the same command goes on with it"
        record = ended(ready, "timeout", reason)
    else:
        how = submitted.how or "its process is gone, and nobody saw how it ended"
        record = ended(ready, "failed", f"{how}; see {results.root / submitted.log}")
    results.write(record)
    return record


def recorded_otherwise(ready: Sequence[ReadyCell], records: Sequence[Record]) -> str:
    """One sentence on those recorded under another key than planned, "" without any.

    records: of `ready`, in that order.
    """
    found: dict[str, list[Cell]] = {}
    for planned, record in zip(ready, records, strict=True):
        if record.key != planned.key:
            found.setdefault(_differences(planned, record), []).append(record.cell)
    return "; ".join(
        f"{cells[0]}{f' and {len(cells) - 1} more' if cells[1:] else ''}: recorded under another key than "
        f"planned, which differs in {what}"
        for what, cells in found.items()
    )


def forget_gone(results: Results, cells: Collection[Cell]) -> None:
    """Remove submissions that nobody collects any more, once each cell is recorded or in `cells`."""
    files = Submissions(results.root)
    for submission in files.all()[0]:
        if submission.executor not in EXECUTORS:
            continue
        polled = EXECUTORS[submission.executor](results).poll(submission)
        over = not polled.watched and set(polled.phases) <= {"ended", "lost"}
        if over and all(
            one.cell in cells or files.reported(one) or any(r.key == one.key for r in results.find(one.cell))
            for one in polled.submission.cells
        ):
            files.remove(submission)


def _differences(planned: ReadyCell, record: Record) -> str:
    """The key parts that differ, with what the record says of them."""
    ours, theirs = planned.key_parts, record.key_parts
    names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    here, there = planned.conditions.numerics, record.env
    values: dict[str, tuple[object, object]] = {
        "device": (there.device.partition(":")[0], here.device.partition(":")[0]),
        "dtype": (there.dtype, here.dtype),
        "threads": (there.threads, here.threads),
    }
    for package in sorted(there.packages | planned.code.packages):
        values[package] = there.packages.get(package), planned.code.packages.get(package)
    told = [
        f"{name} {found}, not {expected}" for name, (found, expected) in values.items() if found != expected
    ]
    return ", ".join(names) + (f" ({'; '.join(told)})" if told else "")
