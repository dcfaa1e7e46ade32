"""Masked attention: keys and values of masked tokens are left out, for every head and every query alike.

    Psi[i,j] = m[j] exp(A[i,j]) / sum_s m[s] exp(A[i,s]),    A = Q K^T / sqrt(d_head) + bias

(MEAT, section 3.2.) Masked tokens still ask and still pass the residual path and the FFN. Under
`self_loop` a masked token also sees itself, m[i,j] = m[j] + (1 - m[j]) [i = j], so that a row
without an active key (a Swin window, a network without CLS) stays defined.

In training the mask multiplies and is never an additive log m, which would kill the gradient of
masked tokens: with a[i,j] = A[i,j] - max over the active keys of row i,

    E = exp(min(a, 20)),    Z[i] = sum_j m[i,j] E[i,j],    out = (m E V) / Z.

The maximum is a constant of the row and cancels, so it has no gradient; with

    T[i,j] = E[i,j] / Z[i] * (grad_out[i] . V[j] - grad_out[i] . out[i])

the gradients are dL/dm[i,j] = T[i,j], alive for masked keys too, and dL/dA = m T.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.models.swin_transformer import WindowAttention, window_partition
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from methods.meat.masks import BinaryMask

MAX_GAP = 20.0  # a masked key further above the active ones than this is treated as if at this distance


class _MaskedAttention(torch.autograd.Function):
    """(q, k, v: (B, heads, N, d), mask (B, N), bias (W, heads, N, N) | None, self_loop) -> (B, heads, N, d).

    The (N, N) matrices are what attention costs outside its matrix products, so m is multiplied
    into V, K and sums instead: forward keeps E alone, and neither m, Psi nor T / Z is ever formed.
    Matrix products run in the precision of q, everything else in float32 at least.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None, self_loop: bool
    ) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            e = (q * q.shape[-1] ** -0.5 @ k.mT).to(mask.dtype)
            if bias is not None:
                e.view(-1, *bias.shape).add_(bias)
            column = mask[:, None, :, None]
            active = column.mT > 0
            if self_loop:
                active = active | torch.eye(q.shape[-2], dtype=torch.bool, device=q.device)
            e.sub_(e.masked_fill(~active, -torch.inf).amax(-1, keepdim=True)).clamp_(max=MAX_GAP).exp_()
            total = e @ column
            out = (e.to(v.dtype) @ (v * column.to(v.dtype))).to(mask.dtype)
            if self_loop:
                own = _diagonal(e) * (1 - column)
                total += own
                out += own * v
            out /= total
        ctx.save_for_backward(q, k, v, mask, e, total, out)
        ctx.self_loop = self_loop  # type: ignore[attr-defined]
        return out.to(v.dtype)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor, None, None]:
        q, k, v, mask, e, total, out = ctx.saved_tensors  # type: ignore[attr-defined]
        self_loop: bool = ctx.self_loop  # type: ignore[attr-defined]
        grad = grad / total
        t = (grad.to(v.dtype) @ v.mT).to(mask.dtype)
        t.sub_((grad * out).sum(-1, keepdim=True)).mul_(e)
        grad_mask = t.sum((1, 2))
        if self_loop:  # the diagonal of m is 1 whatever the mask says
            grad_mask -= _diagonal(t).sum((1, 3))
        if not ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
            return None, None, None, grad_mask, None, None
        scale = q.shape[-1] ** -0.5
        column = mask[:, None, :, None].to(q.dtype)
        low, grad = t.to(q.dtype), grad.to(q.dtype)
        grad_q = low @ (k * column)
        grad_k = (low.mT @ q).mul_(column)
        grad_v = (e.to(q.dtype).mT @ grad).mul_(column)
        if self_loop:
            own = _diagonal(low) * (1 - column)
            grad_q += own * k
            grad_k += own * q
            grad_v += _diagonal(e).to(q.dtype) * (1 - column) * grad
        return grad_q.mul_(scale), grad_k.mul_(scale), grad_v, grad_mask, None, None


def _diagonal(square: Tensor) -> Tensor:
    """(..., N, N) -> (..., N, 1)."""
    return square.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)


def masked_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None = None, self_loop: bool = False
) -> Tensor:
    """The training form: q, k, v (B, heads, N, d) and a mask (B, N) in {0., 1.} -> (B, heads, N, d).

    bias: (W, heads, N, N), constant, added to the scores of every W consecutive rows of the batch.
    Without `self_loop` each row of `mask` must hold a 1. With v = the identity this returns Psi.
    """
    return _MaskedAttention.apply(q, k, v, mask, bias, self_loop)


def _heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, 3 C) -> q, k, v, (B, heads, N, C / heads) each."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def attended(keep: Tensor, self_loop: bool) -> Tensor:
    """Boolean (..., N, N) or (..., 1, N), True where query i may see key j, of `keep` (..., N)."""
    rows = keep.unsqueeze(-2)
    if not self_loop:
        return rows
    return rows | torch.eye(keep.shape[-1], dtype=torch.bool, device=keep.device)


