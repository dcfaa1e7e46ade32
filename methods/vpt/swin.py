"""Prompts in a Swin, which join every window of their image.

In a block the prompts join the tokens of each window, with a relative bias of zero and a mask of zero, and
what attention makes of them is averaged over the windows. Patch merging takes them concatenated with
themselves four times, then its norm and reduction, so that their number stays. The final norm and pooling
include them. (In the public code the prompts of a batch meet windows of other images; here an image's
features are its own.)
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import (
    PatchMerging,
    SwinTransformer,
    SwinTransformerBlock,
    WindowAttention,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn


class Source(Protocol):
    """The source of a block's prompts."""

    def __call__(self, index: int, batch: int) -> Tensor:
        """(B, p, width of block `index`)."""


def prompted_swin(net: SwinTransformer, images: Tensor, prompts: Source, deep: bool) -> Tensor:
    """(B, 3, S, S) to pooled features (B, C) float32; deep: every block starts with prompts of its own."""
    x: Tensor = net.patch_embed(images)
    z = prompts(0, len(x))
    index = 0
    for stage in net.layers:
        if isinstance(stage.downsample, PatchMerging):
            x, z = stage.downsample(x), _merged(stage.downsample, z)
        for block in cast(nn.Sequential, stage.blocks):
            if deep and index > 0:
                z = prompts(index, len(x))
            x, z = prompted_block(cast(SwinTransformerBlock, block), x, z)
            index += 1
    tokens = torch.cat([net.norm(z), net.norm(x).flatten(1, 2)], dim=1)
    return net.forward_head(tokens[:, None], pre_logits=True).float()


def prompted_block(block: SwinTransformerBlock, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Run a block on a map x (B, H, W, C) and prompts z (B, p, C); returns both in those shapes."""
    found, answers = _attention(block, block.norm1(x), block.norm1(z))
    x, z = x + block.drop_path1(found), z + block.drop_path1(answers)
    return tuple(y + block.drop_path2(block.mlp(block.norm2(y))) for y in (x, z))


def _merged(merging: PatchMerging, z: Tensor) -> Tensor:
    return merging.reduction(merging.norm(torch.cat([z] * 4, dim=-1)))


def _attention(block: SwinTransformerBlock, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The attention of normalised x and z, with the block's shift, padding and mask."""
    batch, height, width, channels = x.shape
    down, right = block.shift_size
    rows, columns = block.window_size
    x = torch.roll(x, shifts=(-down, -right), dims=(1, 2))
    x = F.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
    padded = x.shape[1:3]
    tokens = window_partition(x, (rows, columns)).flatten(1, 2)  # an image's windows follow each other
    windows, count = len(tokens) // batch, z.shape[1]
    joined = torch.cat([z.repeat_interleave(windows, dim=0), tokens], dim=1)
    joined = _attend(block.attn, joined, cast(Tensor | None, block.attn_mask), count)
    z = joined[:, :count].unflatten(0, (batch, windows)).mean(dim=1)
    x = joined[:, count:].reshape(-1, rows, columns, channels)
    x = window_reverse(x, (rows, columns), *padded)[:, :height, :width]
    return torch.roll(x, shifts=(down, right), dims=(1, 2)), z


def _attend(attention: WindowAttention, x: Tensor, mask: Tensor | None, count: int) -> Tensor:
    """x: (windows of the batch, p + N, C), prompts first; mask: (windows, N, N) or None, additive."""
    qkv = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    bias = attention._get_rel_pos_bias()  # (1, heads, N, N)
    if mask is not None:
        bias = (bias + mask[:, None]).repeat(len(x) // len(mask), 1, 1, 1)
    bias = F.pad(bias, (count, 0, count, 0)).to(q.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return attention.proj(out.transpose(1, 2).flatten(2))
