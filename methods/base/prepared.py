"""What a method makes before its first task: the key that it is kept under, and what a record says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor

from backbones.backbone import Backbone
from benchmarks.seeds import derive

# What runs whenever a method is prepared, whichever it is.
_BENEATH = ("augment", "backbone", "families", "features", "loading", "numerics", "training")


@dataclass(frozen=True)
class Preparation:
    """digest: sha256 of the tensors that the first task starts from; said: what they are, in words."""

    digest: str
    said: str


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of the tensors as a safetensors file has them."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return hashlib.sha256(safetensors.torch.save(plain)).hexdigest()


def store_key(package: str, backbone: Backbone, *parts: object) -> str:
    """The key of what the code of `package` makes from `parts` with `backbone` as it was loaded.

    Another version of that code, of the training loop, of torch or of timm is another key.
    """
    said = derive(
        package,
        backbone.identity,
        backbone.weights,
        backbone.preprocessing.describe(),
        repr(backbone.info.grid),
        backbone.numerics.describe(),
        torch.__version__,
        timm.__version__,
        _code(package),
        *map(repr, parts),
    )
    return f"{said:016x}"


def _code(package: str) -> str:
    """Hash of the source of a package's modules and of what lies beneath every preparation."""
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    files = sorted(Path(found.origin).parent.glob("*.py"))
    beneath = [find_spec(f"backbones.{name}") for name in _BENEATH]
    files += [Path(spec.origin) for spec in beneath if spec is not None and spec.origin is not None]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
