"""EAMLP: a T2T-ViT whose self-attention is external attention, in the stem and in the blocks.

Guo et al. 2021; the stem is that of Yuan et al., "Tokens-to-Token ViT", ICCV 2021. Published sizes are in
configurations.py. All other code sees it as timm's VisionTransformer. Its attention costs more than
self-attention would unless there are more than 2d + 256 tokens (see cost.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from timm.layers.weight_init import trunc_normal_
from timm.models import named_apply
from timm.models.vision_transformer import Block, init_weights_vit_timm
from torch import Tensor, nn

from backbones.external_attention.attention import ExternalAttention, MultiHeadExternalAttention

CHANNELS = 3
STEM_WIDTH = 64
STEM_SLOTS = 128
STEM_DROP = 0.1
# (kernel, stride, padding) of the three soft splits: of pixels, then twice of tokens.
SPLITS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))


def grids_of(height: int, width: int) -> list[tuple[int, int]]:
    """(h, w) of the tokens after each soft split of an image in pixels; ValueError if none are left."""
    grids = []
    sides = height, width
    for kernel, stride, padding in SPLITS:
        sides = tuple((side + 2 * padding - kernel) // stride + 1 for side in sides)  # type: ignore[assignment]
        grids.append(sides)
    if min(map(min, grids)) < 1:
        least = SPLITS[0][0] - 2 * SPLITS[0][2]
        raise ValueError(
            f"an image of {height}x{width} px leaves EAMLP's stem no token; give at least {least}x{least} px"
        )
    return grids


def sinusoid(tokens: int, width: int) -> Tensor:
    """Fixed 1-D positions (tokens, width), float32 (Vaswani et al. 2017).

    Column 2i of position p is sin(p / 10000^(2i / width)), column 2i + 1 the cosine of the same angle.
    """
    column = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(tokens, dtype=torch.float64)[:, None] / 10000 ** (column // 2 * 2 / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


class StemBlock(nn.Module):
    """Tokens (B, N, width) to (B, N, 64): x = W LN(x), then x + proj(EA(x)), then x + MLP(LN(x)).

    EA has one head, 128 slots, a bias on M_v and none on M_k; dropout 0.1 on its attention and after proj.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.reduce = nn.Linear(width, STEM_WIDTH)
        self.attn = ExternalAttention(STEM_WIDTH, STEM_SLOTS, value_bias=True, attn_drop=STEM_DROP)
        self.proj = nn.Linear(STEM_WIDTH, STEM_WIDTH)
        self.proj_drop = nn.Dropout(STEM_DROP)
        self.norm2 = nn.LayerNorm(STEM_WIDTH)
        self.mlp = Mlp(STEM_WIDTH, STEM_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(self.norm1(x))
        x = x + self.proj_drop(self.proj(self.attn(x)))
        return x + self.mlp(self.norm2(x))


class T2TStem(nn.Module):
    """Images (B, 3, H, W) of any size to tokens (B, N, C): overlapping splits, attention between them.

    img_size: (H, W) in pixels that the network is made for; grid_size: (h, w) of its tokens, a side of H px
    having (H - 2) / 16, rounded up. ValueError for images too small for one token.
    """

    def __init__(self, img_size: tuple[int, int], embed_dim: int) -> None:
        super().__init__()
        self.img_size = img_size
        self.grid_size = grids_of(*img_size)[-1]
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        pixels, first, second = (kernel**2 for kernel, _, _ in SPLITS)
        self.layers = nn.Sequential(
            StemBlock(CHANNELS * pixels),
            StemBlock(STEM_WIDTH * first),
            nn.Linear(STEM_WIDTH * second, embed_dim),
        )

    def forward(self, images: Tensor) -> Tensor:
        tokens = maps = images
        grids = grids_of(*images.shape[-2:])
        for layer, grid, (kernel, stride, padding) in zip(self.layers, grids, SPLITS, strict=True):
            tokens = layer(F.unfold(maps, kernel, stride=stride, padding=padding).mT)
            maps = tokens.mT.unflatten(-1, grid)
        return tokens


class EAMLP(nn.Module):
    """Images (B, 3, H, W) to logits (B, num_classes), or features (B, C) where num_classes is 0.

    Images may have another size than img_size, even in training: no weight depends on it. Positions are
    counted along rows, so at another size the same row and column has another position. drop_path_rate:
    stochastic depth of the last block, linearly less in those before. ValueError for an image without a
    token and for a width that num_heads does not divide.
    """

    global_pool = "token"
    num_prefix_tokens = 1

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        embed_dim: int = 256,
        depth: int = 7,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_features = self.embed_dim = embed_dim
        size = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.patch_embed = T2TStem(size, embed_dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        positions = sinusoid(self.num_prefix_tokens + self.patch_embed.num_patches, embed_dim)
        self.register_buffer("positions", positions, persistent=False)
        self.blocks = nn.Sequential(
            *(
                Block(
                    embed_dim,
                    num_heads,
                    mlp_ratio,
                    drop_path=float(rate),
                    norm_layer=nn.LayerNorm,
                    attn_layer=MultiHeadExternalAttention,
                )
                for rate in torch.linspace(0, drop_path_rate, depth, device="cpu")
            )
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.fc_norm = nn.Identity()
        self.reset_classifier(num_classes)
        trunc_normal_(self.cls_token, std=0.02)
        named_apply(init_weights_vit_timm, self)

    positions: Tensor

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that timm's optimisers leave without decay, beside vectors."""
        return {"cls_token"}

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh head of num_classes columns, none for 0."""
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        if num_classes:
            self.head = nn.Linear(self.embed_dim, num_classes).to(self.cls_token)
            init_weights_vit_timm(self.head)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to tokens (B, 1 + N, C) after the final norm, CLS first."""
        patches = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return self.norm(self.blocks(x + self._positions(x.shape[1])))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Tokens (B, 1 + N, C) to logits of the CLS token, or to itself (B, C) before them."""
        x = self.fc_norm(x[:, 0])
        return x if pre_logits else self.head(x)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def _positions(self, tokens: int) -> Tensor:
        """Of the network's own size kept; of a larger one computed; of a smaller one a beginning of it."""
        if tokens <= len(self.positions):
            return self.positions[:tokens]
        return sinusoid(tokens, self.embed_dim).to(self.positions)
