"""A pretrained network as the methods see it: pixels in, pooled features or patch tokens out.

backbone = open_backbone("tiny_vit")
images = backbone.prepare(pixels)   # (B, H, W, 3) uint8 -> (B, 3, S, S) float32
backbone(images)                    # (B, C)
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.architecture import build, pooling_and_source, preprocessing_of, size_of, spec_of
from backbones.capabilities import CAPABILITIES, Capability, lacks
from backbones.families import as_tokens, family_of, patch_tokens
from backbones.features import Kind, extract
from backbones.names import Spec
from backbones.numerics import Numerics, choose, set_fused
from backbones.preprocessing import Preprocessing
from backbones.pristine import Snapshot
from backbones.recipe import Family
from backbones.sites import Site, find_sites, sites_of
from backbones.structure import Layout, Shape, pass_through
from backbones.weights import check_weights, hash_weights, source_of, with_weights
from benchmarks.errors import unknown
from benchmarks.images import Chunk, Inputs
from benchmarks.progress import Progress
from benchmarks.store import Store


@dataclass(frozen=True)
class BackboneInfo:
    """What is known of a backbone without its weights.

    width: channels C of its features; blocks: attention sites; grid: (h, w) of its patch tokens;
    prefix_tokens: before the patches (0 for Swin and ConvNets); pooling: timm's word for how tokens become
    features; input_size: (H, W) in pixels; parameters: their number without classifier; pooled_after: whose
    pooling that is, empty for an own backbone; layout: of what timm's `forward_features` returns; lacking:
    the capabilities that it lacks, each with the reason.
    """

    name: str
    family: Family
    width: int
    blocks: int
    grid: tuple[int, int]
    prefix_tokens: int
    pooling: str
    input_size: tuple[int, int]
    parameters: int
    pooled_after: str = ""
    layout: Layout = "tokens"
    lacking: tuple[tuple[Capability, str], ...] = ()

    @property
    def pools(self) -> str:
        """How it pools, in words, and after whom that is."""
        return f"pooling {self.pooling} {self.pooled_after}".rstrip()

    @property
    def shape(self) -> Shape:
        """The shape of its output."""
        return Shape(self.width, self.grid, self.prefix_tokens, self.layout)

    def missing(self, capability: Capability) -> str | None:
        """Why it lacks a capability (see `capabilities`), as a part of a sentence; None if it has it.

        RequestError for a capability that nothing has.
        """
        if capability not in CAPABILITIES:
            raise unknown("capability of a backbone", capability, CAPABILITIES)
        return dict(self.lacking).get(capability)


class Backbone(nn.Module):
    """A timm network without classifier, its preprocessing, and the store of its features.

    name: as typed, parameters sorted; identity: architecture.tag-hash; weights: the whole hash of the weights
    as loaded, whatever happened to the network since.
    """

    def __init__(
        self,
        net: nn.Module,
        info: BackboneInfo,
        preprocessing: Preprocessing,
        identity: str,
        weights: str,
        numerics: Numerics,
        store: Store | None,
        sites: tuple[Site, ...] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.info = info
        self.preprocessing = preprocessing
        self.identity = identity
        self.weights = weights
        self.numerics = numerics
        self.store = store
        self.shared: dict[str, Chunk] = {}
        self._sites = find_sites(net, info.input_size) if sites is None else sites
        self._loaded: Snapshot | None = Snapshot(net)
        self._own = weakref.WeakSet(net.modules())  # what methods insert is not among them

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def device(self) -> torch.device:
        return torch.device(self.numerics.device)

    def prepare(self, pixels: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 on any device to (B, 3, S, S) float32, resized and normalised, on this one."""
        return self.preprocessing(pixels.to(self.device, non_blocking=True))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to pooled features (B, C) float32, before any classifier; differentiable."""
        self._choose_attention()
        with self.numerics.autocast():
            maps = self.net.forward_features(images)  # type: ignore[operator]
            return self.net.forward_head(maps, pre_logits=True).float()  # type: ignore[operator]

    def forward_tokens(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to patch tokens (B, N, C) float32 after the final norm, row by row, without prefix.

        If the network norms after pooling, that norm is applied to each token.
        """
        self._choose_attention()
        with self.numerics.autocast():
            maps: Tensor = self.net.forward_features(images)  # type: ignore[operator]
            return patch_tokens(self.net, maps, self.info.shape).float()

    def forward_maps(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to what timm's `forward_features` returns, as (B, prefix + N, C) float32."""
        self._choose_attention()
        with self.numerics.autocast():
            maps: Tensor = self.net.forward_features(images)  # type: ignore[operator]
        return as_tokens(maps, self.info.shape).float()

    def features(self, inputs: Inputs, batch_size: int = 256, progress: Progress | None = None) -> Tensor:
        """`forward` of all inputs, (N, C) float32 on the CPU; from the cache while pristine."""
        return extract(self, inputs, "features", batch_size, progress)

    def tokens(self, inputs: Inputs, batch_size: int = 256, progress: Progress | None = None) -> Tensor:
        """`forward_tokens` of all inputs, (N, T, C) float32 on the CPU; from the cache while pristine."""
        return extract(self, inputs, "tokens", batch_size, progress)

    def shape(self, kind: Kind) -> tuple[int, ...]:
        """The shape of one image's features (C,), tokens (N, C) or maps (prefix + N, C)."""
        if kind == "features":
            return (self.info.width,)
        height, width = self.info.grid
        prefix = self.info.prefix_tokens if kind == "maps" else 0
        return prefix + height * width, self.info.width

    def facts(self) -> dict[str, object]:
        """All that the bits of its features depend on while it is pristine; for JSON."""
        return {
            "weights": self.weights,
            "architecture": self.identity,
            # Neither weights nor a recipe's name tell heads, windows and shifts, or a ConvNet's strides.
            "grid": self.info.grid,
            "sites": [[site.name, site.grid, site.heads, site.window, site.shift] for site in self._sites],
            "pooling": self.info.pooling,
            "preprocessing": self.preprocessing.describe(),
            "dtype": self.numerics.dtype,
            "threads": torch.get_num_threads() if self.device.type == "cpu" else 0,
            "device": self.numerics.device_name or self.device.type,
        }

    def share(self, inputs: Inputs) -> None:
        """From now on, compute and store features of any image among `inputs` for all of them at once.

        For images that come in many overlapping selections (episodes), each of which would otherwise have an
        entry of its own. Rows of one table count together; a new call replaces the one before.
        """
        rows: dict[str, list[Chunk]] = {}
        for chunk in inputs.chunks:
            rows.setdefault(chunk.content, []).append(chunk)
        self.shared = {
            content: Chunk(chunks[0].table, np.unique(np.concatenate([c.rows for c in chunks])), content)
            for content, chunks in rows.items()
        }

    def train(self, mode: bool = True) -> Backbone:
        """As in torch, except that frozen modules of the loaded network stay in evaluation mode.

        Their BatchNorms keep their statistics, their dropout and stochastic depth do nothing, whatever trains
        in modules that a method inserted between or into them.
        """
        super().train(mode)
        if mode:
            self._rest(self.net, trains=True)
        return self

    def _rest(self, module: nn.Module, trains: bool) -> None:
        """trains: for a module without parameters (dropout), what holds for the one that it is in."""
        if module in self._own:
            inside = (part for part in module.modules() if part in self._own)
            held = [p.requires_grad for part in inside for p in part.parameters(recurse=False)]
            trains = any(held) if held or isinstance(module, _BatchNorm) else trains
            module.training = trains
        for child in module.children():
            self._rest(child, trains)

    def changing(self) -> dict[str, Tensor]:
        """The tensors that training changes, by name within `net`: parameters that train, and buffers.

        The statistics of a frozen BatchNorm stay, so they are not among them.
        """
        frozen = {
            id(buffer)
            for module in self.net.modules()
            if isinstance(module, _BatchNorm)
            and not any(p.requires_grad for p in module.parameters(recurse=False))
            for buffer in module.buffers()
        }
        tensors = self.net.state_dict(keep_vars=True)
        return {
            name: tensor
            for name, tensor in tensors.items()
            if (tensor.requires_grad if isinstance(tensor, nn.Parameter) else id(tensor) not in frozen)
        }

    @property
    def pristine(self) -> bool:
        """Whether every module, parameter and buffer is as it was loaded (milliseconds, see `Snapshot`)."""
        return self._loaded is not None and self._loaded.matches(self.net)

    def sites(self) -> tuple[Site, ...]:
        """Every attention block in order, as it is now; its facts are those of the network as loaded."""
        return tuple(replace(site, block=self.net.get_submodule(site.name)) for site in self._sites)

    def freeze(self, except_: Callable[[str], bool] = lambda name: False) -> None:
        """Freeze all parameters but those for which `except_(name)` is true, with names within `net`."""
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(except_(name))

    def copy(self) -> Backbone:
        """A copy for one cell, in the same state; the store is shared."""
        pristine = self.pristine
        other = Backbone(
            copy.deepcopy(self.net),
            self.info,
            self.preprocessing,
            self.identity,
            self.weights,
            self.numerics,
            self.store,
            self._sites,
        )
        other.training = self.training
        other.shared = self.shared
        if not pristine:
            other._loaded = None
        return other

    def _choose_attention(self) -> None:
        # timm freezes the choice when a module is made; methods replace modules, so it is made here.
        for site in self._sites:
            attention = self.net.get_submodule(f"{site.name}.{site.children[0]}")
            set_fused(attention, self.numerics, torch.is_grad_enabled())


def open_backbone(name: str, *, store: Store | None = None, numerics: Numerics | None = None) -> Backbone:
    """The backbone `name` (see `names`) with its weights, in evaluation mode, on the numerics' device.

    store: where features are kept (None: nowhere); numerics: `choose()` by default; its thread count is
    set. RequestError for a name, argument or file that cannot be used; DataError if the hub cannot be
    reached.
    """
    spec = spec_of(name)
    with torch.device("meta"):
        sketch = build(spec)  # every bad input shows here, before memory or network is spent
    numerics = numerics or choose(store=store)
    numerics.apply()
    net, tag = with_weights(spec, sketch)
    net = net.to(numerics.device).eval()
    weights = hash_weights(net)
    identity = f"{spec.architecture}.{tag}-{weights[:12]}"
    info, preprocessing = _info(spec, sketch), preprocessing_of(net, spec)
    sites = sites_of(pass_through(sketch, info.input_size), net)
    return Backbone(net, info, preprocessing, identity, weights, numerics, store, sites)


def describe(name: str) -> BackboneInfo:
    """What is known of a backbone before it is opened; needs no memory for weights and no connection.

    Errors as in `open_backbone`; of a weights file only the header is read.
    """
    spec = spec_of(name)
    with torch.device("meta"):
        net = build(spec)
    source = source_of(spec)
    if source not in ("random", "pretrained"):
        check_weights(Path(source).expanduser(), net, spec)
    return _info(spec, net)


def _info(spec: Spec, sketch: nn.Module) -> BackboneInfo:
    """sketch: the network on the meta device."""
    seen = pass_through(sketch, size_of(sketch, spec))
    shape, (pooling, after) = seen.shape, pooling_and_source(sketch, spec)
    return BackboneInfo(
        name=spec.canonical,
        family=family_of(seen),
        width=shape.width,
        blocks=len(sites_of(seen, sketch)),
        grid=shape.grid,
        prefix_tokens=shape.prefix,
        pooling=pooling,
        input_size=seen.size,
        parameters=sum(parameter.numel() for parameter in sketch.parameters()),
        pooled_after=after,
        layout=shape.layout,
        lacking=tuple(lacks(seen).items()),
    )
