"""What an own backbone declares, read without torch: its network, arguments, statistics and tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Value = bool | int | float | str | tuple[int, ...]
Triple = tuple[float, float, float]

# (mean, standard deviation) of pixels in [0, 1] per channel.
STATISTICS: Mapping[str, tuple[Triple, Triple]] = MappingProxyType(
    {
        "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    }
)

Family = Literal["vit", "swin", "hierarchical", "convnet", "hybrid", "mixer", "external_attention"]

# The constructors of the families that have one each, as "module:attribute".
NETWORKS: Mapping[str, str] = MappingProxyType(
    {
        "vit": "timm.models.vision_transformer:VisionTransformer",
        "swin": "timm.models.swin_transformer:SwinTransformer",
        "external_attention": "backbones.external_attention.eamlp:EAMLP",
    }
)


@dataclass(frozen=True)
class Recipe:
    """A backbone of Carryover's own: a network built with these arguments, and the weights that ship for it.

    summary: one line for listings; arguments: of the constructor, and `img_size`; statistics: a name in
    STATISTICS; constructor: "module:attribute", the family's own by default; tags: of the shipped
    weights, the default first; without tags, weights are random unless a file is named.
    """

    name: str
    summary: str
    family: Family
    arguments: Mapping[str, Value]
    statistics: str = "half"
    constructor: str = ""
    tags: tuple[str, ...] = ()

    @property
    def network(self) -> str:
        """Where the constructor is found, "module:attribute"."""
        return self.constructor or NETWORKS[self.family]
