"""Two passes: the plain network without a graph, and again with what the first one saw as feedback."""

from __future__ import annotations

import torch
from torch import Tensor

from backbones.numerics import Numerics, set_fused
from methods.toast.chains import Chain
from methods.toast.feedback import Feedback, Seen


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
        return self.feedback.top == len(self.chain.places)

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
        for unit in range(feedback.lowest, len(chain.places)):
            y = chain.unit(unit, x, fed.get(unit))
            if seen is not None and unit < feedback.top:
                seen.append(Seen(unit, x, y))
            x = y
        return chain.final(x)

    def _choose_attention(self) -> None:
        for attention in self.chain.attentions:
            set_fused(attention, self.numerics, torch.is_grad_enabled())
