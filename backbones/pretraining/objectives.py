"""The pretraining objectives by name, each around the network whose weights are kept."""

from __future__ import annotations

import torch
from torch import nn

from backbones.architecture import build, preprocessing_of, spec_of
from backbones.families import family_of
from backbones.names import Spec
from backbones.pretraining.mae import MAE
from backbones.pretraining.settings import Settings
from backbones.pretraining.simclr import SimCLR
from backbones.pretraining.supervised import Supervised
from backbones.structure import pass_through
from backbones.weights import with_classifier, with_weights
from benchmarks.errors import RequestError
from benchmarks.seeds import derive

Objective = Supervised | MAE | SimCLR


def make_objective(
    name: str, spec: Spec, settings: Settings, classes: int, *, any_size: bool = False
) -> Objective:
    """The objective `name` with its network, on the CPU.

    The network's weights are drawn, or those that `spec` names; a classifier over `classes` (0: none) and
    whatever else trains are drawn. any_size: the network will see images of several sizes. RequestError
    for a network or a teacher that does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive("pretrain", "weights", spec.architecture, settings.seed))
        net = build(spec, classes, any_size)
        if name == "mae":
            objective: Objective = MAE(net, mask_ratio=settings.mask_ratio)
        elif name == "simclr":
            objective = SimCLR(net, temperature=settings.temperature)
        else:
            teacher, size = _teacher(spec, settings.teacher, classes) if settings.teacher else (None, None)
            objective = Supervised(
                net,
                settings.label_smoothing,
                teacher,
                settings.distill,
                settings.temperature,
                size,
                settings.taught_from,
            )
    if spec.weights not in (None, "random"):
        with torch.device("meta"):
            sketch = build(spec)
        started, _ = with_weights(spec, sketch)
        net.load_state_dict(started.state_dict(), strict=False)  # a classifier stays as drawn
    return objective


def _teacher(spec: Spec, name: str, classes: int) -> tuple[nn.Module, tuple[int, int] | None]:
    """The teacher and the size of its images; None for a ConvNet, which takes them as they come."""
    teacher = with_classifier(name)
    with torch.device("meta"):
        taught = spec_of(name)
        sketch = build(taught)
        own = preprocessing_of(sketch, taught)
        other = preprocessing_of(build(spec), spec)
    found = int(teacher.num_classes)  # type: ignore[arg-type]
    if found != classes:
        raise RequestError(
            f"teacher {name!r} has {found} classes, but the source has {classes}; take another teacher, or "
            "another source"
        )
    if own.normalisation != other.normalisation:
        raise RequestError(
            f"teacher {name!r} expects images of {own.normalisation}, the network {spec.canonical!r} of "
            f"{other.normalisation}; give both the same mean and std"
        )
    convnet = family_of(pass_through(sketch, own.size)) == "convnet"
    return teacher, None if convnet else own.size
