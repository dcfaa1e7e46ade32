"""The families of networks, by their structure, and how a network pools and reads its patches.

A ViT has its blocks on one map; a Swin attends within windows, in stages; other networks with blocks in
stages are hierarchical (Hiera, MViT, PVT). Without blocks that can be found: an external-attention net
(tokens as in a ViT, without pairs of tokens), a ConvNet (no attention), a mixer (tokens, no attention) and a
hybrid (attention that is none of these). The family is a word for people; methods ask for capabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from backbones.recipe import Family, Value
from backbones.sites import EXTERNAL, heads_of, sites_of
from backbones.structure import Pass, Shape


def family_of(seen: Pass) -> Family:
    """The family of a network, by what a pass shows of it."""
    net, sites = seen.net, sites_of(seen, seen.net)
    if any(isinstance(module, EXTERNAL) for module in net.modules()):
        return "external_attention"
    if sites:
        if isinstance(net, SwinTransformer):
            return "swin"
        if sites[-1].stage == 0:
            return "vit"
        return "swin" if all(site.window is not None for site in sites) else "hierarchical"
    if any(heads_of(module) for module in net.modules()):
        return "hybrid"
    return "mixer" if seen.shape.layout == "tokens" else "convnet"


def input_size(net: nn.Module, arguments: Mapping[str, Value]) -> tuple[int, int]:
    """(height, width) in pixels that the network's patches are made for.

    For a network that takes any size, `img_size` as it was typed, or timm's default.
    """
    own = getattr(getattr(net, "patch_embed", None), "img_size", None)
    if isinstance(own, tuple) and len(own) == 2:
        return int(own[0]), int(own[1])
    said = arguments.get("img_size")
    if isinstance(said, int):
        return said, said
    if isinstance(said, tuple):
        return said[0], said[1]
    height, width = getattr(net, "pretrained_cfg", {}).get("input_size", (3, 224, 224))[1:]
    return int(height), int(width)


def pooling_of(net: nn.Module) -> str:
    """How patches become one feature vector, in timm's word; "own" where timm has none for it."""
    for holder in (net, getattr(net, "head", None)):
        pool = getattr(holder, "global_pool", None) or getattr(holder, "pool_type", None)
        word = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
        if isinstance(word, str) and word:
            return word
    return "own"


def patch_tokens(net: nn.Module, maps: Tensor, shape: Shape) -> Tensor:
    """What `forward_features` returned, as (B, N, C) row by row, without prefix.

    If the network norms after pooling (a ViT's `fc_norm`, ConvNeXt's `head.norm`), that norm is applied to
    each token.
    """
    norm = getattr(net, "fc_norm", None) or getattr(getattr(net, "head", None), "norm", None)
    if shape.layout == "nchw" and norm is not None and "2d" in type(norm).__name__:
        maps, norm = norm(maps), None
    tokens = as_tokens(maps, shape)[:, shape.prefix :]
    return tokens if norm is None else cast(Tensor, cast(Any, norm)(tokens))


def as_tokens(maps: Tensor, shape: Shape) -> Tensor:
    """What `forward_features` returned, as (B, prefix + N, C)."""
    if shape.layout == "tokens":
        return maps
    return maps.flatten(1, 2) if shape.layout == "nhwc" else maps.flatten(2).transpose(1, 2)
