"""The families of networks, and the facts that each family keeps in its own place.

Families: a ViT (tokens, self-attention everywhere), a Swin (windows in stages, maps in NHWC), an
external-attention net (tokens as in a ViT, without pairs of tokens), and a ConvNet (maps in NCHW).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.external_attention.attention import MultiHeadExternalAttention
from backbones.external_attention.eamlp import EAMLP
from backbones.recipe import Family, Value
from benchmarks.errors import RequestError

# timm's files whose networks are VisionTransformer or SwinTransformer; other "vit" and "swin" there
# (Swin V2, rotary and relative-position ViTs) have attention of another kind.
VITS = ("vision_transformer", "vision_transformer_hybrid", "deit")
SWINS = ("swin_transformer",)
# Those without attention among timm's convolutional files.
CONVNETS = ("resnet", "resnetv2", "convnext", "regnet", "efficientnet", "densenet")


@dataclass(frozen=True)
class Shape:
    """The shape of a network's output.

    width: channels C of features and tokens; grid: (h, w) of the patch tokens; prefix: tokens before them.
    """

    width: int
    grid: tuple[int, int]
    prefix: int


def family_of(net: nn.Module) -> Family | None:
    """The family of a network, or None if Carryover does not know it."""
    if isinstance(net, EAMLP):
        return "external_attention"
    if isinstance(net, VisionTransformer):
        external = any(isinstance(module, MultiHeadExternalAttention) for module in net.modules())
        return "external_attention" if external else "vit"
    if isinstance(net, SwinTransformer):
        return "swin"
    return "convnet" if type(net).__module__.rpartition(".")[2] in CONVNETS else None


def input_size(net: nn.Module, arguments: Mapping[str, Value]) -> tuple[int, int]:
    """(height, width) in pixels; for a ConvNet, which takes any size, `img_size` or timm's default."""
    if family_of(net) != "convnet":
        height, width = cast(Any, net).patch_embed.img_size
        return int(height), int(width)
    said = arguments.get("img_size")
    if isinstance(said, int):
        return said, said
    if isinstance(said, tuple):
        return said[0], said[1]
    height, width = getattr(net, "pretrained_cfg", {}).get("input_size", (3, 224, 224))[1:]
    return int(height), int(width)


def pooling_of(net: nn.Module) -> str:
    """How tokens become one feature vector, in timm's word; empty if they do not."""
    pool = getattr(net, "global_pool", None)
    if pool is None or isinstance(net, SwinTransformer):
        pool = getattr(getattr(net, "head", None), "global_pool", None)
    return pool if isinstance(pool, str) else str(getattr(pool, "pool_type", "") or "")


def shape_of(net: nn.Module, size: tuple[int, int]) -> Shape:
    """The shape of a network on the meta device, where a forward pass costs nothing.

    RequestError for a ConvNet whose image is too small for its strides, or whose features and map differ in
    channels.
    """
    family, width = family_of(net), int(cast(Any, net).num_features)
    if family == "convnet":
        try:
            with torch.no_grad():
                maps = _eval(net).forward_features(torch.empty(1, 3, *size, device="meta"))
        except (RuntimeError, ValueError) as error:
            raise RequestError(f"an image of {size[0]}x{size[1]} pixels is too small for it") from error
        features = cast(Any, net).forward_head(maps, pre_logits=True)
        if 0 in maps.shape or maps.shape[1] != features.shape[1]:
            raise RequestError(f"its map has {maps.shape[1]} channels and its features {features.shape[1]}")
        return Shape(int(maps.shape[1]), (int(maps.shape[2]), int(maps.shape[3])), 0)
    if family == "swin":
        height, across = cast(Any, net).layers[-1].blocks[-1].input_resolution
        return Shape(width, (int(height), int(across)), 0)
    height, across = cast(Any, net).patch_embed.grid_size
    return Shape(width, (int(height), int(across)), int(cast(Any, net).num_prefix_tokens))


def patch_tokens(net: nn.Module, maps: Tensor, prefix: int) -> Tensor:
    """What `forward_features` returned, as (B, N, C) row by row, without prefix.

    If the network norms after pooling (a ViT's `fc_norm`, ConvNeXt's `head.norm`), that norm is applied to
    each token.
    """
    family = family_of(net)
    if family == "swin":
        return maps.flatten(1, 2)
    if family == "convnet":
        norm = getattr(getattr(net, "head", None), "norm", None)
        return (maps if norm is None else norm(maps)).flatten(2).transpose(1, 2)
    return cast(Tensor, cast(Any, net).fc_norm(maps[:, prefix:]))


def _eval(net: nn.Module) -> Any:
    # A sketch is thrown away, and BatchNorm in training refuses a single value per channel.
    return net.eval()
