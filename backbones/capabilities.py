"""What a method may ask of a network, by structure: a method names what it needs, a refusal what is missing.

Each capability is one fact of the network, read from one pass through its sketch (see `structure`). None is
a list of names; three ask for the class of timm's whose arithmetic a method replaces, and are so called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from timm.layers.attention import Attention, AttentionRope
from timm.layers.mlp import Mlp
from timm.layers.norm import RmsNorm, RmsNorm2d
from timm.models import (
    beit,
    eva,
    hiera,
    swin_transformer_v2,
    swin_transformer_v2_cr,
    vision_transformer_relpos,
    vision_transformer_sam,
)
from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer, WindowAttention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.sites import Site, sites_of, why_none
from backbones.structure import BATCH, Pass

Capability = Literal[
    "blocks",
    "attention",
    "mlp",
    "plain mlp",
    "qkv",
    "q and v",
    "projection",
    "extra tokens",
    "maskable attention",
    "value feedback",
    "norms",
    "biases",
]

# What each is, as the object of "needs".
CAPABILITIES: Mapping[Capability, str] = MappingProxyType(
    {
        "blocks": "blocks of self-attention and an MLP",
        "attention": "attention that returns tokens, in every block",
        "mlp": "an MLP that takes and returns tokens, in every block",
        "plain mlp": "an MLP of two Linears (timm's Mlp) in every block",
        "qkv": "Linears that make queries, keys and values",
        "q and v": "queries and values that can be adapted apart",
        "projection": "a Linear after the heads of each attention",
        "extra tokens": "attention that takes further tokens, without positions of its own",
        "maskable attention": "timm's Attention over one sequence, or Swin's WindowAttention",
        "value feedback": "stages that run one by one and take feedback (timm's VisionTransformer, "
        "SwinTransformer, ResNet, ConvNeXt)",
        "norms": "norm layers with weights",
        "biases": "biases",
    }
)

# Attention whose fused layer makes queries, keys and values in this order, a third each, whatever the heads;
# others have other layouts of the same shape (TinyViT's is by heads). A test looks at what each third does.
IN_THIRDS: tuple[type[nn.Module], ...] = (
    Attention,
    AttentionRope,
    WindowAttention,
    beit.Attention,
    eva.EvaAttention,
    hiera.MaskUnitAttention,
    swin_transformer_v2.WindowAttention,
    vision_transformer_relpos.RelPosAttention,
    vision_transformer_sam.Attention,
    swin_transformer_v2_cr.WindowMultiHeadAttention,
)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _BatchNorm, RmsNorm, RmsNorm2d)
BIASES = ("bias", "q_bias", "k_bias", "v_bias")
EXTRA = 3  # tokens that are tried


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm layer with a weight (a norm without one has nothing to train)."""
    return isinstance(module, NORMS) and isinstance(module.weight, nn.Parameter)


def is_bias(name: str) -> bool:
    """Whether a parameter is a bias, by the end of its name: of a Linear, convolution or norm, of q, k, v.

    Tables of biases of relative positions are weights.
    """
    return name.rpartition(".")[2] in BIASES


def lacks(seen: Pass) -> dict[Capability, str]:
    """The capabilities that a network lacks, each with the reason."""
    net, sites = seen.net, sites_of(seen, seen.net)
    found: dict[Capability, str] = {}

    def ask(capability: Capability, reason: str) -> None:
        if reason:
            found[capability] = reason

    none = "" if sites else why_none(seen)
    ask("blocks", none)
    ask("attention", none or _first(sites, lambda site: _attention(seen, site)))
    ask("mlp", none or _first(sites, lambda site: _mlp(seen, site)))
    ask("plain mlp", none or _first(sites, _plain))
    ask("qkv", none or _first(sites, lambda site: _readers(seen, site)))
    ask("q and v", none or found.get("qkv", "") or _first(sites, _thirds))
    ask("projection", none or _first(sites, lambda site: _projection(seen, site)))
    ask("extra tokens", none or _extra_tokens(seen, sites))
    ask("maskable attention", none or _maskable(seen, sites))
    ask("value feedback", "" if isinstance(net, ResNet | ConvNeXt) else _fed(seen, sites) or none)
    ask("norms", "" if any(map(is_norm, net.modules())) else "it has none")
    ask("biases", "" if any(is_bias(name) for name, _ in net.named_parameters()) else "it has none")
    return found


def _first(sites: tuple[Site, ...], fault: Callable[[Site], str]) -> str:
    return next((f"in {site.name} {said}" for site in sites if (said := fault(site))), "")


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _attention(seen: Pass, site: Site) -> str:
    call = seen.calls[f"{site.name}.{site.children[0]}"]
    fits = call.returned is not None and call.returned[-1] == site.width
    return "" if fits else f"a {_kind(site.attention)} returns something else"


