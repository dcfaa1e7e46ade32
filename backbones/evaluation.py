"""How each network's authors evaluate it: the one table of pooling and pixels, with sources.

A row holds for the names of timm's (architecture.tag) that match its pattern; the first match counts.
Pooling is the authors' for frozen features where they say it, else that of their classifier; where timm's
own default is another, the row's is taken (DINOv3: timm averages patches, the authors take the class token).
Mean and deviation are those that timm has for the tag, which a test compares with this table. How the authors
resize and crop is told here and not done: every image is resized whole, by one rule for all networks, so that
they can stand in one table (see `preprocessing`). Other names of timm's take timm's pooling, and say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Pooling = Literal["token", "avg", "map"]
PER_TAG = ""  # of statistics and crops: they differ between the tags, and each has its own in timm


@dataclass(frozen=True)
class Row:
    """patterns: of architecture.tag; pooling: "token" (class token), "avg" (mean of the patch tokens), "map"
    (attention pool); statistics: a name in STATISTICS; interpolation, crop: how the authors resize, and the
    share of the side that is cut out of the middle (None: it differs); source: where it is said, in
    brackets the place and the words; instead: timm's own default, where it is another.
    """

    patterns: tuple[str, ...]
    pooling: Pooling
    statistics: str
    interpolation: str
    crop: float | None
    source: str
    instead: Pooling | None = None


TABLE = (
    Row(
        ("vit_*_dinov2.*",),
        "token",
        "imagenet",
        "bicubic",
        None,
        "Oquab et al. 2023, DINOv2 (dinov2/eval/knn.py: the normed class token)",
    ),
    Row(
        ("vit_*_dinov3.*", "vit_*_dinov3_qkvb.*"),
        "token",
        PER_TAG,
        "bicubic",
        None,
        "Simeoni et al. 2025, DINOv3 (class token; timm's eva.py notes it)",
        instead="avg",
    ),
    Row(
        ("vit_*.dino",),
        "token",
        "imagenet",
        "bicubic",
        0.875,
        "Caron et al. 2021, DINO (eval_knn.py: the class token)",
    ),
    Row(
        ("vit_*.mae",),
        "token",
        "imagenet",
        "bicubic",
        0.875,
        "He et al. 2022, MAE (main_linprobe.py: the class token)",
    ),
    Row(
        ("vit_*_siglip_gap_*",),
        "avg",
        "half",
        "bicubic",
        None,
        "Beyer et al. 2024, PaliGemma (the tower without its attention pool)",
    ),
    Row(
        ("vit_*_siglip_*",),
        "map",
        "half",
        "bicubic",
        None,
        "Zhai et al. 2023, SigLIP; Tschannen et al. 2025, SigLIP 2 (big_vision: pool_type map)",
    ),
    Row(
        ("eva02_*_clip_*", "eva_*_clip_*"),
        "token",
        "clip",
        "bicubic",
        None,
        "Sun et al. 2023, EVA-CLIP (class token)",
    ),
    Row(
        ("vit_*_clip_*",),
        "token",
        PER_TAG,
        "bicubic",
        None,
        "Radford et al. 2021, CLIP (class token, before the projection, as in its linear probes)",
    ),
    Row(
        ("eva02_*", "eva_giant_*"),
        "avg",
        PER_TAG,
        "bicubic",
        None,
        "Fang et al. 2023, EVA and EVA-02 (mean of the patch tokens)",
    ),
    Row(
        ("beit_*", "beitv2_*"),
        "avg",
        PER_TAG,
        "bicubic",
        None,
        "Bao et al. 2022, BEiT; Peng et al. 2022, BEiT v2 (use_mean_pooling)",
    ),
    Row(
        ("deit_*",),
        "token",
        "imagenet",
        "bicubic",
        None,
        "Touvron et al. 2021, DeiT (class token; distilled: its mean with the distillation token)",
    ),
    Row(("deit3_*",), "token", "imagenet", "bicubic", None, "Touvron et al. 2022, DeiT III (class token)"),
    Row(
        ("vit_*.augreg*", "vit_*.orig_in21k*", "vit_*.sam_in1k"),
        "token",
        "half",
        "bicubic",
        None,
        "Dosovitskiy et al. 2021, ViT; Steiner et al. 2022, AugReg (classifier: token)",
    ),
    Row(
        ("vit_*ijepa",),
        "avg",
        "imagenet",
        "bicubic",
        None,
        "Assran et al. 2023, I-JEPA (average-pooled patch representations)",
    ),
    Row(("vit_pe_core_*",), "map", "half", "bicubic", None, "Bolya et al. 2025, Perception Encoder"),
    Row(("hiera_*",), "avg", "imagenet", "bicubic", None, "Ryali et al. 2023, Hiera (mean of the patches)"),
    Row(
        ("swin_*", "swinv2_*"),
        "avg",
        "imagenet",
        "bicubic",
        None,
        "Liu et al. 2021, Swin; Liu et al. 2022, Swin V2 (mean of the last map)",
    ),
)


def evaluated(name: str) -> Row | None:
    """The row of architecture.tag; None for a name that the table does not hold."""
    return next((row for row in TABLE if any(fnmatchcase(name, p) for p in row.patterns)), None)
