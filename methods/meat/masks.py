"""Learned binary masks: one logit per unit, sampled with logistic noise in training, its sign afterwards.

MEAT samples m = hard Gumbel-softmax((t0, t1), tau=1)[0]. The difference of two Gumbel variables is
logistic, so with s = t0 - t1 and u ~ U(0, 1) the same distribution is

    m = [s + log(u / (1 - u)) > 0],    dm/ds := sigma'(s + log(u / (1 - u)))   (straight-through)

which keeps half the memory and one draw per unit. s starts at 2 gamma where (t0, t1) started at
(gamma, -gamma), and wants twice the learning rate under Adam, which moved each of t0 and t1 by one
step. Logits, noise and slope stay in float32: in bfloat16 most slopes at s = 8 are exactly 0.

On disk masks are one bit string in their order, eight to a byte, padded with zeros (`pack_bits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

Init = Literal["gamma", "uniform"]


def logistic_noise(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """log(u / (1 - u)) of uniform u, of the given shape, on the device and in the precision of `like`."""
    uniform = torch.rand(shape, dtype=like.dtype, device=generator.device, generator=generator)
    return uniform.logit_().to(like.device)


def _slope_(x: Tensor) -> Tensor:
    """sigma'(x) = e / (1 + e)^2 with e = exp(-|x|), in place: precise in both tails, unlike y (1 - y)."""
    e = x.abs_().neg_().exp_()
    return e.div_((1 + e).square_())


class _Sample(torch.autograd.Function):
    """(logits (*units), noise (*batch, *units)) -> masks (*batch, *units) in {0, 1}; overwrites the noise."""

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, noise: Tensor) -> Tensor:
        x = noise.add_(logits)
        mask = (x > 0).to(x.dtype)
        ctx.save_for_backward(_slope_(x))
        ctx.batch_dims = tuple(range(noise.ndim - logits.ndim))  # type: ignore[attr-defined]
        return mask

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors  # type: ignore[attr-defined]
        grad = grad * slope
        return (grad.sum(ctx.batch_dims) if ctx.batch_dims else grad), None  # type: ignore[attr-defined]


class _MaskedWeight(torch.autograd.Function):
    """(weight, logits, noise), of one shape -> m * weight; only the logits get a gradient.

    Sampling, straight-through slope and product in one node: what is kept for the backward pass is
    the single tensor weight * slope, since d(m * w)/ds = w * dm/ds.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, logits: Tensor, noise: Tensor) -> Tensor:
        x = noise.add_(logits)
        masked = weight * (x > 0).to(weight.dtype)
        ctx.save_for_backward(_slope_(x).mul_(weight))
        return masked

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, Tensor, None]:
        (weighted_slope,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return None, weighted_slope * grad, None


class BinaryMask(nn.Module):
    """A mask over `shape` units with one float32 logit each; kept where the logit is positive."""

    def __init__(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.ones(shape, dtype=torch.float32, device=device))

    @torch.no_grad()
    def reset(self, gamma: float, init: Init, generator: torch.Generator) -> None:
        """Start a task: s = 2 gamma, or s = t0 - t1 with t0, t1 ~ U(-gamma, gamma)."""
        if init == "gamma":
            self.logits.fill_(2 * gamma)
        else:
            shape, device = self.logits.shape, generator.device
            t0, t1 = torch.rand((2, *shape), device=device, generator=generator).mul_(2 * gamma)
            self.logits.copy_(t0 - t1)

    def sample(self, generator: torch.Generator, batch: tuple[int, ...] = ()) -> Tensor:
        """Independent masks (*batch, *shape) in {0., 1.}; straight-through gradients reach the logits."""
        noise = logistic_noise((*batch, *self.logits.shape), self.logits, generator)
        return _Sample.apply(self.logits, noise)

    def sample_weight(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """One sampled mask times a frozen `weight` of the mask's shape; ValueError if the weight trains."""
        if weight.requires_grad:
            raise ValueError("MEAT masks frozen weights only; this weight requires a gradient")
        return _MaskedWeight.apply(weight, self.logits, logistic_noise(weight.shape, self.logits, generator))

    def hard(self) -> Tensor:
        """The mask at inference, boolean (*shape): s > 0."""
        return self.logits.detach() > 0

    @torch.no_grad()
    def load(self, bits: Tensor) -> None:
        """Make `hard()` equal `bits`, boolean (*shape). What the logits were is lost."""
        self.logits.copy_(torch.where(bits.to(self.logits.device), 1.0, -1.0))


def pack_bits(masks: Sequence[Tensor]) -> Tensor:
    """Boolean masks of any shapes -> uint8 (ceil(bits / 8),), on the CPU."""
    flat = [mask.reshape(-1).cpu() for mask in masks]
    bits = torch.cat(flat) if flat else torch.zeros(0, dtype=torch.bool)
    return torch.from_numpy(np.packbits(bits.numpy()))


def unpack_bits(packed: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """The inverse of `pack_bits`; ValueError if `packed` is not as long as `shapes` need."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    bits = sum(sizes)
    if packed.numel() != (bits + 7) // 8:
        raise ValueError(f"{bits} mask bits need {(bits + 7) // 8} bytes, got {packed.numel()}")
    flat = torch.from_numpy(np.unpackbits(packed.cpu().numpy(), count=bits)).bool()
    parts = flat.split(sizes) if sizes else ()
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