class MaskedAttention(nn.Module):
    """timm's ViT `Attention` with a mask over its patch tokens; takes over its layers under their names.

    prefix: tokens in front (CLS, registers) that are always kept. `kept` is the mean of the mask
    sampled in the last training forward, over the batch and the patch tokens, with its gradient.
    """

    qkv: nn.Linear
    q_norm: nn.Module
    k_norm: nn.Module
    norm: nn.Module
    proj: nn.Linear
    proj_drop: nn.Module

    def __init__(
        self, attention: Attention, mask: BinaryMask, noise: torch.Generator, prefix: int, self_loop: bool
    ) -> None:
        super().__init__()
        for name, layer in attention.named_children():
            self.add_module(name, layer)
        self.gate: nn.Module | None = attention.gate
        self.num_heads: int = attention.num_heads
        self.mask = mask
        self.noise = noise
        self.prefix = prefix
        self.self_loop = self_loop
        self.kept = torch.ones(())

    def keep(self) -> Tensor:
        """The tokens kept at inference, boolean (N,), prefix first."""
        return F.pad(self.mask.hard(), (self.prefix, 0), value=True)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x: (B, N, C), prefix first -> (B, N, C); ValueError for a mask from outside."""
        if attn_mask is not None or is_causal:
            raise ValueError("MEAT brings its own attention mask; attn_mask and is_causal are not supported")
        q, k, v = _heads(self.qkv(x), self.num_heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.training:
            sampled = self.mask.sample(self.noise, (len(x),))
            self.kept = sampled.mean()
            out = masked_attention(q, k, v, F.pad(sampled, (self.prefix, 0), value=1.0), None, self.self_loop)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attended(self.keep(), self.self_loop))
        out = self.norm(out.transpose(1, 2).flatten(2))
        if self.gate is not None:
            out = out * self.gate(x).sigmoid()
        return self.proj_drop(self.proj(out))


class MaskedWindowAttention(nn.Module):
    """timm's `WindowAttention` with one mask over its block's whole (H, W) map.

    The mask is shifted, padded and cut into windows as the block does with x; padding counts as
    masked. A window may hold no active key, so the self loop is always on.
    """

    qkv: nn.Linear
    proj: nn.Linear
    proj_drop: nn.Module
    positions: Tensor
    relative_position_index: Tensor

    def __init__(
        self,
        attention: WindowAttention,
        mask: BinaryMask,
        noise: torch.Generator,
        grid: tuple[int, int],
        window: tuple[int, int],
        shift: tuple[int, int],
    ) -> None:
        super().__init__()
        for name, layer in attention.named_children():
            self.add_module(name, layer)
        self.relative_position_bias_table = attention.relative_position_bias_table
        positions = window_positions(grid, window, shift).to(attention.qkv.weight.device)
        self.register_buffer("positions", positions, persistent=False)
        index = attention.get_buffer("relative_position_index")
        self.register_buffer("relative_position_index", index, persistent=False)
        self.num_heads: int = attention.num_heads
        self.mask = mask
        self.noise = noise
        self.self_loop = True
        self.kept = torch.ones(())

    def keep(self) -> Tensor:
        """The tokens kept at inference, boolean (H * W,)."""
        return self.mask.hard()

    def _windows(self, mask: Tensor) -> Tensor:
        """(..., H * W) -> (..., windows, window area), 0 on padding."""
        return F.pad(mask, (1, 0))[..., self.positions]

    def _bias(self, shift: Tensor | None) -> Tensor:
        """Relative-position bias plus shift mask: (windows or 1, heads, window area, window area)."""
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1).unsqueeze(0)
        return bias if shift is None else bias + shift.unsqueeze(1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B * windows, window area, C); mask: the block's shift mask (windows, area, area), additive."""
        windows = len(self.positions)
        q, k, v = _heads(self.qkv(x), self.num_heads)
        bias = self._bias(mask)
        if self.training:
            sampled = self.mask.sample(self.noise, (len(x) // windows,))
            self.kept = sampled.mean()
            out = masked_attention(q, k, v, self._windows(sampled).flatten(0, 1), bias, self_loop=True)
        else:
            seen = attended(self._windows(self.keep()), self_loop=True).unsqueeze(1)
            # One bias for each window and head: the windows of an image stand as further heads.
            bias = bias.masked_fill(~seen, -torch.inf).flatten(0, 1).to(q.dtype)
            q, k, v = (part.unflatten(0, (-1, windows)).flatten(1, 2) for part in (q, k, v))
            out = F.scaled_dot_product_attention(q, k, v, bias)
            out = out.unflatten(1, (windows, self.num_heads)).flatten(0, 1)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))


def window_positions(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """Which token stands where once a Swin block has shifted, padded and cut its map: (windows, window area).

    Tokens of the row-major (H, W) map count from 1; 0 is padding.
    """
    numbers = torch.arange(1, grid[0] * grid[1] + 1).view(1, *grid, 1)
    numbers = torch.roll(numbers, shifts=(-shift[0], -shift[1]), dims=(1, 2))
    numbers = F.pad(numbers, (0, 0, 0, -grid[1] % window[1], 0, -grid[0] % window[0]))
    return window_partition(numbers, window).flatten(1)
