"""Masked autoencoder: the network sees a quarter of the patches, a small decoder predicts the others.

He, Chen, Xie, Li, Dollár and Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.

    latent = norm(blocks([CLS, kept patches + code]))       the network that is kept
    pred   = predict(blocks(put back(embed(latent), mask token) + code))      the decoder, discarded
    loss   = mean over the removed patches of mean (pred - target)^2

The code is the fixed 2-D sin-cos one, zero for CLS; it is stored in the network's own `pos_embed`, so that an
ordinary timm ViT remains.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from timm.layers.norm import LayerNorm
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from backbones.pretraining.masking import (
    Pair,
    draw_masking,
    kept_patches,
    normalised,
    patchify,
    position_code,
    take,
)
from benchmarks.errors import RequestError


class MAE(nn.Module):
    """The objective "mae" on a ViT with a class token, which its features are taken from.

    decoder_width, decoder_depth, decoder_heads: of the decoder (the paper's is 512, 8, 16); mask_ratio:
    the share of patches that is removed; norm_pix: whether the target is each patch normalised by its own
    mean and deviation, which needs patches of at least 4 pixels a side.

    Overwrites the network's position code and freezes it. RequestError for a network or a setting that does
    not fit.
    """

    views: ClassVar[int] = 1

    def __init__(
        self,
        net: nn.Module,
        decoder_width: int = 128,
        decoder_depth: int = 2,
        decoder_heads: int = 4,
        mask_ratio: float = 0.75,
        norm_pix: bool = True,
    ) -> None:
        super().__init__()
        self.net = _fitting(net)
        embed = self.net.patch_embed
        self.patch: Pair = embed.patch_size
        self.grid: Pair = embed.grid_size
        self.patches = self.grid[0] * self.grid[1]
        self.keep = kept_patches(self.patches, mask_ratio)
        self.norm_pix = norm_pix
        values = self.patch[0] * self.patch[1] * self.net.in_chans
        self.decoder = Decoder(
            self.net.embed_dim, decoder_width, decoder_depth, decoder_heads, self.grid, values
        )
        _fix_position_code(self.net, self.grid)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of normalised images (B, 3, H, W), scalar, in their dtype; labels are ignored."""
        return self.loss(images, torch.rand(len(images), self.patches, device=images.device))

    def loss(self, images: Tensor, noise: Tensor) -> Tensor:
        """The same, with the noise (B, L) that decides which patches stay."""
        kept, restore, removed = draw_masking(noise, self.keep)
        target = patchify(images, self.patch)
        if self.norm_pix:
            target = normalised(target)
        return reconstruction_loss(self.decoder(self.encode(images, kept), restore), target, removed)

    def encode(self, images: Tensor, kept: Tensor) -> Tensor:
        """The network's tokens for the patches at `kept` (B, keep) alone: (B, 1 + keep, C), CLS first."""
        net = self.net
        tokens = net._pos_embed(net.patch_embed(images))
        tokens = torch.cat([tokens[:, :1], take(tokens[:, 1:], kept)], dim=1)
        return net.norm(net.blocks(net.norm_pre(tokens)))


class Decoder(nn.Module):
    """From the tokens of the kept patches to the pixels of all.

    encoder_width: channels C that it is given; values: numbers in a patch. Weights are drawn as in the
    paper (appendix A.1): Xavier's uniform, the mask token N(0, 0.02).
    """

    position: Tensor

    def __init__(
        self, encoder_width: int, width: int, depth: int, heads: int, grid: Pair, values: int
    ) -> None:
        super().__init__()
        _check_decoder(width, depth, heads)
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.Sequential(
            *(Block(width, heads, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth))
        )
        self.norm = LayerNorm(width)  # timm's, with an epsilon of 1e-6
        self.predict = nn.Linear(width, values)
        self.register_buffer("position", position_code(grid, width), persistent=False)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, latent: Tensor, restore: Tensor) -> Tensor:
        """latent: (B, 1 + keep, C), CLS first; restore: (B, L), as in `Masking`; returns (B, L, values)."""
        tokens = self.embed(latent)
        batch, patches = restore.shape
        missing = self.mask_token.expand(batch, patches + 1 - tokens.shape[1], -1)
        shuffled = torch.cat([tokens[:, 1:], missing], dim=1)
        tokens = torch.cat([tokens[:, :1], take(shuffled, restore)], dim=1) + self.position
        return self.predict(self.norm(self.blocks(tokens)))[:, 1:]


