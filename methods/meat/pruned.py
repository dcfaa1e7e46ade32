"""Exact evaluation of a masked, CLS-pooled ViT that computes only what the features depend on.

Block l needs keys and values of the tokens that are active in it, and queries, projection and FFN
only of the tokens that some later block (or the pooling) still reads:

    live_L = {CLS},    live_{l-1} = live_l + active_l

(under a self loop a live token also needs its own key). All of it is a property of the masks, so it
is worked out once for a task and kept as counts and index tensors. Tokens are reordered by the
block in which they are read last: live sets are nested, so each is a prefix of the sequence, and
dropping tokens is a slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard, cast

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from methods.meat.attention import MaskedAttention, attended
from methods.meat.ffn import MaskedFFN, NeuronFFN


@dataclass(frozen=True)
class Step:
    """One block, from the first `given` tokens to the first `live` of them.

    keys: positions (K,) that queries look at, None for all that are given; seen: which pairs of query
    and key, boolean (live, K), None for every pair.
    """

    norm1: nn.Module
    attention: Attention | MaskedAttention
    scale1: nn.Module
    norm2: nn.Module
    ffn: nn.Module
    scale2: nn.Module
    given: int
    live: int
    keys: Tensor | None
    seen: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """x: (B, given, C) -> (B, live, C)."""
        x = x[:, : self.live] + self.scale1(self._attend(self.norm1(x)))
        return x + self.scale2(self.ffn(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        attention = self.attention
        heads, layer = attention.num_heads, attention.qkv
        if self.keys is None and self.live == self.given:
            q, k, v = layer(x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        else:
            inner = layer.out_features // 3
            bias_q, bias_kv = (None, None) if layer.bias is None else (layer.bias[:inner], layer.bias[inner:])
            q = F.linear(x[:, : self.live], layer.weight[:inner], bias_q)
            q = q.unflatten(-1, (heads, -1)).transpose(1, 2)
            kv = F.linear(x if self.keys is None else x[:, self.keys], layer.weight[inner:], bias_kv)
            k, v = kv.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = attention.q_norm(q), attention.k_norm(k)
        out = F.scaled_dot_product_attention(q, k, v, self.seen)
        out = attention.norm(out.transpose(1, 2).flatten(2))
        if attention.gate is not None:
            out = out * attention.gate(x[:, : self.live]).sigmoid()
        return cast(Tensor, attention.proj(out))

    def macs(self) -> int:
        """Multiply-accumulates for one image: 12 N d^2 + 2 N^2 d if all N tokens live and the FFN has 4 d."""
        width, live = self.attention.qkv.in_features, self.live
        keys = self.given if self.keys is None else len(self.keys)
        return 2 * width**2 * (live + keys) + 2 * width * live * (keys + self._hidden())

    def dense_macs(self, tokens: int) -> int:
        """The same for the unmasked block over all tokens."""
        width = self.attention.qkv.in_features
        return 4 * width**2 * tokens + 2 * width * tokens * (tokens + _linear(self.ffn).out_features)

    def _hidden(self) -> int:
        kept = self.ffn.masks[0].hard().sum() if isinstance(self.ffn, NeuronFFN) else None
        return _linear(self.ffn).out_features if kept is None else int(kept)


def _linear(ffn: nn.Module) -> nn.Linear:
    return cast(nn.Linear, ffn.fc1)


def can_prune(net: nn.Module) -> TypeGuard[VisionTransformer]:
    """Whether `net` is a ViT of plain blocks whose features are its normalised CLS token."""
    return (
        type(net) is VisionTransformer  # the distilled DeiT, a subclass, pools two tokens
        and net.cls_token is not None
        and str(net.global_pool) == "token"
        and getattr(net, "attn_pool", None) is None
        and all(type(block) is Block for block in net.blocks)
        and all(isinstance(block.attn, Attention | MaskedAttention) for block in net.blocks)
        and all(isinstance(block.mlp, Mlp | MaskedFFN) for block in net.blocks)
    )


class PrunedViT:
    """The features (B, C) of a masked ViT whose masks stay as they are; `net` must pass `can_prune`.

    Equal to the masked-dense network up to rounding. Rebuild it when masks change.
    """

    def __init__(self, net: VisionTransformer) -> None:
        self.net = net
        self.tokens = int(net.patch_embed.num_patches + net.num_prefix_tokens)
        active = [_active(block.attn, self.tokens) for block in net.blocks]
        read = torch.zeros(self.tokens, dtype=torch.long)  # 0: never, l: last read by block l - 1
        for number, keep in enumerate(active, start=1):
            read[keep] = number
        read[0] = len(active) + 1  # CLS, by the pooling
        lives = [int((read > number).sum()) for number in range(len(active) + 1)]
        order = torch.argsort(read, descending=True, stable=True)
        plain = lives[0] == self.tokens and torch.equal(order, torch.arange(self.tokens))
        self.order = None if plain else order[: lives[0]].to(_device(net))
        self.steps = [
            _step(block, keep[order], given, live)
            for block, keep, given, live in zip(net.blocks, active, lives[:-1], lives[1:], strict=True)
        ]

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), as the network takes them -> (B, C)."""
        net = self.net
        x = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images))))
        if self.order is not None:
            x = x[:, self.order]
        for step in self.steps:
            x = step(x)
        return cast(Tensor, net.head_drop(net.fc_norm(net.norm(x)[:, 0])))

    def macs_share(self) -> float:
        """Multiply-accumulates of all blocks over those of the dense ones."""
        dense = sum(step.dense_macs(self.tokens) for step in self.steps)
        return sum(step.macs() for step in self.steps) / dense


def _active(attention: Tensor | nn.Module, tokens: int) -> Tensor:
    """The tokens that a block's attention keeps, boolean (tokens,), on the CPU."""
    if isinstance(attention, MaskedAttention):
        return attention.keep().cpu()
    return torch.ones(tokens, dtype=torch.bool)


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


def _step(block: nn.Module, keep: Tensor, given: int, live: int) -> Step:
    """`keep`: the block's mask in the order of the sequence."""
    assert isinstance(block, Block)
    attention = cast(Attention | MaskedAttention, block.attn)
    self_loop = isinstance(attention, MaskedAttention) and attention.self_loop
    needed = keep.clone()
    if self_loop:
        needed[:live] = True
    keys = torch.nonzero(needed[:given]).flatten()
    seen = None
    if self_loop and not bool(keep[:live].all()):
        seen = attended(keep, self_loop=True)[:live, keys].to(_device(block))
    looked_at = None if len(keys) == given else keys.to(_device(block))
    layers = (block.norm1, attention, block.ls1, block.norm2, block.mlp, block.ls2)
    return Step(*layers, given, live, looked_at, seen)
