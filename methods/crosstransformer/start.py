"""Which head a run starts from: one in a file, one meta-trained on the stream's pool, or a random one."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import safetensors.torch
import timm
import torch

from backbones.backbone import Backbone
from benchmarks.errors import RequestError
from benchmarks.stream import Pool
from methods.base.prepared import store_key
from methods.crosstransformer.heads import Card, load_head, shipped
from methods.crosstransformer.meta_training import Outcome, Schedule, meta_train
from methods.crosstransformer.network import NetworkEpisodes
from methods.crosstransformer.views import FrozenEpisodes

if TYPE_CHECKING:
    from methods.crosstransformer import CrossTransformer

SHAPE = "d_k", "d_v", "norm", "scale", "mode"  # options that a run must share with the head in its file
SEED = 0  # of meta-training, whatever the cell's seed: it is made once
ON_CPU, ON_ACCELERATOR = 2_000, 100_000  # updates


def file_of(config: Any, backbone: Backbone) -> Path | None:
    """The file that the head is read from; None for one that is trained or random.

    What ships serves where all that shapes meta-training, SimCLR's share aside, is the default.
    """
    if config.head in ("random", "train"):
        return None
    if config.head:
        return Path(config.head).expanduser()
    plain = type(config)(simclr=config.simclr, max_support=config.max_support)
    return shipped(backbone.name, config.simclr) if config == plain else None


def started(method: CrossTransformer, pool: Pool | None) -> Card | None:
    """Give `method` the head that its config asks for; says how it was trained, None for one that was not.

    RequestError for a file that does not fit, and where there is neither file nor pool.
    """
    config, backbone, context = method.config, method.backbone, method.context
    if config.head == "random":
        context.progress.warn(f"{method.name}: head=random was not trained at all")
        return None
    file = file_of(config, backbone)
    if file is not None:
        tensors, card = load_head(file, backbone)
        _check(card, config, file)
        method.take(tensors)
        return card
    if pool is None:
        raise RequestError(
            f"{method.name}: no head ships for {backbone.name} with these options, and "
            f"{context.info.name} has no pool to train one on; name a file (head=PATH), take a "
            "stream with a pool, or head=random, which is not trained"
        )
    return _trained_once(method, pool)


def _check(card: Card, config: Any, file: Path) -> None:
    def said(owner: Any) -> str:
        return ", ".join(f"{name}={getattr(owner, name)}" for name in differing)

    differing = [name for name in SHAPE if getattr(card, name) != getattr(config, name)]
    if differing:
        asked = f"{said(config)} {'is' if len(differing) == 1 else 'are'} asked for"
        raise RequestError(
            f"the head {file} has {said(card)} and {asked}; say {said(card)}, or take head=train"
        )


def _trained_once(method: CrossTransformer, pool: Pool) -> Card:
    """Meta-train on the pool, or read what an earlier run kept."""
    config, backbone, store = method.config, method.backbone, method.backbone.store
    if store is None:
        return _train(method, pool)

    def make(folder: Path) -> None:
        card = _train(method, pool)
        safetensors.torch.save_file(method.trained(), folder / "head.safetensors")
        (folder / "card.json").write_bytes(msgspec.json.encode(card))

    asked = dataclasses.replace(config, head="", max_support=0, updates=_schedule(method).updates)
    validation = "" if pool.validation is None else pool.validation.fingerprint
    key = store_key(__package__ or "", backbone, pool.fingerprint, validation, asked, SEED)
    folder = store.get("crosstransformer", key, make)
    method.take(safetensors.torch.load_file(folder / "head.safetensors"))
    return msgspec.json.decode((folder / "card.json").read_bytes(), type=Card)


def _train(method: CrossTransformer, pool: Pool) -> Card:
    config, backbone, context, started = method.config, method.backbone, method.context, time.monotonic()
    schedule = _schedule(method)
    method.head.requires_grad_(True)
    bank = 0
    try:
        if config.mode == "full":
            backbone.freeze(except_=lambda name: True)
            network = NetworkEpisodes(backbone, pool, SEED, config.simclr)
            outcome = meta_train(method.head, network, schedule, context.journal, context.progress)
        else:
            options = config.simclr, config.views, config.bank_images
            frozen = FrozenEpisodes(backbone, pool, SEED, *options, context.progress)
            bank = 0 if frozen.bank is None else len(frozen.bank.positions)
            outcome = meta_train(method.head, frozen, schedule, context.journal, context.progress)
    finally:
        method.head.requires_grad_(False)
        backbone.freeze()
        backbone.eval()
    return _card(method, pool, schedule, outcome, bank, time.monotonic() - started)


def _schedule(method: CrossTransformer) -> Schedule:
    config = method.config
    updates = config.updates or (ON_CPU if method.backbone.device.type == "cpu" else ON_ACCELERATOR)
    return Schedule(updates, config.lr, config.decay, config.decay_every or max(1, updates // 50))


def _card(
    method: CrossTransformer, pool: Pool, schedule: Schedule, outcome: Outcome, bank: int, seconds: float
) -> Card:
    config, backbone = method.config, method.backbone
    return Card(
        backbone=backbone.name,
        identity=backbone.identity,
        weights=backbone.weights,
        stream=method.context.info.name,
        pool=pool.fingerprint,
        mode=config.mode,
        d_k=config.d_k,
        d_v=config.d_v,
        norm=config.norm,
        scale=config.scale,
        updates=outcome.updates,
        best=outcome.best,
        simclr=config.simclr,
        most_support=outcome.most_support,
        bank_images=bank,
        views=config.views if bank else 0,
        lr=schedule.lr,
        decay=schedule.decay,
        decay_every=schedule.decay_every,
        seed=SEED,
        accuracy=outcome.accuracy,
        loss=outcome.loss,
        numerics=backbone.numerics.describe(),
        versions={"torch": str(torch.__version__), "timm": timm.__version__},
        seconds=round(seconds, 1),
    )
