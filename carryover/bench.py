"""What the commands do: a request becomes cells, all of them checked, then run, then shown.

Nothing is spent before every cell of the request is known to be possible. A cell that fails takes no
other with it.
"""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import RequestError
from benchmarks.store import Store
from benchmarks.stream import Place
from carryover import plugins
from carryover.cell import Conditions, ReadyCell, Workshop, is_stale
from carryover.cli import FAILED, INTERRUPTED, OK
from carryover.progress import shown
from carryover.record import Cell, Option, Record
from carryover.results import Broken, Results, current, failures
from carryover.run import ended, finished, outdated, run_cell
from carryover.workers import run_apart


@dataclass(frozen=True)
class Request:
    """What was typed: a matrix of cells, and how to run it."""

    methods: tuple[str, ...]
    streams: tuple[str, ...]
    backbones: tuple[str, ...]
    seeds: tuple[int, ...]
    options: Mapping[str, Option]
    results: Path | None = None
    device: str | None = None
    threads: int | None = None
    eval_batch: int = 256
    reuse: bool = True
    jobs: int = 1
    workers: int = 2
    timeout: float | None = None
    save_states: bool = False
    quiet: bool = False

    @classmethod
    def typed(cls, asked: Mapping[str, Any]) -> Request:
        """From the command line's values; RequestError for a seed or an option that is none."""
        return cls(
            methods=_names("method", asked["method"]),
            streams=_names("stream", asked["stream"]),
            backbones=_names("backbone", asked["backbone"]),
            seeds=tuple(_seed(text) for text in _names("seed", asked["seed"])),
            options=dict(_option(text) for text in asked["options"]),
            reuse=not asked["no_reuse"],
            **{
                name: asked[name]
                for name in ("results", "device", "threads", "eval_batch", "jobs", "workers", "timeout")
                if name in asked
            },
            save_states=asked.get("save_states", False),
            quiet=asked.get("quiet", False),
        )

    def cells(self) -> list[Cell]:
        """The matrix, methods outermost."""
        return [
            Cell(method=method, stream=stream, backbone=backbone, seed=seed, options=dict(self.options))
            for method, stream, backbone, seed in itertools.product(
                self.methods, self.streams, self.backbones, self.seeds
            )
        ]

    def words(self, cell: Cell | None = None, method: str | None = None) -> list[str]:
        """The command line that asks for this request, for one of its cells, or for another method there."""
        words = ["run", "--method", method or (cell.method if cell else ",".join(self.methods))]
        words += ["--stream", cell.stream if cell else ",".join(self.streams)]
        words += ["--backbone", cell.backbone if cell else ",".join(self.backbones)]
        words += ["--seed", ",".join(map(str, [cell.seed] if cell and not method else self.seeds))]
        for name, value in self.options.items() if method is None else ():
            words += ["-o", f"{name}={value}"]
        given = [("--results", self.results), ("--device", self.device), ("--threads", self.threads)]
        words += [word for name, value in given if value is not None for word in (name, str(value))]
        words += [] if self.eval_batch == 256 else ["--eval-batch", str(self.eval_batch)]
        words += [] if self.reuse else ["--no-reuse"]
        words += ["--save-states"] if self.save_states else []
        return words


def run(request: Request) -> int:
    """Check everything, run what is not recorded, show the tables; the exit code."""
    results = Results.default(request.results)
    results.check_writable()
    progress = shown(request.quiet)
    ready = _ready(request, Place(Store.default(), progress, request.workers))
    refused = [cell for cell in ready if cell.refusal]
    if len(ready) == len(refused):
        # Nothing would be run: that is a wrong request, not a matrix with gaps.
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
        command = _command(request.words())
        print(f"\ninterrupted; what is done is kept. Go on with:\n  {command}", file=sys.stderr)
        return INTERRUPTED
    _show(request, wanted, records, results)
    return FAILED if any(record.status in ("failed", "timeout") for record in records) else OK


def _in_processes(request: Request) -> bool:
    return request.jobs > 1 or request.timeout is not None


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
        records.append(record)
    return records


def _apart(request: Request, cells: Sequence[ReadyCell], results: Results) -> list[Record]:
    """Run the cells in processes of their own, `jobs` at a time."""
    known = {cell.key: record for cell in cells if (record := finished(cell, results)) is not None}
    for cell in cells:
        if cell.key in known:
            _say(request, f"{cell.cell}: already recorded")
    made = run_apart(
        [cell for cell in cells if cell.key not in known],
        lambda cell: [*request.words(cell.cell), "--workers", str(request.workers)],
        results,
        shown(request.quiet),
        jobs=request.jobs,
        timeout=request.timeout,
        report=lambda cell, record: _say(request, f"{cell.cell}: {record.status}{_took(record)}"),
    )
    return [*known.values(), *made]


def _ready(request: Request, place: Place) -> list[ReadyCell]:
    from backbones.numerics import choose

    numerics = choose(request.device, place.store, request.threads)
    workshop = Workshop(place, Conditions(numerics, request.reuse, request.eval_batch))
    return [workshop.ready(cell) for cell in request.cells()]


