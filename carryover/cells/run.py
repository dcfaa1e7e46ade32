"""Runs one cell under its lock and journal, counts its costs, and writes its record."""

from __future__ import annotations

import contextlib
import datetime
import platform
import shutil
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from backbones.instructions import instructions
from backbones.seen import seen
from benchmarks.errors import RequestError
from benchmarks.images import Indices
from benchmarks.orders import Order
from benchmarks.progress import Bar, Progress
from benchmarks.store import locked, try_locked, write_atomic
from carryover.cells.learn import Learnt, Maker, learn
from carryover.cells.machine import commit, peak_memory, processor
from carryover.cells.overlap import note, overlap
from carryover.cells.ready import ReadyCell, config_dict, finished
from carryover.metrics.kinds import kind_of
from carryover.protocols.journal import CellJournal
from carryover.protocols.work import NothingToChooseError
from carryover.records.contract import short
from carryover.records.record import ClassOrder, Cost, Env, Option, Record, Selection, Status
from carryover.records.results import Results

CELL = "cell.txt"  # in a journal: the name of its cell


def run_cell(
    ready: ReadyCell,
    results: Results,
    progress: Progress,
    *,
    workers: int = 2,
    save_states: bool = False,
) -> Record:
    """Run a cell and write its record; if another process finished it meanwhile, return that record.

    save_states: keep the method's state after every task in `states/<key>/`. A cell that raises is
    recorded as failed, with its traceback. Ctrl-C and RequestErrors about the results folder pass
    through, and the journal stays.
    """
    with locked(results.lock(ready.key), waiting=progress.warn):
        made = finished(ready, results)
        if made is not None:
            CellJournal(results.journal(ready.key)).close()  # left by a process that was killed
            return made
        states = results.root / "states" / ready.key if save_states else None
        journal = CellJournal(results.journal(ready.key), states=states)
        return _run(ready, results, journal, progress, workers)


def _run(
    ready: ReadyCell, results: Results, journal: CellJournal, progress: Progress, workers: int
) -> Record:
    started = _now()
    warned = _Warnings(progress)
    journal.notes = warned.messages
    record: Record
    predictions: dict[tuple[int, int], Indices] | None
    with peak_memory(ready.backbone.device) as peak:
        try:
            write_atomic(journal.folder / CELL, f"{ready.cell}\n".encode())
            make = Maker(ready, journal, warned, workers)
            learnt = learn(ready, make, results.choice(ready.choice), warned.shown)
            record = _learnt_record(ready, learnt, warned.messages, started, peak())
            predictions = _by_place(learnt.result.predicted)
        except RequestError as error:
            record, predictions = _failure(ready, error, started), None
        except OSError as error:
            if Path(str(error.filename or "")).is_relative_to(results.root):
                raise RequestError(
                    f"the results folder {results.root} cannot be written ({error.strerror}); make room and "
                    "run the same command, which continues from the journal, or choose --results DIR"
                ) from error
            record, predictions = _failure(ready, error, started), None
        except Exception as error:  # an error of a method fails only this cell
            record, predictions = _failure(ready, error, started), None
    results.write(record, predictions)
    if record.status == "ok":
        journal.close()
        _drop_superseded(ready, results)
    elif {path.name for path in journal.folder.glob("*")} <= {CELL}:
        journal.close()  # otherwise the next run resumes where it failed, for lack of memory, say
    return record


def _drop_superseded(ready: ReadyCell, results: Results) -> None:
    """Remove the journals of this cell that other versions of the code left: nothing resumes from them."""
    for left in (results.root / "journal").glob(f"*/{CELL}"):
        with contextlib.suppress(FileNotFoundError):  # another process just finished
            if left.read_text() == f"{ready.cell}\n":
                with try_locked(results.lock(left.parent.name)) as ours:
                    if ours:
                        shutil.rmtree(left.parent, ignore_errors=True)


