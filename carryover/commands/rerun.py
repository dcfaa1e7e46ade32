"""The command `rerun`: the cell of a record is run again on this machine, and its answers are compared.

Equal bits are promised on one kind of processor, with one instruction set and one number of threads. What
differs between two of them is measured here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import DataError, RequestError
from carryover.cells.ready import ReadyCell, ready_cells
from carryover.cells.request import Request
from carryover.cells.run import run_cell
from carryover.cells.selection import Rule
from carryover.commands.screen import shown
from carryover.exit_codes import FAILED, OK
from carryover.metrics.kinds import kind_of_contract
from carryover.records.contract import Contract
from carryover.records.record import DEFAULT, Env, Record, decode
from carryover.records.results import Predictions, Results
from carryover.records.row import unpack_hits

# Of the answers of a cell that trains nothing but heads on frozen features. Between AMD and Intel, both in
# bfloat16, it was 0 to 11 of 2,400. A network that trains may drift further: it is reported, not judged.
BOUND = 0.01


@dataclass(frozen=True)
class Differences:
    """How many of the answers of two runs of a cell differ.

    classes: whether the predicted classes were compared, or only whether each was right; incomparable: the
    reason why none could be compared, or "".
    """

    answers: int = 0
    different: int = 0
    classes: bool = False
    incomparable: str = ""

    @property
    def share(self) -> float:
        return self.different / max(self.answers, 1)

    def __str__(self) -> str:
        if self.incomparable:
            return f"cannot be compared, since {self.incomparable}"
        told = "" if self.classes else ", by right or wrong"
        return f"{self.different} of {self.answers:,} answers differ ({self.share:.2%}{told})"


def run(paths: Sequence[Path], results: Path | None, device: str | None, *, quiet: bool = False) -> int:
    """Rerun each record; 1 if one fails, or if frozen features give more than BOUND other answers."""
    records = [_read(path) for path in paths]
    bad = False
    with ExitStack() as stack:
        root = results or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carryover-rerun-")))
        target = Results(root)  # without the reference: a record that is there would be taken as it is
        target.check_writable()
        for path, record in zip(paths, records, strict=True):
            progress = shown(quiet)
            (ready,) = ready_cells(request_of(record, device), progress)
            if ready.refusal:
                raise RequestError(f"{record.cell} does not run here: {ready.refusal}")
            made = run_cell(ready, target, progress)
            if made.status != "ok":
                print(f"{record.cell}: {made.status}, {made.reason}")
                bad = True
                continue
            found = differences(record, made, _predictions(path), target.predictions(made))
            judged = record.cost.trainable == 0
            beyond = bool(found.incomparable) or (judged and found.share > BOUND)
            bad = bad or beyond
            print("\n".join(_told(ready, record, made, found, beyond=beyond)), flush=True)
    return FAILED if bad else OK


def request_of(record: Record, device: str | None = None) -> Request:
    """The request for the cell of a record, as it was run."""
    cell, rule = record.cell, Rule.described(record.selection.rule)
    return Request(
        methods=(cell.method,),
        streams=(cell.stream,),
        backbones=(cell.backbone,),
        orders=(cell.order,) if cell.order is not None else (),
        seeds=(cell.seed,),
        options=cell.options,
        devices=(device or record.env.device.partition(":")[0],),
        threads=record.env.threads,
        selection=DEFAULT if rule is None else rule.name,
    )


def differences(
    record: Record, other: Record, predicted: Predictions | None, others: Predictions | None
) -> Differences:
    """Between two records of one cell; predicted, others: their predicted classes, if they were kept."""
    for task, fingerprint in record.fingerprints.items():
        if other.fingerprints.get(task) != fingerprint:
            name = record.tasks[task] if record.tasks else f"task {task}"
            reason = f"the test images of {name} are others, or come in another order"
            return Differences(incomparable=reason)
    rows = {(row.step, row.task): row for row in other.rows}
    classes = predicted is not None and others is not None
    answers = different = 0
    for row in record.rows:
        again = rows.get((row.step, row.task))
        if again is None or again.n != row.n or (again.hits is None) != (row.hits is None):
            return Differences(incomparable=f"step {row.step}, task {row.task} is scored in one of them only")
        if row.hits is None or again.hits is None:
            continue
        answers += row.n
        place = row.step, row.task
        if predicted is not None and others is not None and place in predicted and place in others:
            different += int((predicted[place] != others[place]).sum())
        else:
            different += int((unpack_hits(row.hits, row.n) != unpack_hits(again.hits, row.n)).sum())
    return Differences(answers, different, classes)


def _told(ready: ReadyCell, record: Record, made: Record, found: Differences, *, beyond: bool) -> list[str]:
    lines = [f"{record.cell}: {found}"]
    if beyond and not found.incomparable:
        lines[0] += f", more than the {BOUND:.0%} that rounding may change on frozen features"
    primary = kind_of_contract(Contract(record.contract)).primary
    if primary in record.metrics and primary in made.metrics:
        lines.append(f"  {primary} {record.metrics[primary]:.2%} recorded, {made.metrics[primary]:.2%} here")
    parts = [name for name, digest in made.key_parts.items() if record.key_parts.get(name) != digest]
    other = f"another key: {', '.join(parts) or 'its schema'} changed"
    lines.append(f"  {'the same key' if record.key == made.key else other}")
    lines.append(f"  recorded with {_machine(record.env)}; here {_machine(made.env)}")
    return lines


def _machine(env: Env) -> str:
    instructions = env.instructions or ("instructions not recorded" if env.device == "cpu" else "")
    threads = f"{env.threads} thread{'s' if env.threads != 1 else ''}"
    return ", ".join(filter(None, (env.processor, instructions, env.dtype, threads)))


def _read(path: Path) -> Record:
    """RequestError unless the file is a successful record."""
    try:
        record = decode(path.read_bytes())
    except OSError as error:
        raise RequestError(
            f"{path} cannot be read ({error.strerror}); name the file of a record, "
            "results/records/STREAM/BACKBONE/METHOD/SEED-KEY.json"
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is no record: {error}") from error
    if record.status != "ok":
        raise RequestError(f"{path} is the record of a cell that {record.status}; run it with carryover run")
    return record


def _predictions(path: Path) -> Predictions | None:
    return Results.predictions_at(path.with_suffix(".predictions.npz"))
