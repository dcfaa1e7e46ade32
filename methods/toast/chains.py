"""A frozen network as a stem, units in order and a final norm, so that parts of it can run alone.

A unit is where feedback enters: a block of a ViT or a Swin, a stage of a ConvNet (the lowest with its
stem: its input is the image). Between two stages of a Swin stands a unit without feedback, the merging of
patches.

Feedback enters attention through its values: v <- v + W_v t, before the heads split (section 3.2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from timm.layers.attention import Attention
from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer, WindowAttention, window_partition
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from backbones.sites import Site, find_sites
from benchmarks.errors import RequestError

CONVNET_STAGES = 4  # of every ResNet and ConvNeXt
ValueBias = Literal["single", "reference"]


class FedQKV(nn.Linear):
    """`qkv` of timm's attention, with the same weights, that adds W_v t to its last third.

    feedback: t (B, N, C) of the next call, already where the tokens are; None: the plain layer.
    bias: "single" adds W_v t; "reference" W_v t + b_v as the released code does, so that b_v counts twice.
    """

    def __init__(self, qkv: nn.Linear, bias: ValueBias = "single") -> None:
        super().__init__(qkv.in_features, qkv.out_features, bias=qkv.bias is not None, device="meta")
        self.weight, self.bias = qkv.weight, qkv.bias
        self.value_bias = bias
        self.feedback: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if self.feedback is None:
            return out
        start = self.out_features // 3 * 2
        bias = self.bias[start:] if self.value_bias == "reference" and self.bias is not None else None
        fed = linear(self.feedback, self.weight[start:], bias)
        return torch.cat([out[..., :start], out[..., start:] + fed], dim=-1)


@dataclass(frozen=True)
class Unit:
    """A unit's shape: channels of its input and output, how many times smaller its output is, whether fed."""

    inside: int
    outside: int
    stride: int
    fed: bool


