"""Records as Weights & Biases runs, for those who watch their experiments there (`--wandb PROJECT`).

One run per cell, its id the record's key, so that logging a record again changes nothing. Where it
goes and whether it goes at all is wandb's own affair (WANDB_MODE=offline, WANDB_DIR, WANDB_ENTITY).
"""

from __future__ import annotations

import importlib.util

from benchmarks.errors import RequestError
from carryover.record import Record


def check_wandb() -> None:
    """RequestError where wandb is not installed."""
    if importlib.util.find_spec("wandb") is None:
        raise RequestError("--wandb needs the package wandb; pip install 'carryover[wandb]' brings it")


def log_record(record: Record, project: str) -> None:
    """Log config, contract, the accuracy of every task after each, metrics and cost of one cell."""
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
