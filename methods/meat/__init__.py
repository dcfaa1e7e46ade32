"""MEAT: Meta-attention for ViT-backed Continual Learning (Xue et al., CVPR 2022).

The backbone is frozen. Each task learns binary masks over the patch tokens of each block's attention
and over the weights of each FFN, with a head of its own:

    Psi[i,j] = m[j] exp(A[i,j]) / sum_s m[s] exp(A[i,s])     keys and values only, CLS always kept
    W'       = m * W                                         fc1.weight and fc2.weight
    L        = CE + alpha (1/L) sum_l (lambda - mean m_l)^2

Masks are sampled by a hard straight-through Gumbel softmax in training and are the signs of their
logits afterwards.

Stored per task: one bit for each masked token and weight, and the head. A prediction depends on
(backbone, masks of the task, head of the task) only, so nothing is ever forgotten.

- `masks`      one logit per unit, its noise and its gradient; masks as bits
- `attention`  masked attention of ViT and Swin
- `ffn`        masked feed-forward networks, by weight or by hidden unit
- `pruned`     exact evaluation that skips what is masked
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.swin_transformer import WindowAttention
from torch import Tensor

from backbones.backbone import Backbone, BackboneInfo
from backbones.sites import Site
from backbones.training import ParameterGroup
from benchmarks.errors import RequestError
from benchmarks.stream import StreamInfo, Task
from methods.base import GradientMethod
from methods.base.efficient import missing
from methods.base.step import Step
from methods.meat.attention import MaskedAttention, MaskedWindowAttention
from methods.meat.ffn import FFN, ElementwiseFFN, MaskedFFN, NeuronFFN
from methods.meat.masks import BinaryMask, Init, pack_bits, unpack_bits
from methods.meat.pruned import PrunedViT, can_prune

Masked = MaskedAttention | MaskedWindowAttention


class MEAT(GradientMethod):
    name = "meat"
    per_task = True

    @dataclass(frozen=True)
    class Config(GradientMethod.Config):
        """
        lr: the rate quoted for two logits per unit (the single logit moves at twice that); it is not
            scaled by the batch size, because a bit flips only once the rates of all steps sum to gamma
        gamma: the logits start at (gamma, -gamma): keep probability sigma(2 gamma)
        alpha: weight of the drop-control loss
        lam: lambda, the share of tokens that the drop-control loss asks to keep
        ffn: "elementwise", "neuron" or "none"
        init: "gamma", or "uniform" in [-gamma, gamma]
        self_loop: whether a masked token sees itself; None: where attention needs it, off for a ViT
            that pools CLS
        blocks: whose tokens are masked: "all", or positions from 0 such as "3,6,9"; FFN masks are in all
        evaluation: "pruned" computes only what the prediction depends on, "dense" everything
        """

        epochs: int = 5
        lr: float = 0.1
        gamma: float = 4.0
        alpha: float = 2.0
        lam: float = 0.9
        ffn: FFN = "elementwise"
        init: Init = "gamma"
        self_loop: bool | None = None
        blocks: str = "all"
        evaluation: Literal["pruned", "dense"] = "pruned"
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"lr": (0.1, 0.3), "gamma": (4.0, 2.0)}

    config: Config

    @classmethod
    def supports(cls, config: Config, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if info.scenario != "task":
            return (
                "MEAT keeps one set of masks for each task and has to know the task of a test image; "
                f"the stream is {info.scenario}-incremental, take a task-incremental one"
            )
        if refusal := missing(cls.name, "maskable attention", backbone):
            return refusal
        masked = f"{cls.name} with ffn={config.ffn}"
        if config.ffn != "none" and (refusal := missing(masked, "plain mlp", backbone)):
            return f"{refusal}, or ffn=none"
        if config.self_loop is False and backbone.prefix_tokens == 0:
            return (
                f"self_loop=false leaves rows of {backbone.name} without an active key, since it has no CLS; "
                "leave self_loop out"
            )
        if config.gamma <= 0 or config.alpha < 0 or not 0 <= config.lam <= 1:
            return (
                "MEAT needs gamma > 0, alpha >= 0 and lam in [0, 1], "
                f"got gamma={config.gamma:g}, alpha={config.alpha:g}, lam={config.lam:g}"
            )
        try:
            chosen_blocks(config.blocks, backbone.blocks)
        except ValueError as error:
            return str(error)
        return super().supports(config, info, backbone)

    def attach(self, backbone: Backbone) -> None:
        config, info = self.config, backbone.info
        pooled_by_cls = info.family == "vit" and info.pooling == "token"
        self_loop = not pooled_by_cls if config.self_loop is None else config.self_loop
        self._chosen = chosen_blocks(config.blocks, info.blocks)
        backbone.freeze()
        self._attentions: list[Masked] = []
        self._ffns: list[MaskedFFN] = []
        self._pruned: PrunedViT | None = None
        self._observed: dict[str, float] = {}
        for site in backbone.sites():
            if site.index in self._chosen:
                self._attentions.append(mask_attention(site, self.noise, self_loop))
            if config.ffn != "none":
                self._ffns.append(mask_ffn(site, self.noise, config.ffn))

    def _masks(self) -> list[BinaryMask]:
        """All masks in the order they are stored in: tokens of each block, then the FFNs'."""
        tokens = [attention.mask for attention in self._attentions]
        return [*tokens, *(mask for ffn in self._ffns for mask in ffn.masks)]

    def begin(self, task: Task) -> None:
        self._pruned = None
        noise = torch.Generator().manual_seed(self.context.seeds.own("masks", task.id))
        for ffn in self._ffns:
            ffn.release()
        for mask in self._masks():
            mask.reset(self.config.gamma, self.config.init, noise)
        self._warn_if_no_bit_can_flip(len(task.train))

    def _warn_if_no_bit_can_flip(self, images: int) -> None:
        config = self.config
        epochs, per_epoch = self.steps(images)
        optimization, total = self.optimization(epochs), epochs * per_epoch
        travelled = config.lr * sum(optimization.rate(step, total) for step in range(total))
        if config.init == "gamma" and travelled < config.gamma:
            self.context.progress.warn(
                f"meat: the mask learning rates of {total} steps sum to {travelled:.2g}, less than "
                f"gamma={config.gamma:g}, so no mask bit can flip and this is a linear probe; "
                "raise lr or epochs, or lower gamma"
            )

    def groups(self) -> list[ParameterGroup]:
        logits = [mask.logits for mask in self._masks()]
        return [ParameterGroup(logits, 2 * self.config.lr), *self.head_groups()]

    def loss(self, step: Step) -> Tensor:
        return super().loss(step) + self.penalty()

    def penalty(self) -> Tensor:
        """alpha L_dc, of the last forward pass."""
        return self.config.alpha * drop_control([a.kept for a in self._attentions], self.config.lam)

    def features(self, images: Tensor) -> Tensor:
        if self._pruned is None or self.backbone.training:
            return self.backbone(images)
        return self._pruned(images).float()

    def pack(self) -> dict[str, Tensor]:
        self._observed = self._observe()
        return {"masks": pack_bits([mask.hard() for mask in self._masks()])}

    def unpack(self, stored: dict[str, Tensor]) -> None:
        masks = self._masks()
        shapes = [tuple(mask.logits.shape) for mask in masks]
        for mask, bits in zip(masks, unpack_bits(stored["masks"], shapes), strict=True):
            mask.load(bits)
        if self.config.evaluation == "pruned":
            for ffn in self._ffns:
                ffn.fix()
            self._pruned = PrunedViT(self.backbone.net) if can_prune(self.backbone.net) else None

    def observations(self) -> dict[str, float]:
        """Of the last task: keep ratios (expected of a training sample, and hard), the share of MACs."""
        return self._observed

    def _observe(self) -> dict[str, float]:
        observed: dict[str, float] = {}
        tokens = [attention.mask for attention in self._attentions]
        for kind, masks in (("token", tokens), ("ffn", self._masks()[len(tokens) :])):
            if masks:
                logits = torch.cat([mask.logits.detach().flatten() for mask in masks])
                observed[f"{kind}_keep_train"] = float(logits.sigmoid().mean())
                observed[f"{kind}_keep"] = float((logits > 0).float().mean())
        for index, mask in zip(self._chosen, tokens, strict=True):
            observed[f"token_keep.{index}"] = float(mask.hard().float().mean())
        if can_prune(self.backbone.net):
            observed["macs_share"] = PrunedViT(self.backbone.net).macs_share()
        return observed


