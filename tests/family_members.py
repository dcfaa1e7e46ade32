"""A tiny member of each family of networks, by arguments; weights are random."""

from __future__ import annotations

from collections.abc import Mapping

_TINY = "embed_dim=32&depth=2&num_heads=2"
_STAGES = "img_size=32&window_size=4&embed_dim=16&depths=2,2&num_heads=2,4"

MEMBERS: Mapping[str, str] = {
    "ViT": f"vit_tiny_patch16_224.augreg_in21k?img_size=32&{_TINY}",
    "DeiT distilled": f"deit_tiny_distilled_patch16_224?img_size=32&{_TINY}",
    "DeiT III": f"deit3_small_patch16_224?img_size=32&{_TINY}",
    "MAE": f"vit_base_patch16_224.mae?img_size=32&{_TINY}",
    "BEiT": f"beit_base_patch16_224?img_size=32&{_TINY}",
    "EVA": f"eva_giant_patch14_224?img_size=28&{_TINY}",
    "EVA-02 fused": f"eva02_tiny_patch14_224?img_size=28&{_TINY}",
    "EVA-02 split": f"eva02_base_patch14_224?img_size=28&{_TINY}",
    "EVA-CLIP": f"eva02_base_patch16_clip_224?img_size=32&{_TINY}",
    "DINOv2 registers": f"vit_small_patch14_reg4_dinov2?img_size=28&{_TINY}",
    "DINOv2 giant": f"vit_giant_patch14_reg4_dinov2?img_size=28&{_TINY}",
    "DINOv3": f"vit_small_patch16_dinov3?img_size=32&{_TINY}",
    "DINOv3 plus": f"vit_small_plus_patch16_dinov3?img_size=32&{_TINY}",
    "SigLIP": f"vit_base_patch16_siglip_224?img_size=32&{_TINY}",
    "SigLIP 2": f"vit_base_patch16_siglip_224.v2_webli?img_size=32&{_TINY}",
    "SigLIP without pool": f"vit_base_patch16_siglip_gap_224?img_size=32&{_TINY}",
    "CLIP": f"vit_base_patch16_clip_224.openai?img_size=32&{_TINY}",
    "Perception Encoder": f"vit_pe_core_base_patch16_224?img_size=32&{_TINY}",
    "AIMv2": f"aimv2_large_patch14_224?img_size=28&{_TINY}",
    "I-JEPA": f"vit_huge_patch14_gap_224?img_size=28&{_TINY}",
    "relative positions": f"vit_relpos_small_patch16_224?img_size=32&{_TINY}",
    "rotary ViT": f"vit_small_patch16_rope_224?img_size=32&{_TINY}",
    "hybrid stem": f"vit_tiny_r_s16_p8_224?img_size=64&{_TINY}",
    "parallel": f"vit_base_patch16_xp_224?img_size=32&{_TINY}",
    "SAM": f"samvit_base_patch16_224?img_size=64&window_size=2&{_TINY}",
    "CaiT": f"cait_xxs24_224?img_size=32&{_TINY}",
    "Hiera": "hiera_tiny_224?img_size=64&embed_dim=16&stages=1,1,1,1",
    "DaViT": "davit_tiny?img_size=64&depths=1,1,1,1&embed_dims=16,32,48,64&num_heads=1,2,3,4",
    "Swin": f"swin_tiny_patch4_window7_224?{_STAGES}",
    "Swin V2": f"swinv2_tiny_window8_256?{_STAGES}",
    "Swin V2 CR": f"swinv2_cr_tiny_224?{_STAGES}",
    "ConvNeXt": "convnext_atto?img_size=64&depths=1,1,1,1&dims=16,24,32,48",
    "ResNet": "resnet18?img_size=32&channels=8,16,24,32",
}


def random(family: str) -> str:
    """The name of a family's member, with random weights."""
    return f"{MEMBERS[family]}&weights=random"
