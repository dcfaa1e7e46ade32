"""How good a backbone is: its classifier on held-out images, and a linear probe on another source.

The probe is the one that a backbone's card states: logistic regression (C = 0.1) on standardised
features of the first 10,000 training images, scored on all test images.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from backbones.backbone import Backbone
from backbones.loading import Loader
from backbones.numerics import Numerics
from backbones.preprocessing import Preprocessing
from backbones.pretraining.objectives import Objective
from benchmarks.images import Inputs, Labelled
from benchmarks.progress import Progress
from benchmarks.seeds import derive
from benchmarks.sources.source import SourceData

PROBE_IMAGES = 10_000
PROBE_C = 0.1


@torch.no_grad()
def top1(
    net: nn.Module, data: Labelled, preprocessing: Preprocessing, numerics: Numerics, progress: Progress
) -> float:
    """The share of `data` that `net`, with a classifier over its classes, gets right."""
    net.eval()
    right = 0
    with progress.bar("validation", len(data), "images") as bar:
        for positions, pixels in Loader(data.inputs, numerics.device).batches(np.arange(len(data)), 256):
            with numerics.autocast():
                logits: Tensor = net(preprocessing(pixels))
            right += int((logits.argmax(1).cpu().numpy() == data.labels[positions]).sum())
            bar.advance(len(positions))
    return right / len(data)


@torch.no_grad()
def held_out_loss(
    objective: Objective, inputs: Inputs, preprocessing: Preprocessing, numerics: Numerics
) -> float:
    """The objective on images that are not augmented (simclr's second view is the mirrored image)."""
    objective.eval()
    losses: list[Tensor] = []
    labels = torch.empty(0, dtype=torch.long, device=numerics.device)
    devices = [torch.device(numerics.device)] if numerics.device != "cpu" else []
    order = np.arange(len(inputs) // 2 * 2)  # SimCLR cannot tell one image from itself
    with torch.random.fork_rng(devices=devices), numerics.autocast():
        torch.manual_seed(derive("pretrain", "held out"))
        for _, pixels in Loader(inputs, numerics.device).batches(order, 256):
            images = preprocessing(pixels)
            views = torch.cat([images, images.flip(-1)]) if objective.views == 2 else images
            losses.append(objective(views, labels).float())
    return float(torch.stack(losses).mean())


def probe(backbone: Backbone, source: SourceData, progress: Progress) -> tuple[float, float]:
    """(linear probe, nearest class mean): shares of the source's test images that are right."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train = source.train.select(np.arange(min(PROBE_IMAGES, len(source.train))))
    x, x_test = (backbone.features(part.inputs, progress=progress).numpy() for part in (train, source.test))
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation == 0] = 1  # a channel that says nothing
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=PROBE_C, max_iter=500).fit(x, train.labels)
    linear = float((fitted.predict(x_test) == source.test.labels).mean())
    seen = np.unique(train.labels)
    means = np.stack([x[train.labels == label].mean(0) for label in seen])
    distances = (means**2).sum(1) - 2 * x_test @ means.T
    nearest = float((seen[distances.argmin(1)] == source.test.labels).mean())
    return linear, nearest


@torch.no_grad()
def inference_rate(backbone: Backbone, images: int = 256, repeats: int = 3) -> float:
    """Images per second of a forward pass without preprocessing: the median of some batches."""
    height, width = backbone.info.input_size
    batch = torch.zeros(images, 3, height, width, device=backbone.device)
    backbone.eval()
    rates = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        backbone(batch).sum().item()
        rates.append(images / (time.perf_counter() - started))
    return float(np.median(rates[1:]))
