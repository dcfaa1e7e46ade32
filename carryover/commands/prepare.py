"""`carryover prepare`: trains what a method needs before its first task, and writes it to a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbones.training import TrainingError
from benchmarks.claim import claim
from benchmarks.errors import RequestError
from benchmarks.store import locked
from benchmarks.stream import Pool
from carryover.cells.learn import Maker
from carryover.cells.machine import said_commit
from carryover.cells.ready import ReadyCell, config_dict
from carryover.cells.request import Request, again, command
from carryover.commands.screen import shown
from carryover.exit_codes import FAILED, INTERRUPTED, OK
from carryover.protocols.journal import CellJournal
from carryover.records.results import slug

KEYS = ("stream", "backbone", "out", "terms", "device", "threads", "options", "quiet")


def run(asked: Mapping[str, Any]) -> int:
    """Prepare as asked on the command line; the exit code."""
    from carryover.cells.ready import ready_cells

    folder: Path = asked["out"]
    progress = shown(asked["quiet"])
    request = Request.typed({**asked, "seed": "0", "no_reuse": False})
    cells = ready_cells(request, progress)
    if len(cells) != 1:
        raise RequestError(f"prepare makes one file, not {len(cells)}; name one method, stream and backbone")
    cell, pool = cells[0], cells[0].stream.pool
    _check(cell, pool)
    name = slug(f"{cell.cell.method}.{cell.cell.backbone}")
    claim(folder / f"{name}.plan.json", {"cell": f"{cell.cell}", "key": cell.key})
    journal = CellJournal(folder / f"{name}.journal")
    code = said_commit()  # before the run, during which files may change
    if not asked["quiet"]:
        print(f"preparing {cell.cell.method} on {cell.conditions.numerics.describe()}", file=sys.stderr)
    try:
        with locked(folder / f"{name}.lock", waiting=progress.warn):
            method = Maker(cell, journal, progress)(cell.stream.info)
            method.prepare(pool)
            assert pool is not None
            stream, terms = cell.stream.info.name, asked["terms"] or ""
            path = method.export(pool, folder, stream=stream, terms=terms, commit=code)
    except KeyboardInterrupt:
        way_on = command(again("prepare", asked["method"], asked, KEYS))
        print(f"\ninterrupted; finished work is kept. Continue with:\n  {way_on}", file=sys.stderr)
        return INTERRUPTED
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    journal.close()
    print(f"{path}\nuse it: --method {cell.cell.method} -o {method.file_option}={path}{_needs(cell)}")
    return OK


def _needs(cell: ReadyCell) -> str:
    """The typed options without which the file would be refused, as they are typed."""
    chosen, usual = config_dict(cell.config), config_dict(type(cell.config)())
    names = cell.method.file_needs
    return "".join(f" -o {name}={chosen[name]}" for name in names if chosen[name] != usual[name])


def _check(cell: ReadyCell, pool: Pool | None) -> None:
    name, stream = cell.cell.method, cell.stream.info.name
    if not cell.method.file_option:
        raise RequestError(f"{name} needs nothing before its first task, so there is no file to prepare")
    if cell.refusal:
        raise RequestError(f"{name} does not run here: {cell.refusal}")
    if pool is None:
        raise RequestError(
            f"{stream} has no pool to prepare {name} on; take episodes of a source, such as episodes:cifar100"
        )
