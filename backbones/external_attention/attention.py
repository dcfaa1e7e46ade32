"""External attention: tokens are compared with learnt memories, not with each other.

Guo et al., "Beyond Self-attention: External Attention using Two Linear Layers for Visual Tasks", 2021.
Tokens F (N, d), memories M_k and M_v (S, d):

    Z = F M_k^T,   A = Norm(Z),   out = A M_v

Norm normalises twice: softmax over the tokens, per slot, then division by the sum over the slots, per
token. The first couples all tokens, so that one dropped or padded changes the output of every other, and
there are no pairs of tokens for a mask to forbid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SLOTS = 64
EXPANSION = 4


def double_normalise(logits: Tensor) -> Tensor:
    """Attention A of logits Z: (B, N, ..., S) to the same, normalised over dimension 1, then over the last.

    The softmax over tokens is exp(Z - logsumexp_N Z), and dividing that by its sum over slots is a second
    softmax: A = softmax_S(Z - logsumexp_N Z). Nothing underflows, so no eps is needed, and every token's
    row sums to 1 however small its logits are. Computed in float32 at least, returned in Z's precision.
    """
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return z.log_softmax(dim=1).softmax(dim=-1).to(logits.dtype)


def _init_memories(key: nn.Linear, value: nn.Linear) -> None:
    """Logits of variance 1 for tokens of variance 1, so that slots differ from the first step on.

    At timm's 0.02 all of A is within a few percent of 1/S, and the class token, whose own input is the
    same for every image, learns of the image through the softmax over tokens alone. So small EAMLPs and
    ViTs stayed at chance on digits (3 and 8 epochs); with this they were right on 70 and 60 % (3 and 6).
    """
    for memory in (key, value):
        nn.init.normal_(memory.weight, std=memory.in_features**-0.5)
        if memory.bias is not None:
            nn.init.zeros_(memory.bias)


class ExternalAttention(nn.Module):
    """Single-head external attention, (B, N, d) to (B, N, d), without projections.

    slots: S; key_bias, value_bias: whether the Linears that hold M_k (as is) and M_v (transposed) have
    one; without, every output is a weighted mean of M_v's rows. attn_drop: dropout on A.
    """

    def __init__(
        self,
        dim: int,
        slots: int = SLOTS,
        *,
        key_bias: bool = False,
        value_bias: bool = False,
        attn_drop: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.memory_key = nn.Linear(dim, slots, bias=key_bias, device=device, dtype=dtype)
        self.memory_value = nn.Linear(slots, dim, bias=value_bias, device=device, dtype=dtype)
        self.attn_drop = nn.Dropout(attn_drop)
        self.init_weights()

    def init_weights(self) -> None:
        """Memories for tokens of about unit size; timm calls this after it has drawn all Linears."""
        _init_memories(self.memory_key, self.memory_value)

    def attention(self, x: Tensor) -> Tensor:
        """A of the tokens x (B, N, d): (B, N, S), before dropout."""
        return double_normalise(self.memory_key(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.memory_value(self.attn_drop(self.attention(x)))


class MultiHeadExternalAttention(nn.Module):
    """Multi-head external attention as in EAMLP, (B, N, d) to (B, N, d), and timm's `attn_layer`.

    x = expand(tokens) has 4h heads of d/h numbers; all of them share one M_k and one M_v; their outputs,
    side by side, are projected from 4d to d. Costs more than self-attention unless N > 2d + 256 (`cost`).

    The signature is what timm's ViT blocks pass. All Linears have biases, whatever qkv_bias says;
    proj_bias is obeyed. ValueError if num_heads does not divide dim, and for qk_norm and scale_norm:
    there are no queries and keys of tokens to norm. norm_layer and depth change nothing.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        slots: int = SLOTS,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        scale_norm: bool = False,
        proj_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        norm_layer: type[nn.Module] | None = None,
        depth: int = 0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"external attention: {num_heads} heads do not divide a width of {dim}")
        if qk_norm or scale_norm:
            raise ValueError("external attention has no qk_norm and no scale_norm; leave them false")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.expand = nn.Linear(dim, EXPANSION * dim, device=device, dtype=dtype)
        self.memory_key = nn.Linear(self.head_dim, slots, device=device, dtype=dtype)
        self.attn_drop = nn.Dropout(attn_drop)
        self.memory_value = nn.Linear(slots, self.head_dim, device=device, dtype=dtype)
        self.proj = nn.Linear(EXPANSION * dim, dim, bias=proj_bias, device=device, dtype=dtype)
        self.proj_drop = nn.Dropout(proj_drop)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Memories for tokens that were normed; timm calls this after it has drawn all Linears."""
        _init_memories(self.memory_key, self.memory_value)
        weight = self.expand.weight
        self.memory_key.weight.div_(weight.std() * weight.shape[1] ** 0.5)  # the size of expand(x)

    def attention(self, x: Tensor) -> Tensor:
        """A of the tokens x (B, N, d): (B, N, 4h, S), before dropout."""
        return double_normalise(self.memory_key(self.expand(x).unflatten(-1, (-1, self.head_dim))))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """ValueError for a mask, causal or given: external attention has no pairs of tokens to forbid."""
        if attn_mask is not None or is_causal:
            raise ValueError(
                "external attention takes no attention mask: tokens attend to memories, not to each other"
            )
        heads = self.memory_value(self.attn_drop(self.attention(x)))
        return self.proj_drop(self.proj(heads.flatten(2)))
