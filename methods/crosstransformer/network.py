"""Meta-training of the whole network: every episode runs through the backbone, with gradients.

BatchNorm normalises the queries with the moments of the support's batch. Only the support's pass updates
the running averages, and gradients flow through its moments; otherwise a query would be normalised together
with the other queries, which tell about its class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from backbones.backbone import Backbone
from backbones.features import evaluating
from benchmarks.images import Inputs
from benchmarks.seeds import derive
from benchmarks.stream import Pool
from methods.crosstransformer.augmentation import views
from methods.crosstransformer.episodes import (
    EpisodeMaps,
    as_labels,
    converts,
    copied,
    in_unit_range,
    normalised,
)

EVALUATED = 256  # validation images at once
Moments = tuple[Tensor, Tensor]


class NetworkEpisodes:
    """Episodes of a pool through a backbone that trains; `backbone` must be unfrozen."""

    def __init__(self, backbone: Backbone, pool: Pool, seed: int, simclr: float) -> None:
        self._backbone, self._pool, self._seed, self._share = backbone, pool, seed, simclr
        changing = backbone.changing().values()
        self.parameters = [tensor for tensor in changing if isinstance(tensor, nn.Parameter)]
        self.buffers = [tensor for tensor in changing if not isinstance(tensor, nn.Parameter)]
        convolutions = (module for module in backbone.net.modules() if isinstance(module, _ConvNd))
        self.kernels = [dict(one.named_parameters(recurse=False))["weight"] for one in convolutions]

    def training(self, number: int) -> EpisodeMaps:
        backbone, device = self._backbone, self._backbone.device
        episode = self._pool.episode(self._seed, number)
        support, query = episode.support, episode.query
        torch.manual_seed(derive("global", self._seed, number))  # dropout draws from it
        if converts(self._seed, number, self._share):
            source = torch.Generator(device).manual_seed(derive("views", self._seed, number))
            copies = copied(support.labels, query.labels)
            shown = self._views(support.inputs, source, blurred=False)
            asked = self._views(support.inputs.select(copies), source, blurred=True)
            labels, answers = as_labels(torch.arange(len(support)).numpy(), device), as_labels(copies, device)
            classes = len(support)
        else:
            shown, asked = self._plain(support.inputs), self._plain(query.inputs)
            labels, answers = as_labels(support.labels, device), as_labels(query.labels, device)
            classes = len(support.class_names)
        backbone.train()
        with episode_passes(backbone.net) as passes:
            passes.support()
            maps = backbone.forward_tokens(shown)
            passes.query()
            return EpisodeMaps(maps, labels, backbone.forward_tokens(asked), answers, classes)

    @torch.no_grad()
    def validation(self, number: int) -> EpisodeMaps | None:
        if self._pool.validation is None:
            return None
        episode = self._pool.validation.episode(self._seed, number)
        support, query, device = episode.support, episode.query, self._backbone.device
        with evaluating(self._backbone.net):
            return EpisodeMaps(
                self._tokens(support.inputs),
                as_labels(support.labels, device),
                self._tokens(query.inputs),
                as_labels(query.labels, device),
                len(support.class_names),
            )

    def _plain(self, inputs: Inputs) -> Tensor:
        return self._backbone.prepare(torch.from_numpy(inputs.pixels()))

    def _views(self, inputs: Inputs, source: torch.Generator, blurred: bool) -> Tensor:
        backbone = self._backbone
        images = in_unit_range(inputs.pixels(), backbone.device)
        seen = views(images, backbone.info.input_size, source, blurred=blurred, mirror=self._pool.mirror)
        return normalised(backbone, seen)

    def _tokens(self, inputs: Inputs) -> Tensor:
        return torch.cat([self._backbone.forward_tokens(few) for few in self._plain(inputs).split(EVALUATED)])


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
