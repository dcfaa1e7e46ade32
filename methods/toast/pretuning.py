"""Pre-tuning (section 3.3): A, C and xi on the source data, by cross-entropy on the second pass and L_var.

    L = CE + w sum_l mean((sg(y_l) A_l^T - sg(x_l))^2)      w = 0.1, for ConvNets 0.01

The paper's repository holds no recipe; this one is the project's: AdamW, cosine, a head of its own that is
dropped afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from backbones.augment import Augment, augment
from backbones.backbone import Backbone
from backbones.loading import Loader
from backbones.training import Batch, Fit, Journal, Optimization, ParameterGroup, fit, groups_of
from benchmarks.images import Labelled
from benchmarks.progress import Progress
from benchmarks.seeds import derive
from methods.toast.feedback import Seen
from methods.toast.passes import TwoPasses

STAGE = "pre-tuning"


@dataclass(frozen=True)
class Plan:
    """How long and how; seed: of order, flips and head; mirror: whether a mirrored image keeps its class."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    variational: float
    augment: Augment
    mirror: bool
    seed: int


def pretune(
    passes: TwoPasses,
    backbone: Backbone,
    pool: Labelled,
    plan: Plan,
    journal: Journal,
    progress: Progress,
    workers: int = 2,
    maps: Tensor | None = None,
) -> Fit:
    """Train the feedback of `passes` on `pool`; `backbone` is what it feeds.

    maps: the first pass of all images, read instead of computed; only where nothing is augmented.
    """
    device = backbone.device
    head = _head(backbone.info.width, len(pool.class_names), plan.seed).to(device)
    trained = list(passes.feedback.pretuned().values())
    labels = torch.from_numpy(pool.labels).to(device)
    loader = Loader(pool.inputs, device, workers)
    steps = math.ceil(len(pool) / plan.batch_size)
    if plan.augment != "none":
        maps = None

    def epoch_of(epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng(derive("order", plan.seed, epoch)).permutation(len(pool))
        flips = torch.Generator(device).manual_seed(derive("augment", plan.seed, epoch))
        for positions, pixels in loader.batches(order, plan.batch_size):
            images = augment(backbone.prepare(pixels), plan.augment, plan.mirror, flips)
            yield images, torch.from_numpy(positions).to(device)

    def loss_of(images: Tensor, positions: Tensor) -> Tensor:
        seen: list[Seen] = []
        known = None
        if maps is not None:
            known = passes.chain.shaped(maps[positions.cpu()].to(device), backbone.info.grid)
        out = passes(images, known, seen)
        features = backbone.net.forward_head(out, pre_logits=True)  # type: ignore[operator]
        loss = cross_entropy(head(features.float()), labels[positions])
        return loss + plan.variational * passes.feedback.variational(seen)

    wanted = [(parameter, parameter.requires_grad) for parameter in passes.feedback.parameters()]
    backbone.eval()  # a frozen network drops nothing
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(any(parameter is one for one in trained))
        return fit(
            loss_of,
            [
                ParameterGroup(trained, plan.lr, plan.weight_decay),
                *groups_of(head.named_parameters(), plan.lr, plan.weight_decay),
            ],
            epoch_of,
            steps,
            Optimization(plan.epochs),
            numerics=backbone.numerics,
            seed_of=lambda epoch: derive("global", plan.seed, epoch),
            stage=STAGE,
            journal=journal,
            progress=progress,
        )
    finally:
        for parameter, before in wanted:
            parameter.requires_grad_(before)


def _head(width: int, classes: int, seed: int) -> nn.Linear:
    head = nn.Linear(width, classes)
    with torch.no_grad():
        head.weight.copy_(torch.randn(classes, width, generator=torch.Generator().manual_seed(seed)) * 0.02)
        head.bias.zero_()
    return head