class Chain(ABC):
    """channels_first: whether maps are (B, C, H, W); otherwise channels are the last dimension."""

    channels_first = False
    units: list[Unit]

    def __init__(self) -> None:
        self.attentions: list[nn.Module] = []

    @abstractmethod
    def stem(self, images: Tensor) -> Tensor:
        """The lowest unit's input."""

    @abstractmethod
    def unit(self, index: int, x: Tensor, t: Tensor | None = None) -> Tensor:
        """The output of one unit for input x, fed with t (of x's shape, or larger below and to the right)."""

    @abstractmethod
    def final(self, x: Tensor) -> Tensor:
        """From the last unit's output to what timm's `forward_features` returns."""

    @abstractmethod
    def source(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that the prompt is compared with and that the mask multiplies, channels last."""

    def shaped(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, N, C), row by row, as `final` returns them."""
        return tokens

    def unit_of(self, number: int) -> int:
        """The position among all units of the fed unit `number`."""
        fed = [index for index, unit in enumerate(self.units) if unit.fed]
        return fed[number] if number < len(fed) else len(self.units)


def chain_of(net: nn.Module, bias: ValueBias = "single") -> Chain:
    """The chain of `net`, in whose attention `qkv` is replaced by `FedQKV`; RequestError if it has none."""
    if isinstance(net, VisionTransformer):
        return _ViT(net, bias)
    if isinstance(net, SwinTransformer):
        return _Swin(net, bias)
    if isinstance(net, ResNet | ConvNeXt):
        return _ConvNet(net)
    raise RequestError(f"TOAST feeds ViT, Swin, ResNet and ConvNeXt; this is a {type(net).__name__}")


def cut(t: Tensor, like: Tensor, channels_first: bool) -> Tensor:
    """t with the height and width of `like`: cut, or filled with zeros, below and to the right."""
    first = 2 if channels_first else 1
    high, wide = (like.shape[d] - t.shape[d] for d in (first, first + 1))
    if high == wide == 0:
        return t
    return pad(t, (0, wide, 0, high) if channels_first else (0, 0, 0, wide, 0, high))


class _ViT(Chain):
    def __init__(self, net: VisionTransformer, bias: ValueBias) -> None:
        super().__init__()
        self.net = cast(Any, net)
        self._qkv = [_feed(site, Attention, bias) for site in find_sites(net)]
        self.attentions = [block.attn for block in self.net.blocks]
        width = int(net.embed_dim)
        self.units = [Unit(width, width, 1, fed=True)] * len(self._qkv)

    def stem(self, images: Tensor) -> Tensor:
        net = self.net
        tokens: Tensor = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images))))
        return tokens

    def unit(self, index: int, x: Tensor, t: Tensor | None = None) -> Tensor:
        return _fed(self._qkv[index], t, self.net.blocks[index], x)

    def final(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.net.norm(x))

    def source(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.net.fc_norm(maps)  # the final norm of a ViT that pools before it
        return tokens, tokens


class _Swin(Chain):
    def __init__(self, net: SwinTransformer, bias: ValueBias) -> None:
        super().__init__()
        self.net = cast(Any, net)
        self._modules: list[tuple[nn.Module, Site | None]] = []
        self.units = []
        for site in find_sites(net):
            if self.units and self.units[-1].outside != site.width:
                merging = self.net.layers[site.stage].downsample
                self._modules.append((merging, None))
                self.units.append(Unit(self.units[-1].outside, site.width, 2, fed=False))
            _feed(site, WindowAttention, bias)
            self._modules.append((site.block, site))
            self.units.append(Unit(site.width, site.width, 1, fed=True))
            self.attentions.append(site.attention)

    def stem(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.net.patch_embed(images))

    def unit(self, index: int, x: Tensor, t: Tensor | None = None) -> Tensor:
        module, site = self._modules[index]
        if site is None:
            return cast(Tensor, module(x))
        qkv = cast(FedQKV, site.attention.qkv)
        return _fed(qkv, None if t is None else _windows(cut(t, x, False), site), module, x)

    def final(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.net.norm(x))

    def source(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return maps, maps

    def shaped(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return tokens.unflatten(1, grid)


class _ConvNet(Chain):
    channels_first = True

    def __init__(self, net: ResNet | ConvNeXt) -> None:
        super().__init__()
        self.net = cast(Any, net)
        if isinstance(net, ResNet):
            self._stem = [self.net.conv1, self.net.bn1, self.net.act1, self.net.maxpool]
            self._stages = [getattr(net, f"layer{number}") for number in range(1, 5)]
        else:
            self._stem, self._stages = [self.net.stem], list(self.net.stages)
        self.units, inside, before = [], 3, 1
        for facts in self.net.feature_info[-len(self._stages) :]:
            outside, reduction = int(facts["num_chs"]), int(facts["reduction"])
            self.units.append(Unit(inside, outside, reduction // before, fed=True))
            inside, before = outside, reduction

    def stem(self, images: Tensor) -> Tensor:
        return images

    def unit(self, index: int, x: Tensor, t: Tensor | None = None) -> Tensor:
        if t is not None:
            x = x + cut(t, x, True)
        for module in [*(self._stem if index == 0 else ()), self._stages[index]]:
            x = module(x)
        return x

    def final(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.net.norm_pre(x)) if hasattr(self.net, "norm_pre") else x

    def source(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        norm = getattr(getattr(self.net, "head", None), "norm", None)
        normed = maps if norm is None else norm(maps)
        return normed.movedim(1, -1), maps.movedim(1, -1)

    def shaped(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return tokens.transpose(1, 2).unflatten(2, grid)


def _feed(site: Site, kind: type[nn.Module], bias: ValueBias) -> FedQKV:
    attention = site.attention
    if not isinstance(attention, kind):
        raise RequestError(
            f"TOAST feeds timm's {kind.__name__}; block {site.name} has a {type(attention).__name__}"
        )
    fed = FedQKV(cast(nn.Linear, attention.qkv), bias)
    attention.qkv = fed
    return fed


def _fed(qkv: FedQKV, t: Tensor | None, block: nn.Module, x: Tensor) -> Tensor:
    qkv.feedback = t
    try:
        return cast(Tensor, block(x))
    finally:
        qkv.feedback = None


def _windows(t: Tensor, site: Site) -> Tensor:
    """(B, H, W, C) to (windows * B, N, C), shifted, padded and cut up as the block does with its input."""
    assert site.window is not None
    assert site.shift is not None
    if any(site.shift):
        t = torch.roll(t, shifts=(-site.shift[0], -site.shift[1]), dims=(1, 2))
    high, wide = (-t.shape[d] % site.window[d - 1] for d in (1, 2))
    t = pad(t, (0, 0, 0, wide, 0, high))
    area = site.window[0] * site.window[1]
    return window_partition(t, site.window).view(-1, area, t.shape[-1])
