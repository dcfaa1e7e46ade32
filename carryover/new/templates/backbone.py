"""new_backbone: a small ViT of random weights: say here in one line what `carryover ls` shows.

TITLE (AUTHORS, VENUE YEAR). What differs from timm's network is in the class; the recipe says how large
it is.
`carryover pretrain new_backbone --source SOURCE` makes weights for it.
"""

from __future__ import annotations

from timm.models.vision_transformer import VisionTransformer

from carryover import Recipe


class NewBackbone(VisionTransformer):
    """timm's ViT until something is overridden here; methods know its blocks as long as it is one."""


RECIPE = Recipe(
    "new_backbone",
    "ViT: 32 px, patch 8, width 64, 3 blocks, 2 heads",
    "vit",  # or "swin" (timm's SwinTransformer); a ConvNet of timm's needs no class, only its constructor
    {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 2},
    statistics="half",  # mean and deviation of pixels: "half" (0.5) or "imagenet"
    constructor=f"{__name__}:NewBackbone",
)
