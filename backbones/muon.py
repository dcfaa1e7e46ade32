"""Muon: matrices move by the orthogonal part of their momentum, everything else as in AdamW.

    M <- m M + (1 - m) G
    W <- (1 - lr wd) W - lr 0.2 sqrt(max(a, b)) orthogonal((1 - m) G + m M)

with m = 0.95 for W of shape (a, b). Jordan et al. 2024 ("Muon: an optimizer for hidden layers in neural
networks", Nesterov form and the quintic Newton-Schulz iteration); the factor gives the step the size of
AdamW's, so that one learning rate serves both (Liu et al. 2025, arXiv 2502.16982, eq. 4). torch's and timm's
Muon iterate in bfloat16, which a CPU without AVX512-bf16 emulates thirty times slower; here it is the dtype
that the network's products are computed in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """About U V' of the singular value decompositions U S V' of (N, a, b); singular values in 0.7 to 1.2.

    Computed and returned in `dtype`.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)).to(dtype)
    first, third, fifth = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x if wide else x.mT


class Muon(torch.optim.AdamW):
    """AdamW, except for groups with `matrices: True`, whose tensors (a, ...) move as matrices (a, -1).

    dtype: of the iteration.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(groups, lr=lr)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; it clears the gradients of matrices."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            if group.get("matrices", False):
                self._step_matrices(group)
        super().step()  # passes by what has no gradient
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                alike[parameter.flatten(1).shape].append(parameter)
        for shape, parameters in alike.items():
            momenta = torch.stack([self._momentum(parameter) for parameter in parameters])
            moves = orthogonal(momenta, self.dtype)
            rate = group["lr"] * 0.2 * max(shape) ** 0.5
            for parameter, move in zip(parameters, moves, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(move.view_as(parameter), alpha=rate)
                parameter.grad = None

    def _momentum(self, parameter: Tensor) -> Tensor:
        """Nesterov's: the momentum after this gradient, and the gradient once more; (a, b) float32."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM).flatten(1).float()
