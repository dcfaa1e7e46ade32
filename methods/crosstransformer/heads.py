"""Meta-trained heads in files: NAME.safetensors with the weights, and beside it NAME.json, its card.

Those that ship lie in `head_files/`, named by the backbone that they were trained on. A head is of use with
the weights that it was trained on and no others, so both hashes are checked before it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import msgspec
import safetensors.torch
from torch import Tensor

from backbones.backbone import Backbone
from benchmarks.errors import DataError, RequestError
from benchmarks.store import write_atomic

FOLDER = Path(__file__).parent / "head_files"
SIMCLR = 0.5  # the share of converted episodes that needs no word in a file's name


class Card(msgspec.Struct, kw_only=True):
    """How a head was made.

    backbone, weights: name and whole hash; pool: fingerprint; stream: on whose pool; updates, best: how many,
    and the one that was kept; simclr: share of converted episodes; most_support: images of the largest
    support; bank_images, views: what converted episodes were drawn from; accuracy: mean over the validation
    episodes, None without any; loss: mean of the last hundred updates; terms: of use of the pool's
    images; sha256: of the weights file.
    """

    backbone: str
    identity: str
    weights: str
    stream: str
    pool: str
    mode: str
    d_k: int
    d_v: int
    norm: str
    scale: bool
    updates: int
    best: int
    simclr: float
    most_support: int
    bank_images: int
    views: int
    lr: float
    decay: float
    decay_every: int
    seed: int
    accuracy: float | None
    loss: float | None
    numerics: str
    versions: dict[str, str]
    seconds: float = 0.0
    commit: str = ""
    terms: str = ""
    sha256: str = ""


def describe(card: Card) -> str:
    """What a record says of the head."""
    said = f"head meta-trained with {card.updates:,} updates on {card.stream}"
    if card.simclr:
        views = f" from {card.bank_images:,} images x {2 * card.views} views" if card.bank_images else ""
        said += f", {card.simclr:.0%} SimCLR episodes{views}"
    return f"{said}, supports of at most {card.most_support} images"


def name_of(backbone: str, simclr: float) -> str:
    """A head's file name without ending; two backbones never share one."""
    readable = re.sub(r"[^a-z0-9._=-]+", "-", backbone.lower())[:80].strip("-.")
    if readable != backbone:
        readable += f"~{hashlib.sha256(backbone.encode()).hexdigest()[:8]}"
    return readable if simclr == SIMCLR else f"{readable}.simclr-{simclr:g}"


def shipped(backbone: str, simclr: float) -> Path | None:
    """The file of the head that ships for a backbone and a share of converted episodes, or None."""
    path = FOLDER / f"{name_of(backbone, simclr)}.safetensors"
    return path if path.exists() else None


def load_head(path: Path, backbone: Backbone) -> tuple[dict[str, Tensor], Card]:
    """Weights and card; DataError for a missing or damaged file, RequestError for another backbone."""
    try:
        card = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Card)
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"there is no file {error.filename}, which the head {path} needs; export one (a head is NAME."
            "safetensors beside NAME.json), or take head=train"
        ) from None
    except msgspec.DecodeError as error:
        raise DataError(f"{path.with_suffix('.json')} is not the card of a head: {error}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise DataError(
            f"the head {path} has the sha256 {found[:12]} and its card says {card.sha256[:12]}; "
            "it is damaged: get or export it again"
        )
    if card.weights != backbone.weights:
        raise RequestError(
            f"the head {path} was trained on {card.backbone} with weights {card.weights[:12]}, and "
            f"{backbone.name} has {backbone.weights[:12]}; take head=train or a head of its own"
        )
    return safetensors.torch.load(data), card


def save_head(folder: Path, tensors: dict[str, Tensor], card: Card) -> Path:
    """Write both files; returns the one with the weights."""
    data = safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    card = msgspec.structs.replace(card, sha256=hashlib.sha256(data).hexdigest())
    path = folder / f"{name_of(card.backbone, card.simclr)}.safetensors"
    write_atomic(path, data)
    text = json.dumps(msgspec.to_builtins(card), indent=2) + "\n"
    write_atomic(path.with_suffix(".json"), text.encode())
    return path
