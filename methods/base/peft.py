"""The common base of the tuners of the `peft` library (Mangrulkar et al., github.com/huggingface/peft).

All of them replace Linears of a frozen network by ones that add to, scale or rotate the weight, through the
library. Each class (`methods/peft_*.py`) names its paper, its formula for the weight W (out, in) of a layer,
its trainable tensors, and its count on ViT-B/16 at the defaults.

All of them are identities at init. Stored per task (or once): the trainable tensors and the head; nothing is
merged. Tensors that a tuner draws, or computes from the weights, and does not train are made again by
`restore` from our seeds: PSOFT's and OSF's by an SVD, whose signs depend on the machine.

Left out are tuners that are no identity at init (FourierFT, VB-LoRA, C3A), whose sizes must divide the
network's (RoAd), or whose scores depend on the batch (Lily's router averages over it).
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from backbones.backbone import Backbone, BackboneInfo
from backbones.capabilities import Capability
from backbones.sites import Site
from backbones.training import ParameterGroup, groups_of
from benchmarks.errors import pip_install
from benchmarks.stream import StreamInfo
from methods.base.efficient import ParameterEfficient

if TYPE_CHECKING:
    from peft import PeftConfig


Targets = Literal["qkv", "qv", "attention", "mlp", "all"]

# What a choice of Linears asks of a network.
NEEDS: Mapping[Targets, tuple[Capability, ...]] = {
    "qkv": ("qkv",),
    "qv": ("q and v",),
    "attention": ("qkv", "projection"),
    "mlp": ("mlp",),
    "all": ("qkv", "projection", "mlp"),
}


def linears(site: Site, targets: Targets) -> list[str]:
    """The paths in the network of the Linears of one block that are adapted."""
    attention, mlp = (f"{site.name}.{child}" for child in site.children)
    readers = site.readers()
    found: list[str] = []
    if targets == "qv":
        return [f"{attention}.{name}" for made, name in readers.items() if made in ("q", "v")]
    if targets in ("qkv", "attention", "all"):
        found += [f"{attention}.{name}" for name in readers.values()]
    if targets in ("attention", "all"):
        found.append(f"{attention}.{site.projection()}")
    if targets in ("mlp", "all"):
        found += [f"{mlp}.{name}" for name in site.mlp_layers()]
    return found


def pattern_of(names: Iterable[str]) -> str:
    """As peft wants it: one that matches these whole names and no other."""
    return "|".join(re.escape(name) for name in names)


class SplitQKV(nn.Module):
    """A fused qkv as three Linears over the same memory, so that some of the three can be adapted."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        biases = (None,) * 3 if fused.bias is None else fused.bias.detach().chunk(3)
        self.q, self.k, self.v = (
            _linear(w, b) for w, b in zip(fused.weight.detach().chunk(3), biases, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made


class Tuner(ParameterEfficient):
    """A subclass makes the library's config; the network is changed in place and stays a timm network."""

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if importlib.util.find_spec("peft") is None:
            return f"{cls.name} comes with the peft library, which is missing; type {pip_install('peft')}"
        for name in ("block_size", "blocks", "coefficients", "subspaces"):
            if getattr(config, name, 1) < 1:
                return f"{name}={getattr(config, name)} is below 1; raise it"
        return super().supports(config, info, backbone)

    def groups(self) -> list[ParameterGroup]:
        named = list(self.backbone.net.named_parameters())
        spared = [name for name, _ in named if self.spared(name)]
        inside = groups_of(named, self.config.lr, self.config.weight_decay, spared)
        return [*inside, *self.head_groups()]

    def spared(self, name: str) -> bool:
        """Whether a trained tensor has no weight decay, whatever its shape: a scale that starts at one."""
        return False

    @abstractmethod
    def tuner(self, pattern: str) -> PeftConfig:
        """The library's config for the Linears whose names match `pattern`."""

    def inject(self, backbone: Backbone, pattern: str) -> None:
        """Let the library replace the Linears whose names match `pattern`; the rest is frozen."""
        import peft

        net = backbone.net
        backbone.freeze()
        loaded = {id(module) for module in net.modules()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the library compiles, or does not save
            peft.get_peft_model(net, self.tuner(pattern))
        # Fixed tensors that the library draws from seeds of ours, or computes, are made again, not stored.
        for module in net.modules():
            for name, buffer in module.named_buffers(recurse=False) if id(module) not in loaded else ():
                module.register_buffer(name, buffer, persistent=False)


class PeftTuner(Tuner):
    """A tuner whose Linears can be chosen."""

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        """
        targets: the Linears of every block that are adapted: "qkv" (where they are fused, q, k and v share
            what reads the input; else each by itself), "qv" (the queries and values only, each by itself),
            "attention" (qkv and the projection), "mlp" (a gated one has three), or "all"
        """

        targets: Targets = "qkv"

    config: Config

    @classmethod
    def needs_of(cls, config: Any) -> tuple[Capability, ...]:
        return NEEDS[config.targets]

    def attach(self, backbone: Backbone) -> None:
        targets: Targets = self.config.targets
        names: list[str] = []
        for site in backbone.sites():
            if targets == "qv" and "qkv" in site.readers():
                site.attention.qkv = SplitQKV(cast(nn.Linear, site.attention.qkv))
                fused = f"{site.name}.{site.children[0]}.qkv"
                names += [f"{fused}.q", f"{fused}.v"]
            else:
                names += linears(site, targets)
        self.inject(backbone, pattern_of(names))


class Ranked(PeftTuner):
    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        rank: r
        """

        rank: int = 4

    config: Config
