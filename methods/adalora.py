"""AdaLoRA: an update in the form of an SVD, whose ranks move between layers (Zhang et al., ICLR 2023).

The weight W (out, in) of a layer k of a frozen network becomes, through the `peft` library (see `base.peft`),

    W + alpha/r_0 P Lambda Q                                    Lambda diagonal, zero at first
    L      = CE + gamma mean_k (|P^T P - I| + |Q Q^T - I|) / 2  P and Q stay near orthogonal

Each layer starts with r_0 triplets (a column of P, a lambda, a row of Q). All layers together keep b(t) of
them at step t, chosen every delta_T steps by what the loss feels of their weights w:

    I      = |w dL/dw|                                                   (8)
    Ibar   = beta_1 Ibar + (1 - beta_1) I                                (9)
    Ubar   = beta_2 Ubar + (1 - beta_2) |I - Ibar|                       (10)
    s      = Ibar Ubar                                                   (11)
    S_ki   = s(lambda_ki) + mean_j s(P_k,ji) + mean_j s(Q_k,ij)          (7)
    lambda = lambda where S is among the b(t) greatest, else 0           (6)
    b(t)   = b(T) + (b(0) - b(T)) ((T - t_f - t) / (T - t_f - t_i))^3    (12)

b(t) is b(0), all triplets, before t_i, and b(T) = r times the layers from T - t_f on. A pruned triplet goes
on training and may come back, until the choice at T - t_f, which is the last: from there on the lambdas of
the others are held at zero. As in the authors' code, w is the weight after the step, so that a lambda which
was just set to zero is felt as soon as it moves; (12) falls from b(0) at t_i to b(T) at T - t_f without a
jump; and the norms are not squared.

Trains lora_B (P), lora_E (Lambda) and lora_A (Q) of all r_0 triplets: 221,256 on ViT-B/16. Every training
starts its averages and its choice anew, even if one update is trained further on every task.

Stored per task (or once): P, Lambda and Q of all triplets, also of those that ended as zero, and the head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from backbones.backbone import Backbone, BackboneInfo
from benchmarks.stream import StreamInfo, Task
from methods.base.step import Step
from methods.peft_lora import LowRank

if TYPE_CHECKING:
    from peft import PeftConfig

ADAPTER = "default"  # what the library calls the only one


class AdaLoRA(LowRank):
    name = "adalora"

    @dataclass(frozen=True)
    class Config(LowRank.Config):
        """
        rank: r, how many triplets a layer ends with on average
        alpha: the update is scaled by alpha / initial_rank
        orthogonality: gamma, weight of the regularisation
        initial_rank: r_0, how many a layer starts with; if not said, 1.5 r, rounded up
        beta1, beta2: how much of the running averages of sensitivity and of uncertainty a step keeps
        warmup: t_i, the share of all steps before anything is pruned
        final: t_f, the share of all steps, at the end, for which the ranks are fixed
        interval: delta_T, steps between two choices
        """

        orthogonality: float = 0.5
        initial_rank: int | None = None
        beta1: float = 0.85
        beta2: float = 0.85
        warmup: float = 0.15
        final: float = 0.5
        interval: int = 10

    config: Config

    @classmethod
    def supports(cls, config: Config, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if config.initial_rank is not None and config.initial_rank < config.rank:
            return (
                "ranks are pruned from initial_rank to rank, and "
                f"initial_rank={config.initial_rank} is below rank={config.rank}; raise it, or leave it out"
            )
        if not (0 <= config.beta1 < 1 and 0 <= config.beta2 < 1):
            return (
                "a running average keeps a share of at least 0 and below 1, and "
                f"beta1={config.beta1:g}, beta2={config.beta2:g}; the paper's are 0.85"
            )
        if config.warmup < 0 or config.final < 0 or config.warmup + config.final >= 1:
            return (
                "warmup and final are shares of the training that leave steps between them to prune in, and "
                f"warmup={config.warmup:g}, final={config.final:g}; lower one"
            )
        if config.interval < 1:
            return f"an interval is at least 1 step, and interval={config.interval}; raise it"
        return super().supports(config, info, backbone)

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        config = self.config
        start = config.initial_rank
        return peft.AdaLoraConfig(
            init_r=math.ceil(1.5 * config.rank) if start is None else start,
            target_r=config.rank,
            total_step=1,  # of the library's own pruning, which is not used
            lora_alpha=cast(int, config.alpha),
            lora_dropout=config.dropout,
            target_modules=pattern,
        )

    def attach(self, backbone: Backbone) -> None:
        from peft.tuners.adalora import SVDLinear

        super().attach(backbone)
        self._layers = [
            Layer(
                *(cast(nn.Parameter, held[ADAPTER]) for held in (module.lora_B, module.lora_E, module.lora_A))
            )
            for module in backbone.net.modules()
            if isinstance(module, SVDLinear)
        ]
        self._start()

    def _start(self) -> None:
        self._allocation = Allocation(self._layers, self.config.beta1, self.config.beta2)

    def begin(self, task: Task) -> None:
        super().begin(task)
        self._start()

    def loss(self, step: Step) -> Tensor:
        return super().loss(step) + self.penalty()

    def penalty(self) -> Tensor:
        """How far the columns of P and the rows of Q are from orthonormal, times its weight."""
        grams = [gram for layer in self._layers for gram in (layer.P.T @ layer.P, layer.Q @ layer.Q.T)]
        terms = [(gram - torch.eye(len(gram), device=gram.device)).norm() for gram in grams]
        return self.config.orthogonality * torch.stack(terms).mean()

    def after_step(self, step: Step) -> None:
        self.allocate(step.number, step.total)

    def allocate(self, step: int, steps: int) -> None:
        """Observe, choose and prune after step `step` (from 1) of `steps`."""
        config, allocation = self.config, self._allocation
        last = max(1, steps - round(config.final * steps))  # T - t_f
        first = min(round(config.warmup * steps), last)  # t_i
        if step <= last:
            allocation.observe()
        chosen = step == last or (step < last and step % config.interval == 0)
        if chosen:
            target = config.rank * len(self._layers)
            allocation.choose(budget(step, first, last, len(allocation.kept), target))
        if chosen or step > last:
            allocation.prune()

    def held(self) -> dict[str, Tensor]:
        return super().held() | self._allocation.tensors

    @torch.no_grad()
    def hold(self, tensors: dict[str, Tensor]) -> None:
        super().hold(tensors)
        for name, tensor in self._allocation.tensors.items():
            tensor.copy_(tensors[name])

    def observations(self) -> dict[str, float]:
        """Of the last task: triplets that are kept, and the ranks of the layers with the fewest and most."""
        ranks = self._allocation.ranks()
        found = {"triplets": sum(ranks), "rank_min": min(ranks), "rank_max": max(ranks)}
        return {name: float(rank) for name, rank in found.items()}


def budget(step: int, first: int, last: int, start: int, target: int) -> int:
    """(12), rounded down: how many triplets are kept at `step`, counted from 1.

    first: t_i; last: T - t_f; start: b(0); target: b(T).
    """
    if step < first:
        return start
    if step >= last:
        return target
    return target + (start - target) * (last - step) ** 3 // (last - first) ** 3


@dataclass(frozen=True)
class Layer:
    """The r triplets of a layer: P (out, r), Lambda (r, 1) for its diagonal, Q (r, in)."""

    P: nn.Parameter
    Lambda: nn.Parameter
    Q: nn.Parameter

    @property
    def weights(self) -> tuple[nn.Parameter, ...]:
        return self.P, self.Lambda, self.Q


class Allocation:
    """The triplets that are kept, among those of all layers, and the averages that decide it.

    `tensors`, which change in place: Ibar and Ubar of every weight, and for each triplet whether it is kept.
    """

    def __init__(self, layers: Sequence[Layer], beta1: float, beta2: float) -> None:
        self.layers = layers
        self.beta1, self.beta2 = beta1, beta2
        self._weights = [weight for layer in layers for weight in layer.weights]
        self.sensitivity = torch.zeros_like(_flat(self._weights))
        self.uncertainty = torch.zeros_like(self.sensitivity)
        count = sum(len(layer.Lambda) for layer in layers)
        self.kept = torch.ones(count, dtype=torch.bool, device=self.sensitivity.device)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"sensitivity": self.sensitivity, "uncertainty": self.uncertainty, "kept": self.kept}

    @torch.no_grad()
    def observe(self) -> None:
        """(8) to (10), of the weights and the gradients as they are now."""
        gradients = [cast(Tensor, weight.grad) for weight in self._weights]
        found = (_flat(self._weights) * _flat(gradients)).abs()
        self.sensitivity.lerp_(found, 1 - self.beta1)
        self.uncertainty.lerp_((found - self.sensitivity).abs(), 1 - self.beta2)

    def scores(self) -> Tensor:
        """S (triplets,) of (11) and (7), layer by layer."""
        s = self.sensitivity * self.uncertainty
        parts = iter(s.split([weight.numel() for weight in self._weights]))
        found = []
        for layer in self.layers:
            of_P, of_Lambda, of_Q = (next(parts).view(weight.shape) for weight in layer.weights)
            found.append(of_Lambda.squeeze(1) + of_P.mean(0) + of_Q.mean(1))
        return torch.cat(found)

    def choose(self, count: int) -> None:
        """Keep the `count` triplets of greatest S; of equal ones those of the earlier layer."""
        order = self.scores().argsort(descending=True, stable=True)
        self.kept.fill_(False)
        self.kept[order[:count]] = True

    @torch.no_grad()
    def prune(self) -> None:
        """(6): the lambdas of the triplets that are not kept become zero."""
        for layer, kept in zip(self.layers, self._by_layer(), strict=True):
            layer.Lambda.masked_fill_(~kept[:, None], 0)

    def ranks(self) -> list[int]:
        """How many triplets of each layer are kept."""
        return [int(kept.sum()) for kept in self._by_layer()]

    def _by_layer(self) -> tuple[Tensor, ...]:
        return self.kept.split([len(layer.Lambda) for layer in self.layers])


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
