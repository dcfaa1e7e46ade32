"""The backbones that ship: 64 px, about 3 million parameters each, their weights and cards beside this file.

    NAME.TAG.safetensors   NAME.TAG.json   NAME.TAG.md   NAME.TAG.csv   NAME.TAG.png

Made by `carryover pretrain`. A recipe without tags has no weights here yet: it opens with random ones.
"""

from __future__ import annotations

from backbones.recipe import Recipe

RECIPES = (
    Recipe(
        "vit_64",
        "ViT: 64 px, patch 8, width 192, 6 blocks, 3 heads, class token",
        "vit",
        {"img_size": 64, "patch_size": 8, "embed_dim": 192, "depth": 6, "num_heads": 3},
        statistics="imagenet",
        tags=("supervised", "mae"),
    ),
    Recipe(
        "swin_64",
        "Swin: 64 px, patch 4, width 64 to 256, 2 + 2 + 3 blocks, windows of 4",
        "swin",
        {
            "img_size": 64,
            "patch_size": 4,
            "embed_dim": 64,
            "depths": (2, 2, 3),
            "num_heads": (2, 4, 8),
            "window_size": 4,
            "drop_path_rate": 0.0,
        },
        statistics="imagenet",
        tags=("supervised",),
    ),
    # Output stride 16 as in CrossTransformers, so that a map of 4 x 4 is left of 64 pixels.
    Recipe(
        "resnet_64",
        "ResNet-18-D: 64 px, width 32 to 256, map of 4 x 4",
        "convnet",
        {
            "img_size": 64,
            "channels": (32, 64, 128, 256),
            "stem_type": "deep",
            "stem_width": 16,
            "avg_down": True,
            "output_stride": 16,
        },
        statistics="imagenet",
        constructor="timm.models.resnet:resnet18",
        tags=("supervised",),
    ),
    Recipe(
        "external_attention_64",
        "EAMLP: 64 px, width 192, 6 blocks of external attention, 3 heads, 4 x 4 tokens",
        "external_attention",
        {"img_size": 64, "embed_dim": 192, "depth": 6, "num_heads": 3, "mlp_ratio": 2.0},
        statistics="imagenet",
        tags=("supervised",),
    ),
    Recipe(
        "small_vit",
        "ViT for a first run: 32 px, patch 4, width 96, 4 blocks, 3 heads",
        "vit",
        {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3},
    ),
)
