"""Networks with random weights that run in milliseconds, to test every method on every family."""

from __future__ import annotations

from backbones.recipe import Recipe

RECIPES = (
    Recipe(
        "tiny_vit",
        "ViT for tests: 32 px, patch 8, width 32, 2 blocks, 2 heads",
        "vit",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0},
    ),
    # Both of Swin's cases are there: stage 0 shifts windows of 4 on an 8 x 8 map, stage 1 has a
    # 4 x 4 map, so that its window is the whole map and nothing shifts.
    Recipe(
        "tiny_swin",
        "Swin for tests: 32 px, patch 4, width 32 and 64, 2 + 2 blocks, windows of 4 that shift",
        "swin",
        {
            "img_size": 32,
            "patch_size": 4,
            "embed_dim": 32,
            "depths": (2, 2),
            "num_heads": (2, 4),
            "window_size": 4,
            "mlp_ratio": 2.0,
            "drop_path_rate": 0.0,
        },
    ),
    # BatchNorm, whose statistics move while it trains, is what a ConvNet adds to the cases.
    Recipe(
        "tiny_convnet",
        "ResNet for tests: 32 px, map of 4 x 4, width 32, 4 blocks with BatchNorm",
        "convnet",
        {"img_size": 32, "channels": (8, 16, 24, 32), "stem_width": 8, "output_stride": 8},
        constructor="timm.models.resnet:resnet10t",
    ),
    Recipe(
        "tiny_external_attention",
        "EAMLP for tests: 32 px, 2 x 2 tokens, width 32, 2 blocks, 2 heads",
        "external_attention",
        {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0},
    ),
)
