"""Masks as bits on disk: one bit string of all masks in order, eight to a byte, padded with zeros."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def pack_bits(masks: Sequence[Tensor]) -> Tensor:
    """Boolean masks of any shapes -> uint8 (ceil(bits / 8),), on the CPU."""
    flat = [mask.reshape(-1).cpu() for mask in masks]
    bits = torch.cat(flat) if flat else torch.zeros(0, dtype=torch.bool)
    return torch.from_numpy(np.packbits(bits.numpy()))


def unpack_bits(packed: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """The inverse of `pack_bits`; ValueError if `packed` is not as long as `shapes` need."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    bits = sum(sizes)
    if packed.numel() != (bits + 7) // 8:
        raise ValueError(f"{bits} mask bits need {(bits + 7) // 8} bytes, got {packed.numel()}")
    flat = torch.from_numpy(np.unpackbits(packed.cpu().numpy(), count=bits)).bool()
    parts = flat.split(sizes) if sizes else ()
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
