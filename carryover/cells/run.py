"""One cell from its first image to its record."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import platform
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from backbones.training import Journal as Stages
from backbones.training import NoJournal
from benchmarks.errors import RequestError
from benchmarks.images import Indices, Pixels
from benchmarks.progress import Bar, Progress
from benchmarks.seeds import Seeds
from benchmarks.store import locked, try_locked, write_atomic
from benchmarks.stream import StreamInfo
from carryover.cells.machine import commit, peak_memory, processor
from carryover.cells.ready import PROTOCOLS, ReadyCell, config_dict
from carryover.cells.selection import NothingToChooseError, select
from carryover.protocols import continual
from carryover.protocols.journal import Journal
from carryover.protocols.work import Trial, Work
from carryover.records.contract import short
from carryover.records.record import Cost, Env, Option, Record, Selection, Status
from carryover.records.results import Results
from methods.base import Context, Method
from methods.base.prepared import Prepares

CELL = "cell.txt"  # in a journal: whose it is
ASKED = {"numerics", "evaluation"}  # key parts that a user chooses beside the cell
Now = Callable[[], datetime.datetime]


def run_cell(
    ready: ReadyCell,
    results: Results,
    progress: Progress,
    *,
    workers: int = 2,
    save_states: bool = False,
) -> Record:
    """Run a cell, or take over what another process made of it meanwhile; the record is written.

    save_states: keep the method's state after every task in `states/<key>/`. A cell that raises is
    recorded as failed, with its traceback; Ctrl-C and RequestErrors of the results folder pass
    through, the journal stays.
    """
    with locked(results.lock(ready.key), waiting=progress.warn):
        made = finished(ready, results)
        if made is not None:
            Journal(results.journal(ready.key)).close()  # of one that was killed before it could
            return made
        states = results.root / "states" / ready.key if save_states else None
        journal = Journal(results.journal(ready.key), states=states)
        return _run(ready, results, journal, progress, workers)


def finished(ready: ReadyCell, results: Results) -> Record | None:
    """The record of this very key, if it is there and ok."""
    found = (r for r in results.find(ready.cell) if r.key == ready.key and r.status == "ok")
    return next(found, None)


def outdated(ready: ReadyCell, results: Results) -> list[str] | None:
    """The key parts that changed since the newest ok record of this cell; None where none is out of date.

    A record under another contract is another number, and so is one that was asked for otherwise.
    """
    for record in results.find(ready.cell):
        if record.status == "ok" and record.key != ready.key and record.contract == ready.contract:
            parts = [n for n, digest in ready.key_parts.items() if record.key_parts.get(n) != digest]
            if not set(parts) & ASKED:
                return parts
    return None


def _run(ready: ReadyCell, results: Results, journal: Journal, progress: Progress, workers: int) -> Record:
    started = _now()
    warned = _Warnings(progress)
    journal.notes = warned.messages
    record: Record
    predictions: dict[tuple[int, int], Indices] | None
    with peak_memory(ready.backbone.device) as peak:
        try:
            write_atomic(journal.folder / CELL, f"{ready.cell}\n".encode())
            record, predictions = _learn(ready, results, journal, warned, workers, started, peak)
        except RequestError as error:
            record, predictions = _failure(ready, error, started), None
        except OSError as error:
            if Path(str(error.filename or "")).is_relative_to(results.root):
                raise RequestError(
                    f"the results folder {results.root} cannot be written ({error.strerror}); the journal "
                    "is kept, so the same command goes on once there is room, or with --results DIR"
                ) from error
            record, predictions = _failure(ready, error, started), None
        except Exception as error:  # whatever a method raises is this cell's failure alone
            record, predictions = _failure(ready, error, started), None
    results.write(record, predictions)
    if record.status == "ok":
        journal.close()
        _drop_superseded(ready, results)
    elif {path.name for path in journal.folder.glob("*")} <= {CELL}:
        journal.close()  # else it goes on where it failed, for want of memory, say
    return record


def _drop_superseded(ready: ReadyCell, results: Results) -> None:
    """Remove what other versions of the code left of this cell when they failed: nothing goes on from it."""
    for left in (results.root / "journal").glob(f"*/{CELL}"):
        with contextlib.suppress(FileNotFoundError):  # another process has just ended
            if left.read_text() == f"{ready.cell}\n":
                with try_locked(results.lock(left.parent.name)) as ours:
                    if ours:
                        shutil.rmtree(left.parent, ignore_errors=True)


def make_method(
    ready: ReadyCell,
    tables: dict[str, Pixels],
    journal: Stages,
    progress: Progress,
    workers: int = 2,
    *,
    info: StreamInfo | None = None,
    part: str = "",
    config: Any = None,
    seed: int | None = None,
) -> Method:
    """A fresh instance of the cell's method on its own copy of the backbone.

    info: what it is told of the stream, the whole by default; part: a piece of the cell that draws for
    itself; config, seed: the cell's by default.
    """
    context = Context(
        info=info or ready.stream.info,
        seeds=Seeds(
            ready.stream.info.identity + part,
            ready.cell.seed if seed is None else seed,
            ready.seeded_as,
        ),
        progress=progress,
        journal=journal,
        tables=tables,
        eval_batch=ready.conditions.eval_batch,
        workers=workers,
    )
    # Modules that a method makes may draw from torch's global generator: seed it for them.
    torch.manual_seed(context.seeds.own("modules"))
    return ready.method(config or ready.config, ready.backbone.copy(), context)


def _learn(
    ready: ReadyCell,
    results: Results,
    journal: Journal,
    progress: _Warnings,
    workers: int,
    started: datetime.datetime,
    peak: Callable[[], float],
) -> tuple[Record, dict[tuple[int, int], Indices]]:
    tables: dict[str, Pixels] = {}
    last: list[Method] = []  # the newest instance

    def make(
        info: StreamInfo,
        *,
        part: str = "",
        config: Any = None,
        journaled: bool = True,
        seed: int = ready.cell.seed,
    ) -> Method:
        kept: Stages = _Piece(journal, part) if journaled else NoJournal()
        last[:] = [
            make_method(
                ready, tables, kept, progress, workers, info=info, part=part, config=config, seed=seed
            )
        ]
        return last[0]

    info, protocol = ready.stream.info, PROTOCOLS[ready.stream.info.protocol]
    tasks, exam = ready.stream.open(ready.cell.seed)
    work = Work(
        make=make,
        backbone=ready.backbone,
        info=info,
        tasks=tasks,
        exam=exam,
        pool=ready.stream.pool,
        journal=journal,
        progress=progress,
        tables=tables,
        reuse=ready.conditions.reuse,
    )
    selection = Selection(rule=ready.selection)
    if ready.rule is not None:
        exam.sealed = True
        drawn = partial(make, seed=0)
        first = work if ready.cell.seed == 0 else replace(work, tasks=ready.stream.open(0)[0])
        configs, selection = select(
            [_allowed(ready, trial) for trial in protocol.trials(replace(first, make=drawn))],
            ready.config,
            ready.cell.options,
            ready.rule,
            results.choice(ready.choice),
            progress.shown,  # that another process was waited for is no news to a reader of the record
        )
        work = replace(work, configs=configs)
        exam.sealed = False
    result = protocol.lead(work)
    done, kept = result.done, result.footprint
    cost = Cost(
        train_s=done.train_s,
        eval_s=done.eval_s,
        prepare_s=done.prepare_s,
        peak_mb=peak(),
        trainable=kept.trainable,
        head=kept.head,
        stored_bits_per_task=kept.stored_bits / result.units,
        exemplars=kept.exemplars,
        passes=done.passes,
        parameters=ready.backbone.info.parameters,
    )
    if not last and issubclass(ready.method, Prepares):  # every task was learnt before a kill
        make(info, journaled=False).prepare(work.pool)
    made = last[0].preparation() if last and isinstance(last[0], Prepares) else None
    notes = [*ready.stream.info.notes, *dict.fromkeys([*done.notes, *progress.messages])]
    if ".random-" in ready.backbone.identity:
        notes.append("the backbone's weights are random, not pretrained")
    if made is not None:
        notes.append(f"{ready.method.name} ({short(made.digest)}): {made.said}")
    record = _record(
        ready,
        "ok",
        started,
        rows=tuple(result.rows),
        metrics=dict(result.metrics),
        cost=cost,
        fingerprints=dict(result.fingerprints),
        observations=dict(enumerate(done.observations)),
        notes=tuple(notes),
        tasks=info.task_names,
        groups=info.groups,
        selection=selection,
        config=_trained(ready, work.configs),
        prepared=made.digest if made is not None else None,
    )
    predictions = {}
    for place, classes in result.predicted.items():
        step, _, task = place.partition("/")
        predictions[int(step), int(task)] = classes
    return record, predictions


def _failure(ready: ReadyCell, error: Exception, started: datetime.datetime) -> Record:
    known = isinstance(error, RequestError)  # a sentence that says what to do
    reason = str(error) if known else f"{type(error).__name__}: {error}".partition("\n")[0]
    tried = error.selection if isinstance(error, NothingToChooseError) else None
    selection = tried or Selection(rule=ready.selection)
    return _record(
        ready, "failed", started, reason=reason, traceback=traceback.format_exc(), selection=selection
    )


def ended(ready: ReadyCell, status: Status, reason: str) -> Record:
    """The record of a cell that came to no result: skipped, stopped, or its process died."""
    return _record(ready, status, _now(), reason=reason, selection=Selection(rule=ready.selection))


def _allowed(ready: ReadyCell, trial: Trial) -> Trial:
    """With earlier tasks counted again at each task, for a method that starts over on all data so far."""
    info = ready.stream.info
    if info.protocol != "continual" or not getattr(ready.method, "starts_over", False):
        return trial
    trained = [images for images, _, _ in info.sizes[: continual.TRIED]]
    return replace(trial, images=sum(itertools.accumulate(trained)))


def _trained(ready: ReadyCell, chosen: Mapping[str, Any]) -> dict[str, Option]:
    """The options that were trained with; those that trials differ in stand in the selection alone."""
    every = [config_dict(config) for config in chosen.values()] or [config_dict(ready.config)]
    return {name: value for name, value in every[0].items() if all(one[name] == value for one in every)}


def _record(ready: ReadyCell, status: Status, started: datetime.datetime, **found: Any) -> Record:
    found.setdefault("config", config_dict(ready.config))
    numerics = ready.conditions.numerics
    return Record(
        key=ready.key,
        key_parts=ready.key_parts,
        cell=ready.cell,
        status=status,
        contract=dict(ready.contract),
        plugin={kind: f"{plugin.module} ({plugin.origin})" for kind, plugin in ready.plugins.items()},
        data=ready.stream.info.data,
        weights=ready.backbone.weights,
        code=commit(),
        env=Env(
            device=numerics.device,
            dtype=numerics.dtype,
            threads=numerics.threads,
            python=platform.python_version(),
            platform=platform.platform(),
            processor=processor(ready.backbone.device),
            packages=ready.code.packages,
        ),
        started=started,
        ended=_now(),
        **found,
    )


class _Piece:
    """The journal of one piece of a cell: another one's stages of the same name are not gone on with."""

    def __init__(self, journal: Journal, part: str) -> None:
        self._journal = journal
        self._part = f"{part}/" if part else ""

    def due(self) -> bool:
        return self._journal.due()

    def load(self, stage: str) -> dict[str, torch.Tensor] | None:
        return self._journal.load(self._part + stage)

    def save(self, stage: str, tensors: dict[str, torch.Tensor]) -> None:
        self._journal.save(self._part + stage, tensors)


class _Warnings:
    """Passes everything on and keeps the warnings for the record."""

    def __init__(self, progress: Progress) -> None:
        self.shown = progress
        self.messages: list[str] = []

    @contextlib.contextmanager
    def bar(self, title: str, total: int, unit: str = "") -> Iterator[Bar]:
        with self.shown.bar(title, total, unit) as bar:
            yield bar

    def warn(self, message: str) -> None:
        if message not in self.messages:  # a method made anew for each episode says it each time
            self.messages.append(message)
            self.shown.warn(message)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
