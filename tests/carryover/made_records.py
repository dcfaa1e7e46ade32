"""Records made up for the tests of the roof's data side."""

from __future__ import annotations

import datetime
import hashlib

import numpy as np

from carryover.metrics.continual import continual_metrics
from carryover.records.record import Cell, Cost, Env, Record
from carryover.records.row import Row

CONTRACT = {
    "protocol": "continual 1",
    "data": "64x64 images abc",
    "split": "10 % of each class for validation",
    "order": "numpy RandomState(1993) permutation",
    "scenario": "task-incremental: the task is known at test time",
    "labels": "40 classes in 4 tasks",
    "preprocessing": "bicubic to 64",
    "backbone": "vit 1234, cls",
    "selection": "default",
    "inference": "per sample",
}
COST = Cost(
    train_s=411.0,
    eval_s=3.0,
    trainable=85_798_656,
    head=7690,
    stored_bits_per_task=24576.0,
    exemplars=0,
    passes=50_000,
    replayed=0,
    macs=17_500_000_000,
)


def made(
    method="meat",
    seed=0,
    accuracy=0.8,
    *,
    stream="split-cifar100",
    backbone="vit",
    order=None,
    options=None,
    status="ok",
    minute=0,
    key=None,
    contract=CONTRACT,
    dtype="float32",
    cost=COST,
    n=100,
    tasks=4,
    **fields,
):
    """A record of a run in which every task is scored with about `accuracy` at every step."""
    options = options or {}
    name = (order or "") + repr(
        (method, seed, stream, backbone, options, minute, sorted(contract.items()), dtype)
    )
    key = key or hashlib.sha256(name.encode()).hexdigest()
    draws = np.random.default_rng(int(key[:8], 16)).random((tasks + 1, tasks, n))
    rows = tuple(
        Row.scored(step, task, draws[step, task] < accuracy)
        for step in range(tasks + 1)
        for task in range(tasks)
    )
    ended = datetime.datetime(2026, 1, 1, 12, minute, tzinfo=datetime.UTC)
    ok = status == "ok"
    return Record(
        **{
            "key": key,
            "cell": Cell(
                method=method, stream=stream, backbone=backbone, order=order, seed=seed, options=options
            ),
            "status": status,
            "reason": "" if ok else "the loss turned NaN",
            "contract": contract,
            "rows": rows if ok else (),
            "metrics": continual_metrics(rows) if ok else {},
            "cost": cost,
            "env": Env(device="cpu", dtype=dtype, threads=2),
            "started": ended,
            "ended": ended,
            "fingerprints": {task: f"images of task {task}" for task in range(tasks)},
            **fields,
        }
    )
