"""new_backbone: a small ViT with random weights: say here in one line what `carryover ls` shows.

TITLE (AUTHORS, VENUE YEAR). The class holds what differs from timm's network; the recipe gives its size.
`carryover pretrain new_backbone --source SOURCE` trains weights for it.
"""

from __future__ import annotations

from timm.models.vision_transformer import VisionTransformer

from carryover import Recipe


class NewBackbone(VisionTransformer):
    """timm's ViT, until you override something; a subclass of it has blocks that methods know."""


RECIPE = Recipe(
    "new_backbone",
    "ViT: 32 px, patch 8, width 64, 3 blocks, 2 heads",
    "vit",  # or "swin" (timm's SwinTransformer); a timm ConvNet needs no class, only its constructor
    {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 2},
    statistics="half",  # mean and deviation of pixels: "half" (0.5) or "imagenet"
    constructor=f"{__name__}:NewBackbone",
)
