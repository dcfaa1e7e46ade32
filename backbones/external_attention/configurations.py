"""The published sizes of EAMLP, by number of blocks (Guo et al. 2021, table 5), read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from backbones.recipe import Recipe

# Arguments of `eamlp.EAMLP`. Trainable parameters with 1000 classes: 6,096,206, 29,801,422 and
# 54,470,798; top-1 on ImageNet at 224 px as published: 68.9, 78.9 and 79.4 %.
CONFIGURATIONS: Mapping[int, Mapping[str, int | float]] = MappingProxyType(
    {
        7: MappingProxyType({"embed_dim": 256, "depth": 7, "num_heads": 4, "mlp_ratio": 2.0}),
        14: MappingProxyType({"embed_dim": 384, "depth": 14, "num_heads": 6, "mlp_ratio": 3.0}),
        19: MappingProxyType({"embed_dim": 448, "depth": 19, "num_heads": 7, "mlp_ratio": 3.0}),
    }
)

RECIPES = tuple(
    Recipe(
        f"external_attention_{depth}",
        f"EAMLP-{depth}: 224 px, width {arguments['embed_dim']}, {depth} blocks",
        "external_attention",
        arguments,
        statistics="imagenet",
    )
    for depth, arguments in CONFIGURATIONS.items()
)
