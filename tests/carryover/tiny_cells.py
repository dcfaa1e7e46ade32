"""Cells that run in a second, and how tests run them: in this process, or in one that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from backbones.numerics import Numerics
from benchmarks.progress import Silent
from benchmarks.store import Store
from benchmarks.stream import Place
from carryover.cells.ready import Conditions, ReadyCell, Workshop
from carryover.records.record import Cell, Record
from carryover.records.results import Results

QUICK = {"epochs": "2", "batch_size": "16", "min_steps": "0"}
SHORT = {
    "meat": QUICK | {"lr": "4.0"},  # or no bit flips in so few steps
    "full_finetune": QUICK,
    "joint": QUICK,
    "linear_probe": {"epochs": "3", "batch_size": "16"},
    "ncm": {},
}
HERE = ["--device", "cpu", "--threads", "1"]


def stream_of(folder: Path, **parameters: object) -> str:
    """The name of the stream over the `pictures`."""
    typed = "".join(f"&{name}={value}" for name, value in parameters.items())
    return f"split:folder:{folder}?tasks=3{typed}"


def ready(
    method: str,
    stream: str,
    backbone: str = "tiny_vit",
    seed: int = 0,
    options: dict[str, str] | None = None,
    *,
    order: str | None = None,
    store: Store | None = None,
    workers: int = 2,
    numerics: Numerics | None = None,
    **conditions: object,
) -> ReadyCell:
    """A cell, its options short by default."""
    place = Place(store or Store.default(), Silent(), workers)
    made = Workshop(place, Conditions(numerics or Numerics(), **conditions))  # type: ignore[arg-type]
    typed = SHORT.get(method, QUICK) if options is None else options
    return made.ready(
        Cell(method=method, stream=stream, backbone=backbone, order=order, seed=seed, options=dict(typed))
    )


def words(method: str, stream: str, results: Path, *more: str, backbone: str = "tiny_vit") -> list[str]:
    """The command line for such a cell."""
    options = [word for key, value in SHORT.get(method, {}).items() for word in ("-o", f"{key}={value}")]
    base = ["run", "--method", method, "--stream", stream, "--backbone", backbone]
    return [*base, "--results", str(results), *HERE, *options, *more]


def python(code: str, arguments: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, after `code`."""
    command = [sys.executable, "-P", "-c", program(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload]


def program(code: str) -> str:
    """The command line as a Python program, after `code`."""
    return f"import sys\n{code}\nfrom carryover.commands.cli import cli\nsys.exit(cli(sys.argv[1:]))"


def only_record(root: Path) -> Record:
    """The one record below `root`; there is no other file that could be taken for one."""
    records, broken = Results(root).all()
    assert broken == []
    assert len(records) == 1, [str(record.cell) for record in records]
    return records[0]


def same_outcome(root: Path, other: Path) -> None:
    """Both have one record, with equal rows, metrics, footprint and predicted classes."""
    a, b = only_record(root), only_record(other)
    assert a.outcome() == b.outcome()
    assert a.observations == b.observations
    mine, theirs = Results(root).predictions(a), Results(other).predictions(b)
    assert mine is not None
    assert theirs is not None
    assert {place: classes.tolist() for place, classes in mine.items()} == {
        place: classes.tolist() for place, classes in theirs.items()
    }
