"""The network of the first run: large enough to learn digits from scratch, small enough for two cores."""

from __future__ import annotations

from backbones.names import Recipe

RECIPES = (
    Recipe(
        "small_vit",
        "random ViT for a first run: 32 px, patch 4, width 96, 4 blocks, 3 heads",
        "vit",
        {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3},
    ),
)
