"""Meta-training of the whole network: every episode runs through the backbone, with gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from backbones.backbone import Backbone
from backbones.features import evaluating
from benchmarks.images import Inputs
from benchmarks.seeds import derive
from benchmarks.stream import Pool
from methods.crosstransformer.augmentation import views
from methods.crosstransformer.batchnorm import episode_passes
from methods.crosstransformer.episodes import EpisodeMaps, as_labels, in_unit_range, normalised
from methods.crosstransformer.simclr import converts, copied

EVALUATED = 256  # validation images at once


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