def plan(request: Request) -> int:
    """Show the cells, which are recorded or stale and why, and a time where an earlier run tells one."""
    results = Results.default(request.results)
    ready = _ready(request, Place(Store.default(), shown(), request.workers))
    everything, _ = results.all()
    total, unknown_times = 0.0, 0
    for cell in ready:
        if cell.refusal:
            print(f"{cell.cell}: skipped, {cell.refusal}")
            continue
        if finished(cell, results) is not None:
            print(f"{cell.cell}: recorded, nothing to do")
            continue
        seconds = _estimate(cell, everything)
        total, unknown_times = total + (seconds or 0.0), unknown_times + (seconds is None)
        lasts = f"about {_duration(seconds)}" if seconds is not None else "time not known yet"
        state = "to resume" if results.journal(cell.key).exists() else "to run"
        old = outdated(cell, results)
        why = f"; a record is there but stale ({', '.join(old[1]) or 'an older key'} changed)" if old else ""
        print(f"{cell.cell}: {state}, {lasts}{why}")
    beyond = f", and {unknown_times} of unknown length" if unknown_times else ""
    print(f"in all about {_duration(total)} of work on one worker{beyond}")
    return OK


def status(root: Path | None) -> int:
    """Counts of records, the failures, the journals that can go on, and files that are no record."""
    from carryover.render import failures_text

    results = Results.default(root)
    records, broken = results.all()
    ok = sum(record.status == "ok" for record in records)
    print(f"{results.root}: {ok} records, {len(failures(records))} failures")
    journals = sorted((results.root / "journal").glob("*/progress.json"))
    if journals:
        print(
            f"{len(journals)} interrupted runs keep a journal; the command that started one goes on with it"
        )
    for journal in journals:
        print(f"  {journal.parent.name[:8]}")
    if failures(records):
        print(failures_text(failures(records)))
    _set_aside(broken)
    return OK


def report(root: Path | None, stream: str | None, vary: str | None, form: str) -> int:
    """Tables of all records, one for each contract."""
    from carryover.render import report_text

    results = Results.default(root)
    print(report_text(results, stream=stream, vary=vary, form=form, stale=is_stale))
    _set_aside(results.all()[1])
    return OK


def compare(first: str, second: str, stream: str, backbone: str, metric: str, root: Path | None) -> int:
    """Two methods pairwise on one stream and backbone."""
    from carryover.statistics import compare as compared

    records, _ = Results.default(root).all()
    sides = []
    for name in (first, second):
        chosen = [
            record
            for record in current(records)
            if (record.cell.method, record.cell.stream, record.cell.backbone) == (name, stream, backbone)
        ]
        if not chosen:
            words = ["carryover", "run", "--method", name, "--stream", stream, "--backbone", backbone]
            raise RequestError(
                f"there is no record of {name} on {stream} with {backbone}; {shlex.join(words)} makes one"
            )
        sides.append(chosen)
    print(compared(sides[0], sides[1], metric))
    return OK


def _show(request: Request, ready: Sequence[ReadyCell], records: Sequence[Record], results: Results) -> None:
    from carryover.render import closing_text

    everything, broken = results.all()
    where = {(cell.cell.stream, cell.cell.backbone): cell for cell in ready}

    def fill(method: str, cell: Cell) -> str:
        """The command that makes a missing reference row; none where that method cannot run."""
        there = where[cell.stream, cell.backbone]
        found = plugins.method_class(method)[1]
        if found.supports(found.Config(), there.stream.info, there.backbone.info) is not None:
            return ""
        return _command(request.words(cell, method))

    references = [name for name, plugin in plugins.methods().items() if plugin.reference]
    text = closing_text(records, everything, stale=is_stale, reference_methods=references, fill=fill)
    print("\n" + text)
    _set_aside(broken)


def _command(words: Sequence[str]) -> str:
    return shlex.join(["carryover", *words])


def _set_aside(broken: Sequence[Broken]) -> None:
    for file in broken:
        print(f"set aside: {file.path}: {file.reason}", file=sys.stderr)


def _say(request: Request, message: str) -> None:
    if not request.quiet:
        print(message, file=sys.stderr, flush=True)


def _refusals(refused: Sequence[ReadyCell]) -> str:
    return "; ".join(dict.fromkeys(f"{c.cell.method} does not run here: {c.refusal}" for c in refused))


def _estimate(cell: ReadyCell, records: Sequence[Record]) -> float | None:
    """Seconds, from the newest record of this method and backbone, scaled by the images scored and learnt."""
    alike = [
        record
        for record in records
        if record.status == "ok"
        and (record.cell.method, record.cell.backbone) == (cell.cell.method, cell.cell.backbone)
        and record.rows
    ]
    if not alike:
        return None
    newest = max(alike, key=lambda record: record.ended)
    tests = {row.task: row.n for row in newest.rows}
    images = sum(size[0] for size in cell.stream.info.sizes)
    before = newest.cost.train_s + newest.cost.eval_s + newest.cost.prepare_s
    scale = sum(size[2] for size in cell.stream.info.sizes) / max(sum(tests.values()), 1)
    return before * scale if images else None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _took(record: Record) -> str:
    if record.status != "ok":
        return f", {record.reason}"
    cost = record.cost
    return f" in {_duration(cost.train_s + cost.eval_s + cost.prepare_s)}"


def _names(kind: str, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise RequestError(f"no {kind} is named in {text!r}; write --{kind} NAME")
    return names


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise RequestError(f"a seed is a whole number from 0, not {text!r}; write --seed 0,1,2")
    return int(text)


def _option(text: str) -> tuple[str, Option]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise RequestError(f"{text!r} is no option; write -o KEY=VALUE")
    return name, value
