"""MEAT: its pruned evaluation against the masked-dense one, its training against full fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from measure import Row, interleave, rates
from workload import BATCH, CLASSES, EVAL_BATCH, Setup, make, one_task, pictures, terminal

from carryover.protocols.rounding import Rounding
from methods.full_finetune import FullFinetune
from methods.meat import MEAT
from methods.meat.ffn import FFN
from methods.meat.masks import pack_bits

TRAINING = 0.85
KINDS: tuple[FFN, ...] = ("elementwise", "neuron", "none")
KEEPS: tuple[tuple[float, FFN], ...] = ((0.9, "none"), (0.5, "none"), (0.3, "none"), (0.5, "neuron"))


def pruned(setup: Setup) -> Iterator[Row]:
    """Independent random masks for every block; bounded is the difference of the logits, not the ratio."""
    data = pictures(64 if setup.quick else EVAL_BATCH)
    info, _ = one_task(data)
    with terminal():
        for keep, ffn in KEEPS:
            methods = []
            for evaluation in ("pruned", "dense"):
                config = MEAT.Config(ffn=ffn, evaluation=evaluation)
                method = make(MEAT, config, setup.backbone, info, setup.scratch / "journal")
                method.restore(_learnt(method, keep))
                methods.append(method)
            fast, dense = methods
            rounding = Rounding(partial(dense.predict, data.inputs, 0))
            logits, quick = rounding.result, fast.predict(data.inputs, 0)
            apart = float((quick - logits).abs().max())
            pairs = interleave(
                lambda: fast.predict(data.inputs, 0),  # noqa: B023
                lambda: dense.predict(data.inputs, 0),  # noqa: B023
                setup.pairs,
                setup.device,
            )
            found = rates(
                "pruned",
                f"MEAT pruned / masked-dense evaluation: keep {keep:g}, ffn {ffn}, "
                f"{setup.network(setup.backbone)}, batch {EVAL_BATCH}",
                len(data),
                pairs,
                note=f"max |difference| {apart:.1e} of logits with deviation {float(logits.std()):.2f}",
            )
            yield replace(found, bound="diff by rounding", met=not rounding.unexplained(quick))


def meat(setup: Setup) -> Iterator[Row]:
    """Learning one task, the whole path for both."""
    steps = 2 if setup.quick else 6
    data = pictures(steps * BATCH)
    info, task = one_task(data)
    epoch = FullFinetune.Config(epochs=1, batch_size=BATCH, min_steps=0)
    with terminal():
        full = make(FullFinetune, epoch, setup.backbone, info, setup.scratch / "journal")
        for kind in KINDS:
            # So small a gamma that a bit can flip within an epoch this short: no warning is in the way.
            config = MEAT.Config(ffn=kind, gamma=0.1, epochs=1, batch_size=BATCH, min_steps=0)
            ours = make(MEAT, config, setup.backbone, info, setup.scratch / "journal")
            pairs = interleave(
                lambda: ours.learn(task),  # noqa: B023
                lambda: full.learn(task),
                setup.pairs,
                setup.device,
            )
            yield rates(
                "meat",
                f"MEAT.learn / full_finetune.learn: ffn {kind}, {setup.network(setup.backbone)}, "
                f"batch {BATCH}",
                len(data),
                pairs,
                at_least=TRAINING,
            )


def _learnt(method: MEAT, keep: float) -> dict[str, torch.Tensor]:
    """The state of a method that has learnt one task: random masks, a head whose logits are of order 1."""
    source, width = torch.Generator().manual_seed(0), method.backbone.info.width
    bits = [torch.rand(mask.logits.shape, generator=source) < keep for mask in method._masks()]
    return {
        "learnt": torch.tensor([0]),
        "task.0.masks": pack_bits(bits),
        "head.0.weight": torch.randn(CLASSES, width, generator=source) / width**0.5,
        "head.0.bias": torch.zeros(CLASSES),
    }