def drop_control(kept: Sequence[Tensor], lam: float) -> Tensor:
    """L_dc = (1/L) sum_l (lambda - mean m_l)^2 of each block's mean over batch and patch tokens."""
    return (lam - torch.stack(list(kept))).square().mean()


def chosen_blocks(blocks: str, count: int) -> tuple[int, ...]:
    """Positions of the blocks that "all" or "3,6,9" names; ValueError for anything else or out of range."""
    if blocks == "all":
        return tuple(range(count))
    parts = [part.strip() for part in blocks.split(",")]
    if not all(part.isdecimal() for part in parts) or max(map(int, parts)) >= count:
        last = count - 1
        raise ValueError(f'blocks={blocks} must be "all" or positions from 0 to {last} such as "0,{last}"')
    return tuple(sorted({int(part) for part in parts}))


def mask_attention(site: Site, noise: torch.Generator, self_loop: bool) -> Masked:
    """Mask the attention of `site`; RequestError for a kind of attention that is neither ViT's nor Swin's."""
    original = site.attention
    masked: Masked
    if isinstance(original, Attention):
        masked = MaskedAttention(original, _token_mask(site), noise, site.prefix, self_loop)
    elif isinstance(original, WindowAttention) and site.window and site.shift:
        masked = MaskedWindowAttention(original, _token_mask(site), noise, site.grid, site.window, site.shift)
    else:
        found = type(original).__name__
        raise RequestError(
            f"MEAT masks timm's Attention and WindowAttention; block {site.name} has a {found}"
        )
    site.attention = masked
    return masked


def mask_ffn(site: Site, noise: torch.Generator, kind: FFN) -> MaskedFFN:
    """Mask the FFN of `site`; RequestError for one that cannot be masked that way."""
    original = site.mlp
    if not isinstance(original, Mlp):
        found = type(original).__name__
        raise RequestError(f"ffn={kind} masks timm's Mlp; block {site.name} has a {found}, use ffn=none")
    try:
        masked = ElementwiseFFN(original, noise) if kind == "elementwise" else NeuronFFN(original, noise)
    except ValueError as error:
        raise RequestError(f"block {site.name}: {error}") from None
    site.mlp = masked
    return masked


def _token_mask(site: Site) -> BinaryMask:
    return BinaryMask((site.grid[0] * site.grid[1],), next(site.block.parameters()).device)
