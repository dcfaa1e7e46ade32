"""Prepared tensors in a file, with a card that says what they fit and how they were made.

    NAME.safetensors   NAME.json

They fit only the weights that they were trained on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

from benchmarks.errors import DataError
from benchmarks.store import write_atomic

Setting = str | int | float | bool | None


class PreparedCard(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The content of NAME.json.

    kind: the option that takes the file; backbone, weights: name and whole hash of what it was trained on;
    options: those that a run must share; stream, pool: on whose pool, and the fingerprint of that; said: how,
    in words; settings: of the training, and what came out; commit: of the code; terms: of use of the pool's
    images; sha256: of NAME.safetensors, empty as long as there is none.
    """

    kind: str
    backbone: str
    weights: str
    options: dict[str, Setting]
    stream: str
    pool: str
    said: str
    settings: dict[str, Setting]
    numerics: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = {}
    commit: str = ""
    terms: str = ""
    sha256: str = ""

    def describe(self) -> str:
        """What a record says of it."""
        return f"{self.said} on the pool of {self.stream}{', read from a file' if self.sha256 else ''}"


def read_card(path: Path) -> PreparedCard:
    """The card beside the tensors in `path`; DataError if it is missing or damaged."""
    card = path.with_suffix(".json")
    try:
        return msgspec.json.decode(_bytes(card), type=PreparedCard)
    except msgspec.DecodeError as error:
        raise DataError(
            f"{card} is not the card of {path.name} ({error}); get or prepare both again"
        ) from None


def read_tensors(path: Path, card: PreparedCard) -> dict[str, Tensor]:
    """The tensors in `path`; DataError if they are missing, damaged, or not those of the card."""
    data = _bytes(path)
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise DataError(
            f"{path} has the sha256 {found[:12]} and its card says {card.sha256[:12]}; one of the two is "
            "damaged: get or prepare both again"
        )
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file ({error}); get or prepare it again") from None


def file_name(backbone: str) -> str:
    """The name of a backbone as a file name; two backbones never share one."""
    readable = re.sub(r"[^a-z0-9._=-]+", "-", backbone.lower())[:80].strip("-.")
    return (
        readable
        if readable == backbone
        else f"{readable}~{hashlib.sha256(backbone.encode()).hexdigest()[:8]}"
    )


def write(path: Path, tensors: Mapping[str, Tensor], card: PreparedCard) -> None:
    """Write the tensors to `path`, and beside it the card with their hash."""
    data = _packed(tensors)
    write_atomic(path, data)
    card = msgspec.structs.replace(card, sha256=hashlib.sha256(data).hexdigest())
    text = msgspec.json.format(msgspec.json.encode(card), indent=2)
    write_atomic(path.with_suffix(".json"), text + b"\n")


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of the tensors as a safetensors file."""
    return hashlib.sha256(_packed(tensors)).hexdigest()


def _packed(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({n: t.detach().cpu().contiguous() for n, t in tensors.items()})


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); what was prepared is NAME.safetensors beside its "
            "card NAME.json: put the two side by side, or prepare it again"
        ) from None
