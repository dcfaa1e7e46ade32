"""Our training and evaluation against bare loops: what loader, journal, bars and generality cost."""

from __future__ import annotations

from collections.abc import Iterator

from bare import Bare
from measure import Row, interleave, rates
from workload import BATCH, EVAL_BATCH, Setup, make, one_task, pictures, terminal

from backbones.backbone import Backbone
from methods.full_finetune import FullFinetune

BOUND = 0.97


def training(setup: Setup) -> Iterator[Row]:
    """`full_finetune` learning a task against a bare epoch; both resize, normalise and flip in batches."""
    yield _train(setup, setup.backbone, steps=2 if setup.quick else 6, at_least=BOUND)
    # A network of milliseconds shows what a step costs beside it; there is no bound on that.
    yield _train(setup, setup.tiny, steps=20 if setup.quick else 60, at_least=None)


def evaluation(setup: Setup) -> Iterator[Row]:
    """`predict` against a bare loop without gradients."""
    yield _evaluate(setup, setup.backbone, batches=1 if setup.quick else 4, at_least=BOUND)
    yield _evaluate(setup, setup.tiny, batches=8 if setup.quick else 20, at_least=None)


def _train(setup: Setup, backbone: Backbone, steps: int, at_least: float | None) -> Row:
    data = pictures(steps * BATCH)
    info, task = one_task(data)
    config = FullFinetune.Config(epochs=1, batch_size=BATCH, min_steps=0, warmup_epochs=0.0)
    bare = Bare(backbone, data, training=True)
    with terminal():
        ours = make(FullFinetune, config, backbone, info, setup.scratch / "journal")
        pairs = interleave(
            lambda: ours.learn(task), lambda: bare.train(BATCH, config.lr), setup.pairs, setup.device
        )
    return rates(
        "training",
        f"full_finetune.learn / bare loop: {setup.network(backbone)}, flips, AdamW, batch {BATCH}",
        len(data),
        pairs,
        at_least=at_least,
        note=_apart(pairs.ours, pairs.theirs, steps, "step"),
    )


def _evaluate(setup: Setup, backbone: Backbone, batches: int, at_least: float | None) -> Row:
    data = pictures(batches * EVAL_BATCH)
    info, task = one_task(pictures(BATCH))
    config = FullFinetune.Config(epochs=1, batch_size=BATCH, min_steps=0)
    bare = Bare(backbone, data, training=False)
    with terminal():
        ours = make(FullFinetune, config, backbone, info, setup.scratch / "journal")
        ours.learn(task)
        pairs = interleave(
            lambda: ours.predict(data.inputs, 0), lambda: bare.predict(EVAL_BATCH), setup.pairs, setup.device
        )
    return rates(
        "evaluation",
        f"full_finetune.predict / bare no_grad loop: {setup.network(backbone)}, batch {EVAL_BATCH}",
        len(data),
        pairs,
        at_least=at_least,
        note=_apart(pairs.ours, pairs.theirs, batches, "batch"),
    )


def _apart(ours: list[float], theirs: list[float], count: int, unit: str) -> str:
    milliseconds = sorted((a - b) / count * 1e3 for a, b in zip(ours, theirs, strict=True))[len(ours) // 2]
    return f"ours takes {milliseconds:+.2f} ms per {unit}"
