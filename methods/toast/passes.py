"""Two passes: the plain network without a graph, then again with feedback from the first pass.

The first may be read from the store, since it depends only on the frozen network and the image.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor

from backbones.backbone import Backbone
from backbones.features import extract
from backbones.numerics import Numerics, set_fused
from benchmarks.images import Inputs
from benchmarks.progress import Progress
from methods.toast.chains import Chain
from methods.toast.feedback import Feedback, Seen

LIMIT = 4 * 2**30  # bytes for one set of images; above, reading it costs more than computing it


class TwoPasses:
    """Images (B, 3, S, S) to what timm's `forward_features` returns, in the second pass.

    The stem and every unit below the lowest fed one run once, for both passes. With early feedback the first
    pass ends at the highest fed unit; its output goes through the final norm all the same.
    """

    def __init__(self, chain: Chain, feedback: Feedback, numerics: Numerics) -> None:
        self.chain = chain
        self.feedback = feedback
        self.numerics = numerics

    @property
    def whole(self) -> bool:
        """Whether the first pass is the plain network from its start to its end."""
        return self.feedback.top == len(self.chain.units)

    def __call__(self, images: Tensor, maps: Tensor | None = None, seen: list[Seen] | None = None) -> Tensor:
        """maps: what the first pass gives, where it is known; seen: collects what `variational` takes."""
        chain, feedback = self.chain, self.feedback
        with torch.no_grad():
            self._choose_attention()
            x = chain.stem(images)
            for unit in range(feedback.lowest):
                x = chain.unit(unit, x)
            if maps is None:
                maps = x
                for unit in range(feedback.lowest, feedback.top):
                    maps = chain.unit(unit, maps)
                maps = chain.final(maps)
            source = chain.source(maps)
        self._choose_attention()
        fed = feedback(*source)
        for unit in range(feedback.lowest, len(chain.units)):
            y = chain.unit(unit, x, fed.get(unit))
            if seen is not None and unit < feedback.top:
                seen.append(Seen(unit, x, y))
            x = y
        return chain.final(x)

    def _choose_attention(self) -> None:
        for attention in self.chain.attentions:
            set_fused(attention, self.numerics, torch.is_grad_enabled())


class FirstPass:
    """The plain network, beside the one with feedback: the same tensors in modules of its own."""

    def __init__(self, backbone: Backbone) -> None:
        net = backbone.net
        shared = {id(tensor): tensor for tensor in itertools.chain(net.parameters(), net.buffers())}
        self._plain = Backbone(
            copy.deepcopy(net, shared).eval(),
            backbone.info,
            backbone.preprocessing,
            backbone.identity,
            backbone.weights,
            backbone.numerics,
            store=None,
            sites=backbone.sites(),
        )
        # What is stored under the name of the weights must come from them.
        self._store = backbone.store if backbone.pristine else None

    def __call__(self, inputs: Inputs, batch_size: int, progress: Progress, *, kept: bool) -> Tensor | None:
        """(N, prefix + T, C) float32 on the CPU; None where it would be too large.

        kept: whether it is read from the store, and left there.
        """
        info = self._plain.info
        tokens = info.prefix_tokens + info.grid[0] * info.grid[1]
        if len(inputs) * tokens * info.width * 4 > LIMIT:
            return None
        self._plain.store = self._store if kept else None
        return extract(self._plain, inputs, "maps", batch_size, progress)
