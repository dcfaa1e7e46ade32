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
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from backbones.backbone import Backbone, BackboneInfo
from backbones.training import ParameterGroup, groups_of
from benchmarks.errors import pip_install
from benchmarks.stream import StreamInfo
from methods.base.efficient import ParameterEfficient

if TYPE_CHECKING:
    from peft import PeftConfig


Targets = Literal["qkv", "qv", "attention", "mlp", "all"]

# Which Linears are adapted, as peft wants it: a pattern of the whole name. A pattern ending in `proj`
# alone would also find the patch embedding's convolution.
PATTERNS: Mapping[Targets, str] = {
    "qkv": r".*\battn\.qkv",
    "qv": r".*\battn\.qkv\.[qv]",
    "attention": r".*\battn\.(qkv|proj)",
    "mlp": r".*\bmlp\.fc[12]",
    "all": r".*\b(attn\.(qkv|proj)|mlp\.fc[12])",
}


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
        targets: the Linears that are adapted: "qkv" (fused, so that q, k and v share what reads the
            input), "qv" (of the fused layer the queries and values only, each by itself), "attention"
            (qkv and the projection), "mlp", or "all"
        """

        targets: Targets = "qkv"

    config: Config

    def attach(self, backbone: Backbone) -> None:
        if self.config.targets == "qv":
            for site in backbone.sites():
                site.attention.qkv = SplitQKV(cast(nn.Linear, site.attention.qkv))
        self.inject(backbone, PATTERNS[self.config.targets])


class Ranked(PeftTuner):
    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        rank: r
        """

        rank: int = 4

    config: Config
