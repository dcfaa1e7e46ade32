"""TOAST against the plain network in wall time: evaluation, its first pass kept or not, and training."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from measure import Row, interleave, rates
from workload import BATCH, CLASSES, EVAL_BATCH, Setup, make, one_task, pictures, terminal

from benchmarks.store import Store
from methods.full_finetune import FullFinetune
from methods.toast import TOAST

# TOAST's options, and the share of the plain network's speed that its multiply-adds allow.
FORMS = (
    ({"cache": False}, 1 / 2.25),
    ({"cache": False, "late": 3}, 1 / 1.65),
    ({"cache": True}, None),
    ({"cache": True, "late": 3}, None),
)


def toast(setup: Setup) -> Iterator[Row]:
    """Evaluation; the first pass is in the store before the clock starts."""
    data = pictures(64 if setup.quick else EVAL_BATCH)
    info, task = one_task(data)
    head = {"weight": torch.zeros(CLASSES, setup.backbone.info.width), "bias": torch.zeros(CLASSES)}
    backbone = setup.backbone.copy()
    backbone.store = Store(setup.scratch / "toast")
    with terminal():
        plain = make(FullFinetune, FullFinetune.Config(), setup.backbone, info, setup.scratch / "journal")
        plain.heads.open(0, plain.backbone.device)
        for options, least in FORMS:
            ours = make(
                TOAST, TOAST.Config(per_task=False, **options), backbone, info, setup.scratch / "journal"
            )
            ours.heads.open(0, ours.backbone.device)
            ours.heads.linear("0").load_state_dict(head)
            pairs = interleave(
                lambda: ours.predict(data.inputs, 0),  # noqa: B023
                lambda: plain.predict(data.inputs, 0),
                setup.pairs,
                setup.device,
            )
            said = ", ".join(f"{name}={value}" for name, value in options.items())
            yield rates(
                "toast",
                f"TOAST / plain evaluation: {said}, {setup.network(setup.backbone)}, batch {EVAL_BATCH}",
                len(data),
                pairs,
                at_least=least,
            )
        epoch = {"epochs": 1, "batch_size": BATCH, "min_steps": 0}
        full = make(
            FullFinetune, FullFinetune.Config(**epoch), setup.backbone, info, setup.scratch / "journal"
        )
        ours = make(TOAST, TOAST.Config(**epoch), setup.backbone, info, setup.scratch / "journal")
        pairs = interleave(lambda: ours.learn(task), lambda: full.learn(task), setup.pairs, setup.device)
        yield rates(
            "toast",
            f"TOAST.learn / full_finetune.learn: {setup.network(setup.backbone)}, batch {BATCH}",
            len(data),
            pairs,
        )
