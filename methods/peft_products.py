"""Updates of other low-rank forms, through the `peft` library (see `base.peft`): products, blocks, parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from backbones.backbone import BackboneInfo
from benchmarks.stream import StreamInfo
from methods.base.peft import PeftTuner, Ranked

if TYPE_CHECKING:
    from peft import PeftConfig


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


class HiRA(Ranked):
    """HiRA: an update that is the weight times, by elements, one of low rank (Huang et al., ICLR 2025).

    W * (1 + B A), B zero. Trains hira_A (r, in) and hira_B (out, r). 147,456.
    """

    name = "hira"

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.HiraConfig(r=self.config.rank, target_modules=pattern)


class GraLoRA(Ranked):
    """GraLoRA: LoRA on each of k x k blocks of the weight (Jung et al., NeurIPS 2025).

    W_ij + alpha/r B_ij A_ij of rank r/k, B zero. Trains gralora_A (k, in/k, r) and gralora_B (k, r, out/k).
    147,456, LoRA's.
    """

    name = "gralora"

    @dataclass(frozen=True)
    class Config(Ranked.Config):
        """
        alpha: the update is scaled by alpha / r
        blocks: k, which divides the rank and the sizes of the layers
        """

        alpha: float = 8.0
        blocks: int = 2

    config: Config

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if config.blocks < 1 or config.rank % config.blocks:
            return (
                f"the rank is shared out among the blocks, and rank={config.rank} is no multiple of "
                f"blocks={config.blocks}; change one of them"
            )
        return super().supports(config, info, backbone)

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        config = self.config
        return peft.GraloraConfig(
            r=config.rank,
            alpha=cast(int, config.alpha),
            gralora_k=config.blocks,
            target_modules=pattern,
        )


class DeLoRA(Ranked):
    """DeLoRA: a low-rank update whose length is apart from its direction (Bini et al., ICLR 2025).

    W + l/r B diag(1 / (|b_i| |a_i|)) A diag(|w_j|), w_j the columns of W, B zero. Trains delora_A (r, in),
    delora_B (out, r) and delora_lambda (1), which bounds how far W can go. 147,468.
    """

    name = "delora"

    @dataclass(frozen=True)
    class Config(Ranked.Config):
        """
        bound: lambda at the start
        """

        bound: float = 15.0

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        config = self.config
        return peft.DeloraConfig(r=config.rank, delora_lambda=cast(int, config.bound), target_modules=pattern)


class AdaMSS(Ranked):
    """AdaMSS: an update of rank one in each of several subspaces of the weight (Zheng et al., NeurIPS 2025).

    The rows of (W, bias) in the first r directions of its SVD are put into K clusters by K-Means, and those
    of a cluster are updated by B_k A_k, B_k zero. Trains adamss_A (K times (1, r)) and adamss_B (K times
    (rows of the cluster, 1)). 33,648. The paper's pruning of subspaces is not done.
    """

    name = "adamss"

    @dataclass(frozen=True)
    class Config(Ranked.Config):
        """
        rank: r, directions; no more than the layers have are taken
        subspaces: K
        """

        rank: int = 100
        subspaces: int = 5

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        config = self.config
        return peft.AdamssConfig(r=config.rank, num_subspaces=config.subspaces, target_modules=pattern)


class MiSS(Ranked):
    """MiSS: one shard of an update serves all groups of inputs (Kang & Yin, arXiv 2409.15371).

    W x + D^T s, s_i the sum of every r-th input from the i-th on, D zero. Trains miss_block (r, out).
    110,592.
    """

    name = "miss"

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.MissConfig(r=self.config.rank, target_modules=pattern)
