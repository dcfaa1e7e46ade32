"""Small plain and masked networks that the MEAT tests share."""

from __future__ import annotations

import copy

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from backbones.sites import find_sites
from methods.meat import mask_attention, mask_ffn
from methods.meat.masks import BinaryMask

BLOCKS = 4


def vit(**arguments) -> VisionTransformer:
    """32 px, patch 8: 16 patch tokens and CLS, width 32, four blocks; layers that matter drawn large."""
    settings = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": BLOCKS, "num_heads": 2}
    torch.manual_seed(0)
    return _lively(VisionTransformer(**{**settings, "num_classes": 0, **arguments}))


def swin(size: int = 28) -> SwinTransformer:
    """28 px, patch 4: a 7 x 7 map that windows of 4 pad and shift, then a 4 x 4 map that is one window.

    With 32 px the first map is 8 x 8 and nothing is padded.
    """
    torch.manual_seed(0)
    return _lively(
        SwinTransformer(
            img_size=size,
            patch_size=4,
            embed_dim=16,
            depths=(2, 2),
            num_heads=(2, 4),
            window_size=4,
            num_classes=0,
            drop_path_rate=0.0,
        )
    )


def images(net: nn.Module, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, *net.patch_embed.img_size, generator=torch.Generator().manual_seed(5))


def masked(net: nn.Module, ffn: str = "elementwise", self_loop: bool = False) -> nn.Module:
    """A masked copy of `net`, frozen, all logits at 8; it gets attributes `noise`, `attentions`, `ffns`."""
    net = copy.deepcopy(net).requires_grad_(False)
    net.noise = torch.Generator().manual_seed(1)
    net.attentions, net.ffns = [], []
    for site in find_sites(net):
        net.attentions.append(mask_attention(site, net.noise, self_loop))
        if ffn != "none":
            net.ffns.append(mask_ffn(site, net.noise, ffn))
    for mask in masks_of(net):
        mask.reset(4.0, "gamma", net.noise)
    return net.eval()


def masks_of(net: nn.Module) -> list[BinaryMask]:
    return [module for module in net.modules() if isinstance(module, BinaryMask)]


def draw(net: nn.Module, keep: float, seed: int = 2) -> None:
    """Give every mask of `net` independent bits that are on with probability `keep`."""
    source = torch.Generator().manual_seed(seed)
    for mask in masks_of(net):
        mask.load(torch.rand(mask.logits.shape, generator=source) < keep)


def settle(net: nn.Module) -> None:
    """Move logits so far from 0 that sampling repeats the hard masks."""
    with torch.no_grad():
        for mask in masks_of(net):
            mask.logits.mul_(1e4)


def _lively(net: nn.Module) -> nn.Module:
    # timm's initial weights (0.02) make attention uniform, which would hide errors in the scores.
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 2 and "table" not in name:
                parameter.normal_(0.0, 1.2 * parameter.shape[1] ** -0.5)
            elif "table" in name or name.endswith("bias"):
                parameter.normal_(0.0, 0.3)
    return net.eval()
