"""Visual prompt tuning: learnt tokens join those of a frozen network (Jia et al., ECCV 2022).

    shallow   [x_1, Z_1, E_1] = L_1([x_0, P, E_0]),       [x_i, Z_i, E_i] = L_i([x_{i-1}, Z_{i-1}, E_{i-1}])
    deep      [x_i, _, E_i]   = L_i([x_{i-1}, P_{i-1}, E_{i-1}])     every block has prompts of its own

x: prefix tokens (CLS, registers), P: p prompts without position code (rotary attention passes them by, as
its prefix), E: patches. On a ViT they leave
after the last block, so that whatever pools sees its own tokens only; on a Swin see `swin`. Trained are
`prompts.tensors.*`, which start as U(-v, v), v = sqrt(6 / (3 patch^2 + D)), D the first stage's width.

*Not* identity at init, since attention sees the prompts from the start. Count: p D, deep p D for each
block: 921,600 on ViT-B/16 with p = 100. Stored per task (or once): the prompts and the head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from backbones.backbone import Backbone, BackboneInfo
from backbones.capabilities import lengthen_prefix
from backbones.sites import Site
from benchmarks.stream import StreamInfo
from methods.base import ParameterEfficient
from methods.base.gradient import rates
from methods.vpt.swin import prompted_swin


class Prompts(nn.Module):
    """p prompts for each of `widths`, drawn from U(-bound, bound); `forward` gives those at `index`."""

    def __init__(self, widths: list[int], count: int, bound: float, dropout: float) -> None:
        super().__init__()
        drawn = [torch.empty(count, width).uniform_(-bound, bound) for width in widths]
        self.tensors = nn.ParameterList([nn.Parameter(tensor) for tensor in drawn])
        self.dropout = nn.Dropout(dropout)
        self.count = count

    def forward(self, index: int, batch: int) -> Tensor:
        """(B, p, width)."""
        return self.dropout(self.tensors[index].expand(batch, -1, -1))


def _patch_area(backbone: Backbone) -> int:
    """Pixels of a patch."""
    said = getattr(getattr(backbone.net, "patch_embed", None), "patch_size", None)
    if said is not None:
        return math.prod(said)
    grid, size = backbone.info.grid, backbone.info.input_size
    return (size[0] // grid[0]) * (size[1] // grid[1])


class _PromptTuning(ParameterEfficient):
    """deep: prompts in every block, and not in the first alone."""

    deep: ClassVar[bool]
    identity_at_init = False
    needs = ("extra tokens",)

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        """
        prompts: p, in each block that has its own
        dropout: of the prompts
        """

        lr: float = 5e-3
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(5e-3)
        prompts: int = 10
        dropout: float = 0.1

    config: Config

    @classmethod
    def supports(cls, config: Config, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if config.prompts < 1 or not 0 <= config.dropout < 1:
            return (
                f"{cls.name} needs prompts > 0 and dropout in [0, 1), "
                f"got prompts={config.prompts} and dropout={config.dropout:g}"
            )
        return super().supports(config, info, backbone)

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze()
        sites = backbone.sites()
        own = sites if self.deep else sites[:1]
        patch = _patch_area(backbone)
        bound = math.sqrt(6 / (3 * patch + sites[0].width))
        widths = [site.width for site in own]
        self._prompts = Prompts(widths, self.config.prompts, bound, self.config.dropout)
        backbone.net.add_module("prompts", self._prompts)
        if not isinstance(backbone.net, SwinTransformer):
            for site in sites:
                lengthen_prefix(site.attention, self._prompts.count)
            for site in own:
                self._enter(site)
            self._leave(sites[-1])

    def features(self, images: Tensor) -> Tensor:
        if isinstance(self.backbone.net, SwinTransformer):
            return prompted_swin(self.backbone.net, images, self._prompts, self.deep)
        return self.backbone(images)

    def _enter(self, site: Site) -> None:
        """Put the block's prompts in front of its patches, in place of those of an earlier block."""
        prompts, first = self._prompts, site.index == 0
        kept = site.prefix if first else site.prefix + prompts.count

        def hook(block: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x = given[0]
            own = prompts(site.index, len(x)).to(x.dtype)
            return torch.cat([x[:, : site.prefix], own, x[:, kept:]], dim=1), *given[1:]

        site.block.register_forward_pre_hook(hook)

    def _leave(self, site: Site) -> None:
        kept = site.prefix + self._prompts.count

        def hook(block: nn.Module, given: tuple[Tensor, ...], x: Tensor) -> Tensor:
            return torch.cat([x[:, : site.prefix], x[:, kept:]], dim=1)

        site.block.register_forward_hook(hook)


class VPTShallow(_PromptTuning):
    """Visual prompt tuning, shallow: learnt tokens join those of a frozen network at its first block."""

    name = "vpt_shallow"
    deep = False


class VPTDeep(_PromptTuning):
    """Visual prompt tuning, deep: every block of a frozen network has learnt tokens of its own."""

    name = "vpt_deep"
    deep = True
