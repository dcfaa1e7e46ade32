"""The settings of a pretraining run: everything that shapes the weights is here and in the card."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from torch import nn

from benchmarks.errors import RequestError
from benchmarks.sources.source import SourceData


@dataclass(frozen=True)
class Settings:
    """
    epochs: passes over the source's training images
    sizes: progressive resolution, SIZE:EPOCHS joined by commas (32:22,64:6), in place of `epochs`; the
        network's own size throughout by default
    batch_size: images per step
    optimizer: "adamw", or "muon", which learns a transformer in fewer epochs of up to twice the time
    lr: the learning rate at the end of the warm-up; a cosine takes it to zero
    weight_decay: of matrices; biases, norms and position codes have none
    warmup_epochs: linear warm-up
    clip_norm: the largest norm of the gradient; 0 turns clipping off
    augment: "standard" (crops of at least `crop` of the area, flips, colours), "crop" (crops and flips) or
        "none"; simclr strengthens the colours and adds grey images
    crop: the smallest share of an image's area that a crop shows
    mixup, cutmix: alpha of their beta distributions, one of the two drawn for each batch; 0 turns it off
    label_smoothing: of the cross-entropy
    ema: decay of the moving average of the weights, which is what is kept; 0 keeps the last weights
    teacher: a backbone whose weights hold a classifier over the same classes; its logits on the same
        augmented images are distilled (Hinton et al. 2015)
    distill: the teacher's share of the loss
    taught_from: side in pixels of the smallest images that the teacher is used for
    temperature: of the distillation's softmax, or of simclr's
    mask_ratio: share of patches that mae removes
    seed: of the initial weights and everything drawn
    """

    epochs: int = 30
    sizes: str = ""
    batch_size: int = 128
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 2.0
    clip_norm: float = 1.0
    augment: Literal["standard", "crop", "none"] = "standard"
    crop: float = 0.35
    mixup: float = 0.2
    cutmix: float = 1.0
    label_smoothing: float = 0.1
    ema: float = 0.999
    teacher: str = ""
    distill: float = 0.5
    taught_from: int = 0
    temperature: float = 1.0
    mask_ratio: float = 0.75
    seed: int = 0


# Where the objectives' own papers differ from the defaults above.
DEFAULTS: dict[str, dict[str, object]] = {
    "supervised": {},
    # He et al. 2022: crops and flips only; the full-scale rate is 1.5e-4 per 256 images.
    "mae": {
        "augment": "crop",
        "crop": 0.2,
        "mixup": 0.0,
        "cutmix": 0.0,
        "label_smoothing": 0.0,
        "lr": 1.5e-3,
    },
    # Chen et al. 2020.
    "simclr": {"crop": 0.2, "mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0, "temperature": 0.1},
}


@dataclass(frozen=True)
class Stage:
    """`epochs` epochs with images of `size` pixels a side."""

    size: int
    epochs: int


def stages_of(settings: Settings, own: int) -> tuple[Stage, ...]:
    """The stages in order; `own` is the side of the network's images. RequestError for malformed `sizes`."""
    if not settings.sizes:
        return (Stage(own, settings.epochs),)
    stages = []
    for part in settings.sizes.split(","):
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", part.strip()):
            raise RequestError(
                f"sizes={settings.sizes}: {part!r} is not SIZE:EPOCHS; write, for example, 32:22,64:6"
            )
        size, _, epochs = part.strip().partition(":")
        stages.append(Stage(int(size), int(epochs)))
    if stages[-1].size != own:
        raise RequestError(
            f"sizes={settings.sizes} ends at {stages[-1].size} px, but the network is used at {own}; "
            f"end with {own}:EPOCHS"
        )
    return tuple(stages)


def size_at(stages: tuple[Stage, ...], epoch: int) -> int:
    """The side in pixels of the images of `epoch`, counted from 0."""
    for stage in stages:
        if epoch < stage.epochs:
            return stage.size
        epoch -= stage.epochs
    return stages[-1].size


def check(settings: Settings) -> None:
    """RequestError for a setting outside its range."""
    limits = {
        "epochs": (1, 10**5),
        "batch_size": (2, 10**6),
        "crop": (0.01, 1.0),
        "label_smoothing": (0.0, 0.99),
        "ema": (0.0, 0.999999),
        "distill": (0.0, 1.0),
        "taught_from": (0, 10**5),
        "temperature": (1e-3, 100.0),
        "mixup": (0.0, 100.0),
        "cutmix": (0.0, 100.0),
        "lr": (0.0, 100.0),
        "weight_decay": (0.0, 100.0),
        "warmup_epochs": (0.0, 10**5),
        "clip_norm": (0.0, 1e9),
    }
    for name, (low, high) in limits.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise RequestError(f"pretraining: {name}={value} lies outside {low} to {high}")


def check_source(name: str, source: SourceData, objective: str) -> None:
    """RequestError for a source with too few images, or too few classes for the objective."""
    if objective == "supervised" and len(source.class_names) < 2:
        raise RequestError(
            f"pretraining source {name} has one class, so there is nothing to classify; "
            "take another source, or objective mae or simclr, which need no labels"
        )
    if len(source.train) < 2:
        raise RequestError(
            f"pretraining source {name} has {len(source.train)} training image; two are needed"
        )


def check_stages(
    stages: tuple[Stage, ...], net: nn.Module, name: str, source: SourceData, objective: str
) -> None:
    """RequestError for images smaller than a patch of `net`, and for sizes that its patch does not divide."""
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", (1, 1))
    smallest = min(source.train.inputs.image_size)
    if smallest < max(patch):
        raise RequestError(
            f"the images of {name} have {smallest} pixels a side, less than the network's patch of "
            f"{patch[0]}x{patch[1]}; take larger images or a smaller patch_size"
        )
    for stage in stages:
        if any(stage.size % side for side in patch):
            raise RequestError(
                f"sizes: patch {patch[0]}x{patch[1]} does not divide images of {stage.size} px; "
                f"take a multiple of {max(patch)}"
            )
    if objective == "mae" and len(stages) > 1:
        raise RequestError("objective mae has a position code for one size; leave out sizes")
