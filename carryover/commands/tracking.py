"""Logs records to Weights & Biases (`--wandb PROJECT`).

One run per cell, whose id is the key of the record, so that logging a record again changes nothing. Where
the runs go is configured in wandb (WANDB_MODE=offline, WANDB_DIR, WANDB_ENTITY).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from benchmarks.errors import RequestError, pip_install
from carryover.records.record import Record

NO_LOGIN = ("offline", "dryrun", "disabled")  # modes of wandb


def check_wandb() -> None:
    """RequestError if wandb is not installed or not logged in; needs no network."""
    if importlib.util.find_spec("wandb") is None:
        raise RequestError(f"--wandb needs the package wandb, which is missing; type {pip_install('wandb')}")
    import wandb

    way_out = "log in with `wandb login`, set WANDB_API_KEY, or keep the runs here with WANDB_MODE=offline"
    try:
        mode = wandb.setup(settings=wandb.Settings(silent=True)).settings.mode
        if mode not in NO_LOGIN and not _logged_in():
            raise RequestError(f"--wandb needs an API key, but none is configured; {way_out}")
    except (wandb.Error, ValueError) as error:  # a malformed key or mode
        raise RequestError(f"--wandb: {_one_line(error)}; {way_out}") from None
    finally:
        wandb.teardown()  # so that its service does not idle while the cells run


def log_records(records: Sequence[Record], project: str) -> str:
    """Log the cells; "" or a sentence on the first error, after which it stops, since each one waits long."""
    for record in records:
        try:
            log_record(record, project)
        except Exception as error:
            said = f"{type(error).__name__}: {_one_line(error)}"
            return f"--wandb stopped at {record.cell} ({said}); the same command logs the rest"
    return ""


def log_record(record: Record, project: str) -> None:
    """Log one cell: config, contract, the accuracy matrix, metrics and cost."""
    import wandb

    described = {"config": record.config, "contract": record.contract, "cell": str(record.cell)}
    settings = wandb.Settings(silent=True, console="off")
    with wandb.init(
        project=project, id=record.key[:32], name=str(record.cell), config=described, settings=settings
    ) as run:
        for step in sorted({row.step for row in record.rows}):
            scored = [row for row in record.rows if row.step == step and row.correct is not None]
            accuracies = {f"accuracy/task {row.task}": (row.correct or 0) / max(row.n, 1) for row in scored}
            if accuracies:
                run.log(accuracies, step=step)
        run.summary.update({"status": record.status, **record.metrics})
        cost = {name: getattr(record.cost, name) for name in record.cost.__struct_fields__}
        run.summary.update({f"cost/{name}": value for name, value in cost.items() if value is not None})


def _logged_in() -> bool:
    """Whether wandb has credentials; True if it is too old (0.28) to tell without a prompt."""
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:
        return True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