def _learnt_record(
    ready: ReadyCell, learnt: Learnt, warned: list[str], started: datetime.datetime, peak_mb: float
) -> Record:
    """The record of a successful cell, with its metrics."""
    result, info = learnt.result, ready.stream.info
    done = result.done
    prepared = learnt.method.preparation()
    notes = [*info.remarks, *dict.fromkeys([*done.notes, *warned])]
    known = seen(ready.backbone.name)
    shared = overlap(info, learnt.tasks, learnt.exam, known) if known is not None else None
    if shared is not None:
        notes.append(note(shared, info))
    if ".random-" in ready.backbone.identity:
        notes.append("the backbone's weights are random, not pretrained")
    if prepared is not None:
        notes.append(f"{ready.method.name} ({short(prepared.digest)}): {prepared.said}")
    record = _record(
        ready,
        "ok",
        started,
        rows=tuple(result.rows),
        cost=_cost(ready, learnt, peak_mb),
        fingerprints=dict(result.fingerprints),
        observations=dict(enumerate(done.observations)),
        notes=tuple(notes),
        tasks=info.task_names,
        groups=info.groups,
        overlap=shared,
        selection=learnt.selection or Selection(rule=ready.selection),
        config=_trained(ready, learnt.chosen),
        prepared=prepared.digest if prepared is not None else None,
    )
    return msgspec.structs.replace(record, metrics=kind_of(info.protocol).metrics_of(record))


def _cost(ready: ReadyCell, learnt: Learnt, peak_mb: float) -> Cost:
    done, kept = learnt.result.done, learnt.result.footprint
    return Cost(
        train_s=done.train_s,
        eval_s=done.eval_s,
        prepare_s=done.prepare_s,
        peak_mb=peak_mb,
        trainable=kept.trainable,
        head=kept.head,
        stored_bits_per_task=kept.stored_bits / learnt.result.units,
        exemplars=kept.exemplars,
        passes=done.passes,
        replayed=done.replayed,
        macs=done.macs,
        parameters=ready.backbone.info.parameters,
    )


def _by_place(predicted: Mapping[str, Indices]) -> dict[tuple[int, int], Indices]:
    """The predicted classes by (step, task)."""
    found = {}
    for place, classes in predicted.items():
        step, _, task = place.partition("/")
        found[int(step), int(task)] = classes
    return found


def _failure(ready: ReadyCell, error: Exception, started: datetime.datetime) -> Record:
    known = isinstance(error, RequestError)  # its message is a sentence that says what to do
    reason = str(error) if known else f"{type(error).__name__}: {error}".partition("\n")[0]
    tried = error.selection if isinstance(error, NothingToChooseError) else None
    selection = tried or Selection(rule=ready.selection)
    return _record(
        ready, "failed", started, reason=reason, traceback=traceback.format_exc(), selection=selection
    )


def ended(ready: ReadyCell, status: Status, reason: str) -> Record:
    """The record of a cell without a result: skipped, stopped, or its process died."""
    return _record(ready, status, _now(), reason=reason, selection=Selection(rule=ready.selection))


def _trained(ready: ReadyCell, chosen: Mapping[str, Any]) -> dict[str, Option]:
    """The options of the training; those in which validation runs differ stand only in the selection."""
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
        order=_order(ready.stream.info.order),
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
            instructions=instructions() if ready.backbone.device.type == "cpu" else "",
            packages=ready.code.packages,
        ),
        started=started,
        ended=_now(),
        **found,
    )


def _order(order: Order | None) -> ClassOrder | None:
    if order is None:
        return None
    return ClassOrder(rule=order.rule, hash=order.hash, classes=order.classes if order.given else ())


class _Warnings:
    """Forwards progress and keeps the warnings for the record."""

    def __init__(self, progress: Progress) -> None:
        self.shown = progress
        self.messages: list[str] = []

    @contextlib.contextmanager
    def bar(self, title: str, total: int, unit: str = "") -> Iterator[Bar]:
        with self.shown.bar(title, total, unit) as bar:
            yield bar

    def warn(self, message: str) -> None:
        if message not in self.messages:  # a method warns again for each episode, if made anew
            self.messages.append(message)
            self.shown.warn(message)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