def _mlp(seen: Pass, site: Site) -> str:
    path = f"{site.name}.{site.children[1]}"
    call = seen.calls[path]
    if call.given != call.returned:
        return f"the {_kind(site.mlp)} changes the shape of its input"
    idle = [name for name in site.mlp_layers() if f"{path}.{name}" not in seen.calls]
    return f"the {_kind(site.mlp)} reads the weight of {idle[0]} and never calls it" if idle else ""


def _plain(site: Site) -> str:
    return "" if isinstance(site.mlp, Mlp) else f"the MLP is a {_kind(site.mlp)}"


def _readers(seen: Pass, site: Site) -> str:
    readers, path = site.readers(), f"{site.name}.{site.children[0]}"
    if not readers:
        return f"a {_kind(site.attention)} has no such Linears"
    idle = [name for name in readers.values() if f"{path}.{name}" not in seen.calls]
    return f"the {_kind(site.attention)} reads the weight of {idle[0]} and never calls it" if idle else ""


def _thirds(site: Site) -> str:
    readers, attention = site.readers(), site.attention
    if {"q", "v"} <= set(readers):
        return ""
    known = "qkv" in readers and isinstance(attention, IN_THIRDS)
    return "" if known else f"a {_kind(attention)} makes them in one layer of another layout"


def _projection(seen: Pass, site: Site) -> str:
    name = site.projection()
    called = name is not None and f"{site.name}.{site.children[0]}.{name}" in seen.calls
    return "" if called else f"a {_kind(site.attention)} has none"


def is_sequence(seen: Pass, sites: tuple[Site, ...]) -> bool:
    """Whether all blocks take and return (B, prefix + N, C) of one shape."""
    shapes = {
        shape for site in sites for call in [seen.calls[site.name]] for shape in (call.given, call.returned)
    }
    shape = shapes.pop() if len(shapes) == 1 else None
    return shape is not None and len(shape) == 3


def _extra_tokens(seen: Pass, sites: tuple[Site, ...]) -> str:
    """Tried: a block of each kind is given three tokens more."""
    if isinstance(seen.net, SwinTransformer):
        return ""  # prompts stand in every window
    if not is_sequence(seen, sites):
        return "its blocks do not share one sequence of tokens"
    tried: set[tuple[type, type]] = set()
    for site in sites:
        kind = type(site.block), type(site.attention)
        if kind in tried:
            continue
        tried.add(kind)
        call = seen.calls[site.name]
        shape = call.returned
        assert shape is not None
        longer = torch.empty(BATCH, shape[1] + EXTRA, shape[2], device="meta")
        lengthen_prefix(site.attention, EXTRA)
        try:
            with torch.no_grad():
                out = site.block(longer, *call.args[1:], **call.kwargs)
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError):
            out = None
        finally:
            lengthen_prefix(site.attention, -EXTRA)
        if not isinstance(out, Tensor) or out.shape != longer.shape:
            return f"the {_kind(site.attention)} of {site.name} has a place for each of its tokens"
    return ""


def lengthen_prefix(attention: nn.Module, more: int) -> None:
    """Let attention with rotary codes leave so many tokens more without them, after its prefix.

    The codes belong to the patches; `num_prefix_tokens` says how many tokens stand before those. Attention
    without such codes stays as it is.
    """
    said = getattr(attention, "num_prefix_tokens", None)
    if isinstance(said, int):
        attention.num_prefix_tokens = said + more  # type: ignore[assignment]


def _maskable(seen: Pass, sites: tuple[Site, ...]) -> str:
    for site in sites:
        attention = site.attention
        if isinstance(attention, WindowAttention) and site.window and site.shift:
            continue
        if not isinstance(attention, Attention):
            return f"{site.name} has a {_kind(attention)}"
        if seen.calls[f"{site.name}.{site.children[0]}"].kwargs.get("attn_mask") is not None:
            return f"{site.name} brings a mask of its own"
        if not is_sequence(seen, sites):
            return "its blocks do not share one sequence of tokens"
    return ""


def _fed(seen: Pass, sites: tuple[Site, ...]) -> str:
    kind = WindowAttention if isinstance(seen.net, SwinTransformer) else Attention
    if not isinstance(seen.net, SwinTransformer | VisionTransformer):
        return f"its class is {_kind(seen.net)}"
    for site in sites:
        if not isinstance(site.attention, kind):
            return f"{site.name} has a {_kind(site.attention)}"
    if isinstance(seen.net, VisionTransformer) and len(sites) != len(seen.net.blocks):
        return "not all of its blocks are attention and an MLP"
    return ""
