"""The tuners of the `peft` library that fit into timm's ViT and Swin: one class for each.

All of them replace Linears of a frozen network by ones that add to, scale or rotate the weight, through
the library (Mangrulkar et al., github.com/huggingface/peft). Each class names its paper, its formula for
the weight W (out, in) of a layer, its trainable tensors, and its count on ViT-B/16 at the defaults.

Step 0: the plain network, for every one of them. Stored per task (or once): the trainable tensors and
the head; nothing is merged.

More of them are in `peft_more`. Not here are those that start elsewhere (FourierFT, VB-LoRA, C3A), whose
sizes must divide the network's (RoAd), or whose scores depend on the batch (Lily).
"""

from __future__ import annotations

import importlib.util
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from backbones.backbone import Backbone, BackboneInfo
from backbones.training import ParameterGroup, groups_of
from benchmarks.stream import StreamInfo
from methods.base import ParameterEfficient

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


class _Tuner(ParameterEfficient):
    """A subclass makes the library's config; the network is changed in place and stays a timm network."""

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if importlib.util.find_spec("peft") is None:
            return f"{cls.name} comes with the peft library, which is missing; pip install 'carryover[peft]'"
        return super().supports(config, info, backbone)

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


class PeftTuner(_Tuner):
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


class _LowRank(PeftTuner):
    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        rank: r
        alpha: the update is scaled by alpha / r (rslora: alpha / sqrt(r))
        dropout: of the input of the update
        """

        rank: int = 4
        alpha: float = 1.0
        dropout: float = 0.0

    config: Config


class LoRA(_LowRank):
    """LoRA: a low-rank update of the weights of a frozen network (Hu et al., ICLR 2022).

    W + alpha/r B A, B zero. Trains lora_A (r, in) and lora_B (out, r). 147,456, on q and v alone as well.
    """

    name = "lora"
    variant: ClassVar[Mapping[str, Any]] = {}  # what the library calls it

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        config = self.config
        return peft.LoraConfig(
            r=config.rank,
            lora_alpha=cast(int, config.alpha),
            lora_dropout=config.dropout,
            target_modules=pattern,
            **self.variant,
        )


class DoRA(LoRA):
    """DoRA: LoRA on the directions of the weights, and their lengths (Liu et al., ICML 2024).

    m (W + alpha/r B A) / |W + alpha/r B A|, a norm for each row, m = |W|. Trains LoRA's tensors and
    lora_magnitude_vector (out). 175,104.
    """

    name = "dora"
    variant = {"use_dora": True}


class RsLoRA(LoRA):
    """rsLoRA: LoRA scaled by alpha / sqrt(r) (Kalajdzievski, 2023).

    W + alpha/sqrt(r) B A, B zero. Trains lora_A and lora_B. 147,456.
    """

    name = "rslora"
    variant = {"use_rslora": True}


class AdaLoRA(_LowRank):
    """AdaLoRA: an update in the form of an SVD, its factors kept near orthogonal (Zhang et al., ICLR 2023).

    W + alpha/r P diag(E) Q, E zero, with orthogonality * (|P^T P - I|^2 + |Q Q^T - I|^2) averaged over all
    factors added to the loss. Trains lora_A (Q), lora_B (P) and lora_E. 147,504. The ranks stay as they
    are: the paper's pruning of E between steps, which moves them between layers, is not done.
    """

    name = "adalora"

    @dataclass(frozen=True)
    class Config(_LowRank.Config):
        """
        orthogonality: gamma, weight of the regularisation
        """

        orthogonality: float = 0.5

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        config = self.config
        return peft.AdaLoraConfig(
            init_r=config.rank,
            target_r=config.rank,
            total_step=1,  # of the pruning
            lora_alpha=cast(int, config.alpha),
            lora_dropout=config.dropout,
            target_modules=pattern,
        )

    def penalty(self) -> Tensor:
        terms = []
        for name, factor in self.backbone.net.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                product = factor @ factor.T if ".lora_A." in name else factor.T @ factor
                terms.append((product - torch.eye(len(product), device=product.device)).norm())
        return self.config.orthogonality * torch.stack(terms).mean()


class _Kronecker(PeftTuner):
    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        rank: r
        alpha: the update is scaled by alpha / r
        """

        rank: int = 4
        alpha: float = 4.0

    config: Config


