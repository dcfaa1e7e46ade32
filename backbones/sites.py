"""Where self-attention happens: one `Site` for each block; ConvNets and external attention have none.

What differs: a ViT has one stage of `blocks`, prefix tokens (class, registers) and attends globally;
a Swin has stages, no prefix, maps in NHWC, and attends within windows that every second block shifts,
unless its map is no larger than the window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from backbones.families import family_of
from benchmarks.errors import RequestError

Pair = tuple[int, int]


@dataclass
class Site:
    """One attention block.

    index: position in the network; stage: 0 for a ViT; name: the block's path in the network; grid:
    (h, w) of its patch tokens; prefix: tokens before the patches; width: channels; heads: of its
    attention as loaded; window: (h, w) and shift: (h, w) after clipping, None for a ViT.
    """

    index: int
    stage: int
    name: str
    grid: Pair
    prefix: int
    width: int
    heads: int
    window: Pair | None
    shift: Pair | None
    block: nn.Module

    @property
    def attention(self) -> nn.Module:
        """The attention module; assign another one to replace it.

        One that keeps the old `qkv` and `proj` keeps the weights' names. A ViT's takes (B, N, C), prefix
        first, and `attn_mask`; a Swin's (windows * B, N, C) and `mask`, additive, (windows, N, N) or None,
        and adds the relative position bias itself.
        """
        return cast(nn.Module, self.block.attn)

    @attention.setter
    def attention(self, module: nn.Module) -> None:
        self.block.attn = module

    @property
    def fc1(self) -> nn.Linear:
        """The MLP's first layer: width to hidden."""
        return cast(nn.Linear, self.block.mlp.fc1)  # type: ignore[union-attr]

    @property
    def fc2(self) -> nn.Linear:
        """The MLP's second layer: hidden to width."""
        return cast(nn.Linear, self.block.mlp.fc2)  # type: ignore[union-attr]


def find_sites(net: nn.Module) -> tuple[Site, ...]:
    """All sites in the order of the forward pass; RequestError if a block is not attention, then an MLP."""
    sites = tuple(_site(net, index, *place) for index, place in enumerate(_blocks(net)))
    for site in sites:
        if not _is_plain(site.block):
            kind = type(site.block).__name__
            raise RequestError(
                f"its block {site.name} is a {kind}, not attention (qkv, proj) and then an MLP (fc1, fc2)"
            )
    return sites


def _blocks(net: nn.Module) -> Iterator[tuple[int, str, nn.Module]]:
    """Stage, path and module of every block."""
    if family_of(net) == "external_attention":
        return
    if isinstance(net, VisionTransformer):
        for number, block in enumerate(net.blocks):
            yield 0, f"blocks.{number}", block
    elif isinstance(net, SwinTransformer):
        for stage, layer in enumerate(net.layers):
            for number, block in enumerate(cast(nn.Sequential, layer.blocks)):
                yield stage, f"layers.{stage}.blocks.{number}", block


def _is_plain(block: nn.Module) -> bool:
    """Whether the block is attention with `qkv` and `proj`, then an MLP of two layers."""
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    layers = [
        getattr(attention, "qkv", None),
        getattr(attention, "proj", None),
        getattr(mlp, "fc1", None),
        getattr(mlp, "fc2", None),
    ]
    return all(isinstance(layer, nn.Linear) for layer in layers)


def _site(net: nn.Module, index: int, stage: int, name: str, block: nn.Module) -> Site:
    heads = int(getattr(getattr(block, "attn", None), "num_heads", 0))
    if isinstance(net, VisionTransformer):
        grid, prefix = _pair(net.patch_embed.grid_size), int(net.num_prefix_tokens)
        return Site(index, stage, name, grid, prefix, int(net.embed_dim), heads, None, None, block)
    facts = ("input_resolution", "window_size", "shift_size")
    grid, window, shift = (_pair(getattr(block, fact)) for fact in facts)
    width = int(block.norm1.normalized_shape[0])  # type: ignore[union-attr, index]
    return Site(index, stage, name, grid, 0, width, heads, window, shift, block)


def _pair(value: tuple[int, int]) -> Pair:
    return int(value[0]), int(value[1])
