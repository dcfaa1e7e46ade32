"""`carryover prepare`: what a method makes before its first task, as a file that later runs start from."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from backbones.training import TrainingError
from benchmarks.errors import RequestError
from benchmarks.store import locked, write_atomic
from benchmarks.stream import Pool
from carryover.cell import ReadyCell
from carryover.cli import FAILED, INTERRUPTED, OK
from carryover.journal import Journal
from carryover.machine import commit
from carryover.progress import shown
from carryover.request import Request, command
from carryover.results import slug
from carryover.run import make_method


@runtime_checkable
class Exports(Protocol):
    """A method whose preparation can be kept in a file; file_option: the option that takes the file."""

    file_option: ClassVar[str]

    def export(self, pool: Pool, folder: Path, *, stream: str, terms: str, commit: str) -> Path:
        """Write what `prepare(pool)` has just made, and its card; returns the file.

        RequestError where nothing was made: it was read from a file, say.
        """
        ...


def run(asked: Mapping[str, Any]) -> int:
    """Prepare as asked on the command line; the exit code."""
    from carryover.bench import ready_cells

    folder: Path = asked["out"]
    progress = shown(asked["quiet"])
    request = Request.typed({**asked, "seed": "0", "no_reuse": False})
    cells = ready_cells(request, progress)
    if len(cells) != 1:
        raise RequestError("prepare makes one file at a time; name one method, one stream and one backbone")
    cell, pool = cells[0], cells[0].stream.pool
    _check(cell, pool)
    name = slug(f"{cell.cell.method}.{cell.cell.backbone}")
    _claim(folder / f"{name}.plan.json", cell)
    journal = Journal(folder / f"{name}.journal")
    code = commit()  # of what is about to run
    if not asked["quiet"]:
        print(f"preparing {cell.cell.method} on {cell.conditions.numerics.describe()}", file=sys.stderr)
    try:
        with locked(folder / f"{name}.lock", waiting=progress.warn):
            method = make_method(cell, {}, journal, progress)
            method.prepare(pool)
            assert isinstance(method, Exports)
            assert pool is not None
            said = f"{(code.git or '')[:12]}{' with changes' if code.dirty else ''}"
            stream, terms = cell.stream.info.name, asked["terms"] or ""
            path = method.export(pool, folder, stream=stream, terms=terms, commit=said)
    except KeyboardInterrupt:
        again = command(_words(asked))
        print(f"\ninterrupted; what is done is kept. Go on with:\n  {again}", file=sys.stderr)
        return INTERRUPTED
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    journal.close()
    print(f"{path}\nuse it: --method {cell.cell.method} -o {method.file_option}={path}")
    return OK


def _check(cell: ReadyCell, pool: Pool | None) -> None:
    name, stream = cell.cell.method, cell.stream.info.name
    if not hasattr(cell.method, "export"):
        raise RequestError(f"{name} makes nothing before its first task that could be kept in a file")
    if cell.refusal:
        raise RequestError(f"{name} does not run here: {cell.refusal}")
    if pool is None:
        raise RequestError(
            f"{stream} has no pool to prepare {name} on; take episodes of a source, as in episodes:cifar100"
        )


def _claim(path: Path, cell: ReadyCell) -> None:
    """Say in the folder what is made there; RequestError where it says otherwise already."""
    said = {"cell": f"{cell.cell}", "key": cell.key}
    if path.exists() and (found := json.loads(path.read_text())) != said:
        other = "by other code" if found.get("cell") == said["cell"] else f"from {found.get('cell')}"
        raise RequestError(
            f"{path} says that something else is made there ({other}); give another --out, or remove it and "
            "its journal to start over"
        )
    write_atomic(path, (json.dumps(said, indent=2) + "\n").encode())


def _words(asked: Mapping[str, Any]) -> list[str]:
    """The command line again."""
    words = ["prepare", asked["method"]]
    for key in ("stream", "backbone", "out", "terms", "device", "threads"):
        if asked[key] is not None:
            words += [f"--{key}", str(asked[key])]
    words += [word for option in asked["options"] for word in ("-o", option)]
    return words + ["--quiet"] * asked["quiet"]
