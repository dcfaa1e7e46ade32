"""Which architectures of timm's are admitted, and what they are; from a sketch without memory for weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from backbones.architecture import build, size_of, spec_of
from backbones.families import family_of, pooling_of
from backbones.sites import sites_of
from backbones.structure import pass_through
from benchmarks.errors import RequestError


@dataclass(frozen=True)
class Admission:
    """Whether a network is admitted; words: what it is, or why it is refused."""

    admitted: bool
    words: str


def admission_of(name: str) -> Admission:
    """The admission of one architecture, with the arguments that it has by default."""
    spec = spec_of(name)
    try:
        with torch.device("meta"):
            net = build(spec)
        seen = pass_through(net, size_of(net, spec))
    except RequestError as error:
        return Admission(False, f"refused: {str(error).partition(': ')[2] or error}")
    shape, blocks = seen.shape, len(sites_of(seen, net))
    family = family_of(seen).replace("_", " ")
    tokens = f"{shape.grid[0]} x {shape.grid[1]}" + (f" + {shape.prefix}" if shape.prefix else "")
    attention = f", {blocks} blocks of attention" if blocks else ""
    return Admission(
        True, f"{family}, {tokens} tokens of width {shape.width}{attention}, pooling {pooling_of(net)}"
    )
