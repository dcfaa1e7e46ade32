"""Where feedback starts: from a file, pre-tuned on a pool, or at random."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import safetensors.torch
import torch

from backbones.backbone import Backbone
from benchmarks.errors import RequestError
from benchmarks.seeds import derive
from benchmarks.stream import Pool
from methods.base.prepared import store_key
from methods.toast.pretuning import Plan, pretune
from methods.toast.shipped import describe, find, form_of, load, read_card

if TYPE_CHECKING:
    from methods.toast import TOAST

Origin = Literal["none", "pool", "file"]
ORIGINS: tuple[Origin, ...] = ("none", "pool", "file")  # their positions are what a state holds


def file_of(config: TOAST.Config, backbone: Backbone) -> Path | None:
    """The file that the feedback is read from; None where it is trained or drawn."""
    said = config.feedback
    if not said:
        return find(form_of(config, backbone))
    return None if said in ("none", "train") else Path(said).expanduser()


def started(method: TOAST, pool: Pool | None) -> tuple[Origin, str]:
    """Give `method` the feedback that its config asks for; where it comes from, and how it was made in words.

    Warns where it comes from nowhere.

    RequestError for a file that does not fit or is damaged, and if there is no pool to train on.
    """
    said = method.config.feedback
    file = file_of(method.config, method.backbone)
    if file is not None:
        _load(method, file)
        return "file", read_card(file).describe()
    if said == "train" and pool is None:
        raise RequestError(
            f"{method.name}: feedback=train needs a pool, and {method.context.info.name} has none; leave "
            "feedback out, or take a stream with a pool"
        )
    if pool is None or said == "none":
        why = "feedback=none" if said else "the stream has no pool and no file fits the network"
        method.context.progress.warn(
            f"{method.name}: {why}, so the feedback was not pre-tuned; "
            "the paper finds TOAST without pre-tuning below VPT"
        )
        return "none", ""
    _pretune(method, pool)
    plan, images = plan_of(method, pool), pool.images
    return "pool", describe(plan.epochs, len(images), len(images.class_names), "the stream's pool")


def plan_of(method: TOAST, pool: Pool) -> Plan:
    """How `method` is pre-tuned on `pool`."""
    config, backbone = method.config, method.backbone
    on_cpu = backbone.device.type == "cpu"
    convnet = backbone.info.family == "convnet"
    plan = Plan(
        epochs=config.pretune_epochs or (3 if on_cpu else 30),
        batch_size=config.batch_size,
        lr=config.pretune_lr,
        weight_decay=config.pretune_weight_decay,
        variational=config.variational if config.variational >= 0 else (0.01 if convnet else 0.1),
        augment="none" if on_cpu else config.augment,
        mirror=pool.mirror,
        seed=0,
    )
    options = (method.lite, config.value_bias, config.early, config.late, plan)
    seed = derive(
        "toast pre-tuning", backbone.identity, backbone.weights, pool.images.fingerprint, repr(options)
    )
    return dataclasses.replace(plan, seed=seed)


def _load(method: TOAST, file: Path) -> None:
    tensors = load(file, form_of(method.config, method.backbone))
    drawn = method.feedback.state_dict()
    rest = {name: drawn[name] for name in drawn.keys() - method.feedback.pretuned().keys()}
    try:
        method.feedback.load_state_dict(rest | tensors)
    except RuntimeError as error:
        reason = str(error).partition("\n")[2].strip().partition("\n")[0]
        raise RequestError(
            f"feedback {file} has other tensors than {method.name} on {method.backbone.name} ({reason}); "
            "take a file that was made for this network"
        ) from None


def _pretune(method: TOAST, pool: Pool) -> None:
    """Once for a network, a pool and options, whatever the stream's seed."""
    plan, feedback = plan_of(method, pool), method.feedback
    feedback.reset(torch.Generator().manual_seed(plan.seed))
    store = method.backbone.store
    if store is None:
        _train(method, pool, plan)
        return

    def make(folder: Path) -> None:
        _train(method, pool, plan)
        tensors = {name: t.detach().cpu() for name, t in feedback.state_dict().items()}
        safetensors.torch.save_file(tensors, folder / "feedback.safetensors")

    key = store_key(
        __package__ or "",
        method.backbone,
        plan,
        pool.fingerprint,
        form_of(method.config, method.backbone),
        method.lite,
    )
    folder = store.get("toast", key, make)
    feedback.load_state_dict(safetensors.torch.load_file(folder / "feedback.safetensors"))


def _train(method: TOAST, pool: Pool, plan: Plan) -> None:
    context, images = method.context, pool.images
    maps = method.first_pass(images.inputs, pool=True) if plan.augment == "none" else None
    pretune(
        method.two_passes,
        method.backbone,
        images,
        plan,
        context.journal,
        context.progress,
        context.workers,
        maps,
    )
