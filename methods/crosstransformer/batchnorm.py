"""BatchNorm in episodes: the queries are normalised with the moments of the support's batch.

Only the support's pass updates the running averages, and gradients flow through its moments; otherwise a
query would be normalised together with the other queries, which tell about its class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Moments = tuple[Tensor, Tensor]


class EpisodePasses:
    """Which of the two passes runs; `moments` are those of the support's, by layer."""

    def __init__(self) -> None:
        self.of_query = False
        self.moments: dict[nn.Module, Moments] = {}

    def support(self) -> None:
        """The next pass is over the support: its moments are taken, and the running averages move."""
        self.of_query = False
        self.moments.clear()

    def query(self) -> None:
        """The next passes are over queries, with the moments of the last support."""
        self.of_query = True


@contextmanager
def episode_passes(net: nn.Module) -> Iterator[EpisodePasses]:
    """Within the block, the BatchNorms of `net` that train follow `support()` and `query()`."""
    passes = EpisodePasses()
    layers = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.training]
    for layer in layers:
        layer.__dict__["forward"] = _forward(layer, passes)
    try:
        yield passes
    finally:
        for layer in layers:
            del layer.__dict__["forward"]


def _forward(layer: _BatchNorm, passes: EpisodePasses) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        kind, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))  # autocast brings half precision
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        if passes.of_query:
            mean, variance = passes.moments[layer]
        else:
            variance, mean = torch.var_mean(x, axes, correction=0)
            passes.moments[layer] = (mean, variance)
            _move(layer, mean.detach(), variance.detach(), x.numel() // x.shape[1])
        out = (x - mean.view(shape)) * (variance + layer.eps).rsqrt().view(shape)
        if layer.affine:
            out = out * layer.weight.view(shape) + layer.bias.view(shape)
        out = out.to(kind)
        return layer.act(layer.drop(out)) if isinstance(layer, BatchNormAct2d) else out

    return forward


@torch.no_grad()
def _move(layer: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    if layer.running_mean is None or layer.running_var is None:
        return
    rate = 0.1 if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean), rate)
    unbiased = variance * (count / max(count - 1, 1))  # as torch counts them
    layer.running_var.lerp_(unbiased.to(layer.running_var), rate)
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
