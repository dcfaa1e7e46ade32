"""A linear probe's whole selection from cached features against a plain loop that computes them each time."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bare import Bare
from measure import Pairs, Row, quartiles, timed
from torch import Tensor, nn
from workload import CLASSES, EVAL_BATCH, SIDE, Setup, make, pictures, terminal

from backbones.backbone import Backbone
from benchmarks.images import Labelled
from benchmarks.store import Store
from benchmarks.stream import Exam, StreamInfo, Task
from carryover.cells.selection import Rule, candidates, select
from carryover.commands.screen import shown
from carryover.metrics.transfer import transfer_metrics
from carryover.protocols import transfer
from carryover.protocols.journal import CellJournal
from carryover.protocols.work import Work
from methods.base import Method
from methods.linear_probe import LinearProbe

BOUND = 10.0
SEEDS = 5
RULE = Rule(candidates=28, epochs=5)
BATCH = LinearProbe.Config().batch_size


def selection(setup: Setup) -> Iterator[Row]:
    """28 candidates on train, scored on val, then 5 seeds on both; the cache is empty at first."""
    train, val, test = (160, 40, 60) if setup.quick else (800, 200, 500)
    rule = Rule(4, 2) if setup.quick else RULE
    parts = [pictures(count, seed) for seed, count in enumerate((train, val, test))]
    tried = len(candidates(LinearProbe.Config(), {}, rule))
    found = Pairs()
    with terminal():
        for number in range(1 if setup.quick else 3):
            folder = setup.scratch / f"selection {number}"
            for work, kept, processor in (
                (_ours, found.ours, found.cpu[0]),
                (_plain, found.theirs, found.cpu[1]),
            ):
                seconds, cpu = timed(lambda: work(setup.backbone, parts, rule, folder), setup.device)  # noqa: B023
                kept.append(seconds)
                processor.append(cpu)
    ratio = statistics.median(found.ratios())
    yield Row(
        name="selection",
        compared=f"linear probe, {tried} candidates and {SEEDS} seeds, from cached features / computing them "
        f"each time: {setup.network(setup.backbone)}, {train} + {val} train, {test} test images",
        unit="s",
        ours=statistics.median(found.ours),
        theirs=statistics.median(found.theirs),
        ratio=ratio,
        spread=quartiles(found.ratios()),
        cpu_ratio=found.cpu_ratio(),
        bound=f">= {BOUND:g}",
        met=ratio >= BOUND,
        note="" if tried == rule.candidates else f"the search space has no {rule.candidates} candidates",
        samples={"ours_s": found.ours, "theirs_s": found.theirs},
    )


def _ours(backbone: Backbone, parts: list[Labelled], rule: Rule, folder: Path) -> list[float]:
    """The accuracies by seed."""
    backbone = backbone.copy()
    backbone.store = Store(folder / "store")
    train, val, test = parts
    classes = tuple(range(CLASSES))
    info = StreamInfo(
        name="pictures",
        protocol="transfer",
        scenario="task",
        classes=(classes,),
        class_names=train.class_names,
        order=None,
        data=train.fingerprint,
        rule="drawn",
        image_size=(SIDE, SIDE),
        sizes=((len(train), len(val), len(test)),),
        task_names=("pictures",),
    )

    def made(info: StreamInfo, *, part: str = "", config: Any = None, journaled: bool = True) -> Method:
        return make(LinearProbe, config or LinearProbe.Config(), backbone, info, folder / "stages")

    accuracies = []
    for seed in range(SEEDS):
        work = Work(
            make=made,
            backbone=backbone,
            info=info,
            tasks=[Task(0, train, val, classes)],
            exam=Exam({0: test}, {0: classes}),
            pool=None,
            journal=CellJournal(folder / f"journal {seed}"),
            progress=shown(),
            tables={},
        )
        choice = folder / "choice.json"  # the first seed makes it
        configs, _ = select(
            transfer.validation_runs(work), LinearProbe.Config(), {}, rule, choice, work.progress
        )
        result = transfer.run(dataclasses.replace(work, configs=configs))
        accuracies.append(transfer_metrics(result.rows, info.task_names, ())["accuracy_mean"])
    return accuracies


def _plain(backbone: Backbone, parts: list[Labelled], rule: Rule, folder: Path) -> list[float]:
    """What one writes by hand: the network runs over the images again for every fit."""
    train, val, test = parts
    space = LinearProbe.Config.search
    grid = itertools.product(space["lr"], space["weight_decay"])
    epochs = rule.epochs
    scored = [
        (_fit(backbone, [train], val, lr, decay, epochs), -lr, decay)
        for lr, decay in itertools.islice(grid, rule.candidates)
    ]
    _, negative, decay = max(scored)
    return [_fit(backbone, [train, val], test, -negative, decay, epochs) for _ in range(SEEDS)]


def _fit(
    backbone: Backbone, parts: list[Labelled], held: Labelled, lr: float, decay: float, epochs: int
) -> float:
    data = Labelled.join(parts)
    features = _features(backbone, data)
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    features, labels = (features - mean) / deviation, torch.from_numpy(data.labels)
    head = nn.Linear(features.shape[1], CLASSES)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9, weight_decay=decay)
    steps = epochs * -(-len(data) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(BATCH):
            loss = F.cross_entropy(head(features[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        answers = head((_features(backbone, held) - mean) / deviation).argmax(1)
    return float((answers == torch.from_numpy(held.labels)).float().mean())


@torch.no_grad()
def _features(backbone: Backbone, data: Labelled) -> Tensor:
    bare = Bare(backbone, data, training=False)
    bare.net.eval()
    found = []
    for pixels in bare.pixels.split(EVAL_BATCH):
        with bare.numerics.autocast():
            found.append(bare.net(bare._prepare(pixels)).float().cpu())
    return torch.cat(found)
