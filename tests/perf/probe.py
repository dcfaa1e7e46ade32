"""The exact linear probe on cached features against the same with an empty cache."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from measure import Pairs, Row, quartiles, timed
from workload import Setup, make, one_task, pictures, terminal

from backbones.backbone import Backbone
from benchmarks.store import Store
from methods.linear_probe import LinearProbe

BOUND = 20.0


def probe(setup: Setup) -> Iterator[Row]:
    """Learning a task and predicting its test images, twice with one store: the second finds features."""
    train, test = (200, 56) if setup.quick else (2000, 500)
    data, exam = pictures(train), pictures(test, seed=1).inputs
    info, task = one_task(data)
    config = LinearProbe.Config(solver="exact")
    found = Pairs()

    def run(backbone: Backbone) -> None:
        method = make(LinearProbe, config, backbone, info, setup.scratch / "journal")
        method.learn(task)
        method.predict(exam, 0)

    with terminal():
        for number in range(min(setup.pairs, 5)):
            # A store of its own for each pair: the first run fills it, the second reads it.
            backbone = setup.backbone.copy()
            backbone.store = Store(setup.scratch / f"features {number}")
            for kept, processor in ((found.theirs, found.cpu[1]), (found.ours, found.cpu[0])):
                seconds, cpu = timed(lambda: run(backbone), setup.device)  # noqa: B023
                kept.append(seconds)
                processor.append(cpu)
    ratio = statistics.median(found.ratios())
    yield Row(
        name="probe",
        compared=f"exact linear probe, second run / first run: {setup.network(setup.backbone)}, "
        f"{train} train, {test} test images",
        unit="s",
        ours=statistics.median(found.ours),
        theirs=statistics.median(found.theirs),
        ratio=ratio,
        spread=quartiles(found.ratios()),
        cpu_ratio=found.cpu_ratio(),
        bound=f">= {BOUND:g}",
        met=ratio >= BOUND,
        samples={"ours_s": found.ours, "theirs_s": found.theirs},
    )
