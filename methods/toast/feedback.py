"""The learnt feedback: the prompt xi, the transform P, and for every fed unit l the matrices A_l and C_l.

m = clamp(cos(X, xi), 0, 1)      g = (m X) P
g <- g A_l^T,  t_l = g C_l^T     for l from the highest fed unit to the lowest
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, linear

from methods.toast.chains import Chain, Unit, cut

RANK, SCALING = 4, 0.25


class LowRank(nn.Linear):
    """x W^T + 0.25 (x D^T) U^T: W (out, in) frozen, D (4, in) and U (out, 4), U zero at the start."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside, bias=False)
        self.lora_down = nn.Parameter(torch.empty(RANK, inside))
        self.lora_up = nn.Parameter(torch.empty(outside, RANK))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + SCALING * linear(linear(x, self.lora_down), self.lora_up)

    @torch.no_grad()
    def merge(self, sign: int = 1) -> None:
        """Add the product to W (sign 1) or take it off again (sign -1); `forward` adds it all the same."""
        self.weight += sign * SCALING * self.lora_up @ self.lora_down


class Link(nn.Module):
    """A_l, from what a unit puts out to what it is given, and C_l, to its feedback (if it is fed)."""

    def __init__(self, unit: Unit, conv: bool, low_rank: bool) -> None:
        super().__init__()
        matrix = LowRank if low_rank else _matrix
        inside, outside, stride = unit.inside, unit.outside, unit.stride
        self.A: nn.Module
        self.C: nn.Module | None = None
        if conv or not unit.fed:
            self.A = nn.ConvTranspose2d(outside, inside, stride, stride=stride, bias=False)
        else:
            self.A = matrix(outside, inside)
        if unit.fed:
            self.C = nn.Conv2d(inside, inside, 1, bias=False) if conv else matrix(inside, inside)
        self._last = not conv

    def back(self, g: Tensor) -> Tensor:
        """g A_l^T, or the transposed convolution of g; channels stay where they are."""
        if isinstance(self.A, nn.ConvTranspose2d) and self._last:
            return cast(Tensor, self.A(g.movedim(-1, 1))).movedim(1, -1)
        return cast(Tensor, self.A(g))


@dataclass(frozen=True)
class Seen:
    """Input and output of a unit in the second pass."""

    unit: int
    x: Tensor
    y: Tensor


class Feedback(nn.Module):
    """The feedback path to the units [lowest, top) of a chain.

    lite: low-rank updates of A and C and the whole P train; otherwise A and C, and P stays at I.
    """

    def __init__(self, chain: Chain, lowest: int, top: int, lite: bool = False) -> None:
        super().__init__()
        width = chain.units[top - 1].outside
        self.lowest, self.top, self.lite = lowest, top, lite
        self.channels_first = chain.channels_first
        self.prompt = nn.Parameter(torch.empty(width))
        self.P = nn.Parameter(torch.eye(width), requires_grad=lite)
        units = chain.units[lowest:top]
        self.links = nn.ModuleList(Link(unit, chain.channels_first, lite) for unit in units)
        for parameter in self.bases() if lite else ():
            parameter.requires_grad_(False)

    def pretuned(self) -> dict[str, nn.Parameter]:
        """xi and all of A and C by name, without P and low-rank updates: what pre-tuning trains."""
        return {n: p for n, p in self.named_parameters() if n != "P" and "lora_" not in n}

    def bases(self) -> list[nn.Parameter]:
        """All of A and C, without low-rank updates."""
        return [parameter for name, parameter in self.pretuned().items() if name != "prompt"]

    @torch.no_grad()
    def reset(self, noise: torch.Generator) -> None:
        """xi ~ N(0, I), P = I, matrices truncated normal with deviation 0.02, convolutions as PyTorch has
        them; drawn on the CPU."""
        self.prompt.copy_(torch.randn(self.prompt.shape, generator=noise))
        self.P.copy_(torch.eye(len(self.P)))
        for name, parameter in self.links.named_parameters():
            drawn = torch.empty(parameter.shape)
            if name.endswith("lora_up"):
                drawn.zero_()
            elif parameter.ndim == 4 or name.endswith("lora_down"):
                nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=noise)
            else:
                nn.init.trunc_normal_(drawn, std=0.02, generator=noise)
            parameter.copy_(drawn)

    def mask(self, tokens: Tensor) -> Tensor:
        """(..., D) to (..., 1) in [0, 1]."""
        return cosine_similarity(tokens.float(), self.prompt.float(), dim=-1).clamp(0, 1).unsqueeze(-1)

    def forward(self, tokens: Tensor, maps: Tensor) -> dict[int, Tensor]:
        """t_l by unit, of `Chain.source`: what the prompt is compared with, what the mask multiplies."""
        return self.carry(self.mask(tokens).to(maps.dtype) * maps)

    def carry(self, selected: Tensor) -> dict[int, Tensor]:
        """t_l by unit, of the selected tokens m X (..., D): linear in them."""
        g = selected @ self.P
        if self.channels_first:
            g = g.movedim(-1, 1)
        found: dict[int, Tensor] = {}
        for unit in reversed(range(self.lowest, self.top)):
            link = self.link(unit)
            g = link.back(g)
            if link.C is not None:
                found[unit] = link.C(g)
        return found

    def link(self, unit: int) -> Link:
        return cast(Link, self.links[unit - self.lowest])

    def variational(self, seen: Sequence[Seen]) -> Tensor:
        """sum_l mean((sg(y_l) A_l^T - sg(x_l))^2): a gradient to A alone."""
        total = self.prompt.new_zeros(())
        for one in seen:
            x = one.x.detach()
            back = self.link(one.unit).back(one.y.detach())
            if x.ndim == 4:
                back = cut(back, x, self.channels_first)
            total = total + (back.float() - x.float()).square().mean()
        return total


def _matrix(inside: int, outside: int) -> nn.Linear:
    return nn.Linear(inside, outside, bias=False)
