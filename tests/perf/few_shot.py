"""A few-shot evaluation from cached token maps, against the network run over every episode again."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Row, timed
from workload import Setup, make, terminal

from backbones.backbone import Backbone
from benchmarks.store import Store
from benchmarks.stream import Place, Stream, StreamInfo
from benchmarks.streams.episodes import EpisodeStream
from carryover.commands.screen import shown
from carryover.metrics.few_shot import FewShot
from carryover.protocols import few_shot
from carryover.protocols.journal import CellJournal
from carryover.protocols.work import Work
from methods.base import Method
from methods.crosstransformer import CrossTransformer

EPISODES, IMAGES_PER_CLASS = 600, 60
WAY, SUPPORT, QUERIES = 10, 100, 5  # at most, as are images per class


def few_shot_evaluation(setup: Setup) -> Iterator[Row]:
    """CrossTransformer (its head random, which costs the same) over one drawn source; the cache is empty."""
    count = 20 if setup.quick else EPISODES
    parameters = EpisodeStream.Parameters(
        episodes=count,
        way=WAY,
        support=SUPPORT,
        queries=QUERIES,
        classes="all",
        per_class=IMAGES_PER_CLASS,
    )
    stream = EpisodeStream("episodes:objects", parameters, Place(Store(setup.scratch / "drawn")))
    folder, accuracies = setup.scratch / "few-shot", list[float]()
    with terminal():
        ours = timed(lambda: accuracies.append(_ours(setup.backbone, stream, folder)), setup.device)
        theirs = timed(lambda: accuracies.append(_plain(setup.backbone, stream, folder)), setup.device)
    tasks, exam = stream.open(0)
    images = sum(len(task.train) + len(exam.inputs(task.id)) for task in tasks)
    yield Row(
        name="few-shot",
        compared=f"{count} episodes of at most {SUPPORT} support images, cached token maps / computing them "
        f"in each: ViT 192x6, patch 8, 64 px, {images:,} images, of which "
        f"{len(stream.info.class_names) * IMAGES_PER_CLASS:,} differ at most",
        unit="episodes/s",
        ours=count / ours[0],
        theirs=count / theirs[0],
        ratio=theirs[0] / ours[0],
        cpu_ratio=theirs[1] / ours[1],
        note=f"one pair; mean accuracies differ by {abs(accuracies[0] - accuracies[1]):.1e}",
        samples={"ours_s": [ours[0]], "theirs_s": [theirs[0]]},
    )


def _ours(backbone: Backbone, stream: Stream, folder: Path) -> float:
    """The protocol, as a user runs it; the mean accuracy."""
    backbone = backbone.copy()
    backbone.store = Store(folder / "store")

    def made(info: StreamInfo, *, part: str = "", config: Any = None, journaled: bool = True) -> Method:
        return make(
            CrossTransformer, CrossTransformer.Config(head="random"), backbone, info, folder / "stages"
        )

    tasks, exam = stream.open(0)
    work = Work(
        make=made,
        backbone=backbone,
        info=stream.info,
        tasks=tasks,
        exam=exam,
        pool=None,
        journal=CellJournal(folder / "journal"),
        progress=shown(),
        tables={},
    )
    return FewShot().metrics(few_shot.run(work).rows, stream.info.task_names, ())["accuracy_mean"]


@torch.no_grad()
def _plain(backbone: Backbone, stream: Stream, folder: Path) -> float:
    """What one writes by hand: the network over the images of every episode, then the head."""
    backbone = backbone.copy()
    method = make(
        CrossTransformer, CrossTransformer.Config(head="random"), backbone, stream.info, folder / "none"
    )
    head = method.head
    tasks, exam = stream.open(0)
    accuracies = []
    for task in tasks:
        support, query = (backbone.tokens(i) for i in (task.train.inputs, exam.inputs(task.id)))
        labels = torch.from_numpy(task.train.labels).to(backbone.device)
        maps = (support.to(backbone.device), labels, query.to(backbone.device))
        answers = head(*maps, len(task.classes), "sdpa").argmax(1).cpu().numpy()
        hits = exam.score(task.id, np.asarray(task.classes)[answers])
        accuracies.append(hits.mean())
    return float(statistics.fmean(accuracies))