def reconstruction_loss(pred: Tensor, target: Tensor, removed: Tensor) -> Tensor:
    """Mean squared error of each patch, averaged over the removed ones, in the target's dtype.

    pred, target: (B, L, values); removed: (B, L), 1 where a patch was removed and 0 elsewhere.
    """
    errors = (pred.to(target.dtype) - target).square().mean(dim=-1)
    return (errors * removed).sum() / removed.sum()


def _fix_position_code(net: VisionTransformer, grid: Pair) -> None:
    place = net.pos_embed
    assert place is not None
    with torch.no_grad():
        # Some networks have no row for the class token; its row is zero anyway.
        place.copy_(position_code(grid, net.embed_dim)[-place.shape[1] :])
    place.requires_grad_(False)


def _fitting(net: nn.Module) -> VisionTransformer:
    """The network as what it must be; RequestError with what to change otherwise."""
    if not isinstance(net, VisionTransformer) or not _runs_as_timm_s(net):
        raise RequestError(
            f"objective mae needs timm's plain VisionTransformer, and this network is a "
            f"{type(net).__name__}; take a ViT, or one of the objectives supervised and simclr"
        )
    embed = net.patch_embed
    faults = (
        (not net.has_class_token, "has no class token", "class_token=true and global_pool=token"),
        (net.num_prefix_tokens > 1, "has register tokens", "reg_tokens=0"),
        (net.global_pool != "token", f"pools by {net.global_pool!r}", "global_pool=token"),
        (not isinstance(net.fc_norm, nn.Identity), "norms after pooling", "fc_norm=false"),
        (isinstance(net.norm, nn.Identity), "has no norm after its blocks", "final_norm=true"),
        (net.pos_embed is None, "has no position code", "pos_embed=learn"),
        (not isinstance(net.patch_drop, nn.Identity), "drops patches itself", "patch_drop_rate=0"),
        (not _cuts_patches(embed), "does not embed each patch by itself", "a ViT without convolutional stem"),
        (net.dynamic_img_size, "takes images of any size", "dynamic_img_size=false"),
    )
    for wrong, what, way_out in faults:
        if wrong:
            raise RequestError(f"objective mae does not fit a ViT that {what}; take {way_out}")
    size, patch = embed.img_size, embed.patch_size
    if size[0] % patch[0] or size[1] % patch[1]:
        raise RequestError(
            f"objective mae: patch {patch[0]}x{patch[1]} does not divide the image of {size[0]}x{size[1]}; "
            "take an img_size that is a multiple of patch_size"
        )
    return net


def _runs_as_timm_s(net: VisionTransformer) -> bool:
    """Whether a subclass leaves the forward pass alone, of which `encode` repeats the steps."""
    plain, kind = VisionTransformer, type(net)
    return kind.forward_features is plain.forward_features and kind._pos_embed is plain._pos_embed


def _cuts_patches(embed: nn.Module) -> bool:
    """Whether a token is made of one patch's pixels alone, so that what is removed is not seen."""
    return isinstance(embed, PatchEmbed) and embed.proj.kernel_size == embed.proj.stride == embed.patch_size


def _check_decoder(width: int, depth: int, heads: int) -> None:
    if depth < 1:
        raise RequestError(f"decoder_depth={depth} must be at least 1")
    if heads < 1 or width < 1 or width % heads or width % 4:
        raise RequestError(
            f"decoder_width={width} must be a multiple of 4 and of decoder_heads={heads}, such as 128 and 4"
        )
