"""Tuners that rotate or reflect the weights, or keep to a subspace, through `peft` (see `base.peft`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from backbones.backbone import BackboneInfo
from benchmarks.stream import StreamInfo
from methods.base.gradient import rates
from methods.base.peft import PeftTuner, Ranked

if TYPE_CHECKING:
    from peft import PeftConfig


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

        return peft.OFTConfig(
            r=0,
            oft_block_size=self.config.block_size,
            use_cayley_neumann=False,  # the library's series of five terms is no rotation once S has grown
            target_modules=pattern,
        )


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

    @classmethod
    def supports(cls, config: Config, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        refused = super().supports(config, info, backbone)
        if refused is None and backbone.width % config.block_size:
            width = f"{backbone.width}, the width of {backbone.name}"
            return f"block_size={config.block_size} does not divide {width}"
        return refused

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.BOFTConfig(boft_block_size=self.config.block_size, target_modules=pattern)

    def spared(self, name: str) -> bool:
        return ".boft_s." in name


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


class PSOFT(Ranked):
    """PSOFT: the principal subspace of a weight is rotated (Wu et al., 2025).

    W - B A + B diag(b) R diag(a) A with B A the first r terms of W's SVD, R = (I + S)(I - S)^-1 with S
    skew-symmetric and zero, a and b one. Trains psoft_R: weight (r (r - 1) / 2), vector_a (r), vector_b (r).
    6,720.
    """

    name = "psoft"

    @dataclass(frozen=True)
    class Config(Ranked.Config):
        """
        rank: r, at most the smaller size of every layer
        """

        lr: float = 5e-3
        rank: int = 32
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(5e-3)

    config: Config

    @classmethod
    def supports(cls, config: Config, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if config.rank > backbone.width:
            return f"rank={config.rank} is more than {backbone.width}, the width of {backbone.name}; lower it"
        return super().supports(config, info, backbone)

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        rank = self.config.rank
        return peft.PsoftConfig(r=rank, psoft_alpha=rank, target_modules=pattern)


class OSF(PeftTuner):
    """OSF: all but the first singular directions of the weights are trained (arXiv 2504.07097).

    W = U S V with the first k directions frozen; gradients of the others are projected off them (AdamW's
    steps are not). Trains osf_svd_params: U_low (out, m - k), S_low (m - k), V_low (m - k, in), m the
    smaller of in and out. 14,160,384, two thirds of the layers themselves. The weights are taken apart
    once: the paper's freezing of more directions after each task is not done.
    """

    name = "osf"

    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        kept: the share of directions that is frozen, below 1
        """

        lr: float = 1e-4
        kept: float = 0.5
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(1e-4)

    config: Config

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if not 0 < config.kept < 1:
            return f"kept={config.kept} is a share of the directions; take one between 0 and 1"
        return super().supports(config, info, backbone)

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.OSFConfig(effective_rank=cast(int, self.config.kept), target_modules=pattern)