class LoHa(_Kronecker):
    """LoHa: an update that is a product, by elements, of two of low rank (Hyeon-Woo et al., ICLR 2022).

    W + alpha/r (B1 A1) * (B2 A2), B1 zero. Trains hada_w1_a, w1_b, w2_a, w2_b. 294,912.
    """

    name = "loha"

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.LoHaConfig(r=self.config.rank, alpha=cast(int, self.config.alpha), target_modules=pattern)


class LoKr(_Kronecker):
    """LoKr: an update that is a Kronecker product (Yeh et al., ICLR 2024).

    W + alpha/r C x (B A), zero at first. Trains lokr_w1 and lokr_w2_a, lokr_w2_b (lokr_w2 where that is
    smaller).
    """

    name = "lokr"

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.LoKrConfig(r=self.config.rank, alpha=cast(int, self.config.alpha), target_modules=pattern)


class OFT(PeftTuner):
    """OFT: the input of a layer is rotated, in blocks of channels (Qiu et al., NeurIPS 2023).

    W diag(R_1, ..., R_n), R_i = (I + S_i)(I - S_i)^-1 with S_i skew-symmetric and zero. Trains oft_R.
    """

    name = "oft"

    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        block_size: channels that are rotated together; the nearest that divides the layer's input is taken
        """

        block_size: int = 32

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.OFTConfig(r=0, oft_block_size=self.config.block_size, target_modules=pattern)


class BOFT(PeftTuner):
    """BOFT: OFT with rotations in butterfly order (Liu et al., ICLR 2024).

    W R_1 ... R_m, each of them blocks of rotations between which channels change places, and a scale for
    each output. Trains boft_R and boft_s.
    """

    name = "boft"

    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        block_size: channels that are rotated together; it must divide the inputs of the layers
        """

        block_size: int = 4

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.BOFTConfig(boft_block_size=self.config.block_size, target_modules=pattern)


class HRA(PeftTuner):
    """HRA: the input of a layer goes through r Householder reflections (Yuan et al., NeurIPS 2024).

    W H_1 ... H_r, H_i = I - 2 u_i u_i^T / |u_i|^2; they start in pairs of equals, which do nothing, so r
    is even. Trains hra_u (in, r). 73,728.
    """

    name = "hra"

    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        rank: r, the number of reflections; even
        """

        rank: int = 8

    config: Config

    @classmethod
    def supports(cls, config: Config, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if config.rank % 2:
            return f"reflections start in pairs, and rank={config.rank} is odd; take {config.rank + 1}"
        return super().supports(config, info, backbone)

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.HRAConfig(r=self.config.rank, target_modules=pattern)


class IA3(_Tuner):
    """(IA)^3: what attention and the MLP compute is scaled (Liu et al., NeurIPS 2022).

    l * (W x) for qkv, W (l * x) for fc2, l one. Trains ia3_l. 64,512. On a fused qkv the queries are scaled
    too, which adds nothing that scaled keys cannot do: q . k sees only the product of the two scales.
    """

    name = "ia3"

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        lr: float = 1e-2

    config: Config

    def attach(self, backbone: Backbone) -> None:
        self.inject(backbone, r".*\b(attn\.qkv|mlp\.fc2)")

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.IA3Config(target_modules=pattern, feedforward_modules=r".*\bmlp\.fc2")

    def groups(self) -> list[ParameterGroup]:
        """Scales around one do not decay."""
        return [*groups_of(self.backbone.net.named_parameters(), self.config.lr, 0.0), *self.head_groups()]


class VeRA(PeftTuner):
    """VeRA: LoRA with fixed random factors that all layers share (Kopiczko et al., ICLR 2024).

    W + diag(b) B diag(d) A, A and B fixed, b zero. Trains vera_lambda_b (out) and vera_lambda_d (r).
    """

    name = "vera"

    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        rank: r, rows of the shared factors
        dropout: of the input of the update
        """

        lr: float = 1e-2
        rank: int = 256
        dropout: float = 0.0

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        config = self.config
        return peft.VeraConfig(
            r=config.rank,
            vera_dropout=config.dropout,
            save_projection=False,
            projection_prng_key=self.context.seeds.own("vera") % 2**31,
            target_modules=pattern,
        )
