"""Where masks go: the attention and the FFN of a site are replaced by masked ones with the same weights."""

from __future__ import annotations

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.swin_transformer import WindowAttention

from backbones.sites import Site
from benchmarks.errors import RequestError
from methods.meat.attention import MaskedAttention, MaskedWindowAttention
from methods.meat.ffn import FFN, ElementwiseFFN, MaskedFFN, NeuronFFN
from methods.meat.masks import BinaryMask

Masked = MaskedAttention | MaskedWindowAttention


def chosen_blocks(blocks: str, count: int) -> tuple[int, ...]:
    """Positions of the blocks that "all" or "3,6,9" names; ValueError for anything else or out of range."""
    if blocks == "all":
        return tuple(range(count))
    parts = [part.strip() for part in blocks.split(",")]
    if not all(part.isdecimal() for part in parts) or max(map(int, parts)) >= count:
        last = count - 1
        raise ValueError(f'blocks={blocks} must be "all" or positions from 0 to {last} such as "0,{last}"')
    return tuple(sorted({int(part) for part in parts}))


def mask_attention(site: Site, noise: torch.Generator, self_loop: bool) -> Masked:
    """Mask the attention of `site`; RequestError for a kind of attention that is neither ViT's nor Swin's."""
    original = site.attention
    masked: Masked
    if isinstance(original, Attention):
        masked = MaskedAttention(original, _token_mask(site), noise, site.prefix, self_loop)
    elif isinstance(original, WindowAttention) and site.window and site.shift:
        masked = MaskedWindowAttention(original, _token_mask(site), noise, site.grid, site.window, site.shift)
    else:
        found = type(original).__name__
        raise RequestError(
            f"MEAT masks timm's Attention and WindowAttention; block {site.name} has a {found}"
        )
    site.attention = masked
    return masked


def mask_ffn(site: Site, noise: torch.Generator, kind: FFN) -> MaskedFFN:
    """Mask the FFN of `site`; RequestError for one that cannot be masked that way."""
    original = site.block.mlp
    if not isinstance(original, Mlp):
        found = type(original).__name__
        raise RequestError(f"ffn={kind} masks timm's Mlp; block {site.name} has a {found}, use ffn=none")
    try:
        masked = ElementwiseFFN(original, noise) if kind == "elementwise" else NeuronFFN(original, noise)
    except ValueError as error:
        raise RequestError(f"block {site.name}: {error}") from None
    site.block.mlp = masked
    return masked


def _token_mask(site: Site) -> BinaryMask:
    return BinaryMask((site.grid[0] * site.grid[1],), next(site.block.parameters()).device)
