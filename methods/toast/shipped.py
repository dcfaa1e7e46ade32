"""Pre-tuned feedback as a file: half precision, beside it a card that says what it was made for and on what.

    NAME.toast.safetensors   NAME.toast.json        NAME: the backbone's

It holds xi, A and C, for `toast` and `toast_lite` alike. P is not in it: pre-tuning leaves it at I.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from backbones.backbone import Backbone
from backbones.weights import check_card
from benchmarks.errors import RequestError
from benchmarks.store import write_atomic
from benchmarks.stream import Pool
from methods.toast.pretuning import Plan

if TYPE_CHECKING:
    from methods.toast import TOAST

FOLDER = Path(__file__).parent / "feedback_files"


@dataclass(frozen=True)
class Form:
    """What feedback is for: the hash of the weights that it feeds, and what shapes it."""

    weights: str
    value_bias: str
    early: int
    late: int


class Card(msgspec.Struct, kw_only=True):
    """backbone: its name as opened, with the hash of its weights; source, fingerprint: of the pool;
    settings: of the pre-tuning; sha256: of the file; terms: the source's terms of use."""

    backbone: str
    weights: str
    value_bias: str
    early: int
    late: int
    source: str
    fingerprint: str
    images: int
    classes: int
    epochs: int
    augment: str
    seed: int
    settings: dict[str, float]
    commit: str
    versions: dict[str, str]
    sha256: str
    terms: str

    def describe(self) -> str:
        return describe(self.epochs, self.images, self.classes, f"{self.source}, read from a file")

    @property
    def form(self) -> Form:
        return Form(self.weights, self.value_bias, self.early, self.late)


def describe(epochs: int, images: int, classes: int, source: str) -> str:
    """What a record says of the pre-tuning."""
    return f"feedback pre-tuned for {epochs} epochs on {images:,} images of {classes} classes of {source}"


def form_of(config: TOAST.Config, backbone: Backbone) -> Form:
    """What a file has to be made for, to be loaded into a method of that config on that backbone."""
    return Form(backbone.weights, config.value_bias, config.early, config.late)


def find(form: Form) -> Path | None:
    """The file that ships for `form`; None where there is none."""
    fits = (path for path in sorted(FOLDER.glob("*.safetensors")) if read_card(path).form == form)
    return next(fits, None)


def read_card(path: Path) -> Card:
    """The card beside the file `path`; RequestError if it is missing or damaged."""
    card = path.with_suffix(".json")
    try:
        return msgspec.json.decode(card.read_bytes(), type=Card)
    except FileNotFoundError:
        raise RequestError(
            f"feedback {path} has no card {card.name} that says what it is for; put the two side by side"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise RequestError(f"the card {card} cannot be read ({error}); fetch it again") from None


def load(path: Path, form: Form) -> dict[str, Tensor]:
    """float32 xi, A and C by name within `Feedback`; RequestError if the file or its card is not for
    `form`, is damaged, or was changed."""
    card = read_card(path)
    if card.form != form:
        said, wanted = asdict(card.form), asdict(form)
        unlike = ", ".join(f"{k}={str(said[k])[:12]}" for k in said if said[k] != wanted[k])
        raise RequestError(
            f"feedback {path} was made for {unlike}, and this run has weights={form.weights[:12]} with "
            "others; take the file of this network and these options, or leave feedback out"
        )
    try:
        check_card(path)
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise RequestError(f"feedback {path} cannot be read ({error}); fetch it again") from None
    return {name: tensor.float() for name, tensor in tensors.items()}


def write(
    method: TOAST, plan: Plan, pool: Pool, folder: Path, *, source: str, terms: str, commit: str
) -> Path:
    """Write the feedback that `method` has just pre-tuned on `pool` by `plan`, and its card; returns it.

    To ship it, put both into `FOLDER`. ValueError for values that half
    precision does not reach.
    """
    backbone, form = method.backbone, form_of(method.config, method.backbone)
    stem = f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', backbone.name)}.toast"
    tensors = {
        name: tensor.detach().half().cpu().contiguous() for name, tensor in method.feedback.pretuned().items()
    }
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ValueError("the feedback holds values that half precision does not reach")
    data = safetensors.torch.save(tensors)
    card = Card(
        backbone=backbone.name,
        **asdict(form),
        source=source,
        fingerprint=pool.fingerprint,
        images=len(pool.images),
        classes=len(pool.images.class_names),
        epochs=plan.epochs,
        augment=plan.augment,
        seed=plan.seed,
        settings={
            "batch_size": plan.batch_size,
            "lr": plan.lr,
            "weight_decay": plan.weight_decay,
            "variational": plan.variational,
        },
        commit=commit,
        versions={"torch": str(torch.__version__)},
        sha256=hashlib.sha256(data).hexdigest(),
        terms=terms,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.safetensors"
    write_atomic(path, data)
    text = json.dumps(msgspec.to_builtins(card), indent=2)
    write_atomic(path.with_suffix(".json"), f"{text}\n".encode())
    return path
