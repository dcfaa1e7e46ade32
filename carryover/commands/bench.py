"""The commands `run` and `plan`: check all cells of a request, run them, show the tables.

Every cell is checked before the first one starts. A failed cell does not stop the others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.errors import RequestError
from benchmarks.naming import parse
from benchmarks.store import Store
from benchmarks.stream import StreamInfo
from carryover.cells import estimate
from carryover.cells.executors.collect import forget_gone, recorded_otherwise, run_apart
from carryover.cells.executors.local import LocalProcesses
from carryover.cells.executors.submission import report_record
from carryover.cells.key import standing
from carryover.cells.ready import ReadyCell, finished, numerics_of, outdated, ready_cells
from carryover.cells.request import Request, command
from carryover.cells.run import ended, run_cell
from carryover.commands.contents import contents
from carryover.commands.report import set_aside
from carryover.commands.screen import shown
from carryover.commands.tracking import check_wandb, log_records
from carryover.exit_codes import FAILED, INTERRUPTED, OK
from carryover.metrics.line import duration
from carryover.plugins import catalogue
from carryover.records.record import Cell, Record
from carryover.records.results import Results


def run(request: Request) -> int:
    """Check every cell, run those without a record, show the tables; the exit code."""
    results = Results.default(request.results)
    results.check_writable()
    if request.wandb:
        check_wandb()
    progress = shown(request.quiet)
    ready = ready_cells(request, progress)
    refused = [cell for cell in ready if cell.refusal]
    if len(ready) == len(refused):
        # No cell would run: that is a wrong request, not a matrix with gaps.
        raise RequestError(_refusals(refused))
    _say(request, f"computing on {ready[0].conditions.numerics.describe()}")
    records = [ended(cell, "skipped", cell.refusal or "") for cell in refused]
    for cell in refused:
        _say(request, f"{cell.cell}: skipped, {cell.refusal}")
    wanted = [cell for cell in ready if not cell.refusal]
    try:
        records += (
            _apart(request, wanted, results) if _in_processes(request) else _here(request, wanted, results)
        )
    except KeyboardInterrupt:
        again = command(request.words())
        print(f"\ninterrupted; finished work is kept. Continue with:\n  {again}", file=sys.stderr)
        return INTERRUPTED
    forget_gone(results, [cell.cell for cell in wanted])
    _show(request, wanted, records, results)
    if request.wandb and (problem := log_records(records, request.wandb)):
        print(f"warning: {problem}", file=sys.stderr, flush=True)
    return FAILED if any(record.status in ("failed", "timeout") for record in records) else OK


def _in_processes(request: Request) -> bool:
    return request.jobs > 1 or len(request.devices) > 1 or request.timeout is not None


def _here(request: Request, cells: Sequence[ReadyCell], results: Results) -> list[Record]:
    """Run the cells one after another in this process."""
    progress, records = shown(request.quiet), []
    for cell in cells:
        record = finished(cell, results)
        if record is None:
            begun = "resumed" if results.journal(cell.key).exists() else "started"
            _say(request, f"{cell.cell}: {begun}")
            record = run_cell(
                cell, results, progress, workers=request.workers, save_states=request.save_states
            )
            _say(request, f"{cell.cell}: {record.status}{_took(record)}")
        else:
            _say(request, f"{cell.cell}: already recorded")
            if results.journal(cell.key).exists():  # killed between writing its record and this removal
                record = run_cell(cell, results, progress)
        if request.report is not None:
            report_record(request.report, record)
        records.append(record)
    return records


def _apart(request: Request, cells: Sequence[ReadyCell], results: Results) -> list[Record]:
    """Run the cells in processes of their own, `jobs` at a time, and at least one on each device."""
    devices = [numerics.device for numerics in numerics_of(request, Store.default())]
    if len(devices) > 1:
        _say(request, f"the cells take turns on {', '.join(devices)}")
    known = {cell.key: record for cell in cells if (record := finished(cell, results)) is not None}
    for cell in cells:
        if cell.key in known:
            _say(request, f"{cell.cell}: already recorded")
    missing = [cell for cell in cells if cell.key not in known]
    if not missing:
        return list(known.values())
    progress, jobs = shown(request.quiet), max(request.jobs, len(devices))
    made = run_apart(
        missing,
        LocalProcesses(results, devices=devices, jobs=jobs, timeout=request.timeout),
        lambda cell, device: [*request.words(cell.typed, device=device), "--workers", str(request.workers)],
        results,
        progress,
        command=command(request.words()),
        report=lambda cell, record: _say(request, f"{cell.cell}: {record.status}{_took(record)}"),
    )
    if said := recorded_otherwise(missing, made):
        progress.warn(said)
    return [*known.values(), *made]


def plan(request: Request) -> int:
    """Show which cells are recorded, or stale and why, and the expected time if an earlier run tells it."""
    results = Results.default(request.results)
    ready = ready_cells(request, shown())
    everything, _ = results.all()
    for line in _streams([cell.stream.info for cell in ready]):
        print(line)
    total, unknown_times = 0.0, 0
    for cell in ready:
        if cell.refusal:
            print(f"{cell.cell}: skipped, {cell.refusal}")
            continue
        if finished(cell, results) is not None:
            print(f"{cell.cell}: recorded, nothing to do")
            continue
        seconds = estimate.seconds(cell, everything, chosen=results.choice(cell.choice).exists())
        total, unknown_times = total + (seconds or 0.0), unknown_times + (seconds is None)
        lasts = f"about {duration(seconds)}" if seconds is not None else "time unknown"
        state = "to resume" if results.journal(cell.key).exists() else "to run"
        old = outdated(cell, results)
        why = f"; its record is stale ({', '.join(old) or 'an older key'} changed)" if old else ""
        print(f"{cell.cell}: {state}, {lasts}{why}")
    beyond = f", plus {unknown_times} of unknown length" if unknown_times else ""
    print(f"about {duration(total)} of work for one worker{beyond}")
    return OK


def _streams(infos: Sequence[StreamInfo]) -> list[str]:
    """What each stream consists of, once for all its orders; their names and hashes."""
    orders: dict[tuple[str, ...], dict[str, None]] = {}
    for info in infos:
        named = orders.setdefault(tuple(contents(info)), {})
        if info.order is not None:
            named[f"{info.order.name} ({info.order.hash})"] = None
    lines: list[str] = []
    for said, named in orders.items():
        lines += said
        if named:
            lines.append(f"  order{'s' * (len(named) > 1)} of classes (hash): {', '.join(named)}")
    return lines


def _show(request: Request, ready: Sequence[ReadyCell], records: Sequence[Record], results: Results) -> None:
    from carryover.tables.report import closing_text

    everything, broken = results.all()
    where = {(cell.cell.stream, cell.cell.backbone): cell for cell in ready}
    # Orders may have been typed in the names of streams, from which cells take them.
    typed = any("order" in parse(name)[1] for name in request.streams)
    found = dict.fromkeys(cell.typed.order for cell in ready if cell.typed.order) if typed else ()
    asked_orders = request.orders or tuple(found)

    def fill(method: str, cell: Cell) -> str:
        """The command that makes a missing reference row; "" if that method cannot run."""
        there = where[cell.stream, cell.backbone]
        found = catalogue.method_class(method)[1]
        if found.supports(found.Config(), there.stream.info, there.backbone.info) is not None:
            return ""
        return command(replace(request, orders=asked_orders).words(cell, method))

    references = [name for name, plugin in catalogue.methods().items() if plugin.reference]
    text = closing_text(records, everything, standing=standing, reference_methods=references, fill=fill)
    print("\n" + text)
    set_aside(broken)


def _say(request: Request, message: str) -> None:
    if not request.quiet:
        print(message, file=sys.stderr, flush=True)


def _refusals(refused: Sequence[ReadyCell]) -> str:
    return "; ".join(dict.fromkeys(f"{c.cell.method} does not run here: {c.refusal}" for c in refused))


def _took(record: Record) -> str:
    if record.status != "ok":
        return f", {record.reason}"
    cost = record.cost
    tried = " after its options were chosen" if record.selection.candidates else ""
    return f" in {duration(cost.train_s + cost.eval_s + cost.prepare_s)}{tried}"
