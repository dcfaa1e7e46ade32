"""The patches of a masked autoencoder: cut out, given a fixed position code, removed and put back.

Patches are in row order, (row, column); the values of one patch are in the order (row, column, channel).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.errors import RequestError

Pair = tuple[int, int]


def patchify(images: Tensor, patch: Pair) -> Tensor:
    """(B, C, H, W) to (B, L, p*q*C) for patches of (p, q) pixels; p divides H and q divides W."""
    batch, channels, height, width = images.shape
    p, q = patch
    cells = images.reshape(batch, channels, height // p, p, width // q, q)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, p * q * channels)


def unpatchify(patches: Tensor, patch: Pair, grid: Pair) -> Tensor:
    """The inverse of `patchify` for a grid of (rows, columns) patches."""
    (p, q), (rows, columns) = patch, grid
    cells = patches.unflatten(2, (p, q, -1)).unflatten(1, (rows, columns))
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, rows * p, columns * q)


def normalised(patches: Tensor) -> Tensor:
    """Each patch by its own mean and unbiased variance: (x - mean) / sqrt(var + 1e-6); (B, L, values)."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def position_code(grid: Pair, width: int) -> Tensor:
    """The fixed 2-D sin-cos code of a grid of (rows, columns), after a row of zeros for the class token.

    (1 + rows*columns, width) float32. Half the channels tell the column x, half the row y, each as
    [sin(x w_i) | cos(x w_i)] with w_i = 10000^(-i/(D/4)), i from 0 to D/4. RequestError unless 4 divides
    the width D.
    """
    if width < 4 or width % 4:
        raise RequestError(f"width {width} has no 2-D sin-cos position code; take a multiple of 4")
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in grid)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    angles = (place.flatten()[:, None] * frequencies for place in (x, y))
    code = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, width), code.float()])


def kept_patches(patches: int, ratio: float) -> int:
    """How many of L patches stay visible when the share r is removed: round(L (1 - r)).

    RequestError if r is not between 0 and 1, or if no patch would be removed or none kept.
    """
    if not 0 < ratio < 1:
        raise RequestError(f"mask_ratio={ratio} must lie between 0 and 1, such as 0.75")
    kept = round(patches * (1 - ratio))
    if kept in (0, patches):
        what = "removes" if kept else "keeps"
        raise RequestError(
            f"mask_ratio={ratio} {what} none of {patches} patches; take one nearer 0.75, or smaller patches"
        )
    return kept


class Masking(NamedTuple):
    """Which patches stay.

    kept: (B, keep) int64, their positions in the order in which the encoder sees them; restore: (B, L)
    int64, for each position its place in the shuffled order, kept ones first; removed: (B, L), 0 for a
    kept patch and 1 for a removed one, in image order.
    """

    kept: Tensor
    restore: Tensor
    removed: Tensor


def draw_masking(noise: Tensor, keep: int) -> Masking:
    """Keep the `keep` patches with the least noise; noise: (B, L), uniform on [0, 1)."""
    shuffle = noise.argsort(dim=1, stable=True)
    restore = shuffle.argsort(dim=1)
    return Masking(shuffle[:, :keep], restore, (restore >= keep).to(noise.dtype))


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """tokens (B, N, C) at places (B, M): (B, M, C)."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))
