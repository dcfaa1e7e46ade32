"""More tuners of the `peft` library (see `peft_tuners`, from which they take all but the library's config).

Step 0: the plain network, for every one of them. Stored per task (or once): the trainable tensors and the
head. What a tuner draws or computes from the weights and does not train is made again by whoever restores
it, from seeds of ours: PSOFT's and OSF's by an SVD, whose signs are the machine's.

Not here is Lily: its router averages over a batch, so that an image's scores depend on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from backbones.backbone import BackboneInfo
from backbones.training import ParameterGroup, groups_of
from benchmarks.stream import StreamInfo
from methods.peft_tuners import PeftTuner

if TYPE_CHECKING:
    from peft import PeftConfig


class _Ranked(PeftTuner):
    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        rank: r
        """

        rank: int = 4

    config: Config


class RandLoRA(_Ranked):
    """RandLoRA: a full-rank update from scaled products of fixed random factors (Albert et al., ICLR 2025).

    W + alpha/r sum_j B_j diag(l_j) A diag(g_j), A and B_j fixed and shared by all layers, l zero, as many j
    as make the sum full rank. Trains randlora_lambda (r, n) and randlora_gamma (n, the smaller of in and
    out), n = that / r. 230,400.
    """

    name = "randlora"

    @dataclass(frozen=True)
    class Config(_Ranked.Config):
        """
        rank: r, rows of the fixed factors: fewer rows, more of them
        alpha: the update is scaled by alpha / r
        """

        rank: int = 32
        alpha: float = 640.0

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        config = self.config
        return peft.RandLoraConfig(
            r=config.rank,
            randlora_alpha=cast(int, config.alpha),
            projection_prng_key=self.context.seeds.own("randlora") % 2**31,
            save_projection=False,
            target_modules=pattern,
        )


class DeLoRA(_Ranked):
    """DeLoRA: a low-rank update whose length is apart from its direction (Bini et al., ICLR 2025).

    W + l/r B diag(1 / (|b_i| |a_i|)) A diag(|w_j|), w_j the columns of W, B zero. Trains delora_A (r, in),
    delora_B (out, r) and delora_lambda (1), which bounds how far W can go. 147,468.
    """

    name = "delora"

    @dataclass(frozen=True)
    class Config(_Ranked.Config):
        """
        bound: lambda at the start
        """

        bound: float = 15.0

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        config = self.config
        return peft.DeloraConfig(r=config.rank, delora_lambda=cast(int, config.bound), target_modules=pattern)


class GraLoRA(_Ranked):
    """GraLoRA: LoRA on each of k x k blocks of the weight (Jung et al., NeurIPS 2025).

    W_ij + alpha/r B_ij A_ij of rank r/k, B zero. Trains gralora_A (k, in/k, r) and gralora_B (k, r, out/k).
    147,456, LoRA's.
    """

    name = "gralora"

    @dataclass(frozen=True)
    class Config(_Ranked.Config):
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


class PSOFT(_Ranked):
    """PSOFT: the principal subspace of a weight is rotated (Wu et al., 2025).

    W - B A + B diag(b) R diag(a) A with B A the first r terms of W's SVD, R = (I + S)(I - S)^-1 with S
    skew-symmetric and zero, a and b one. Trains psoft_R: weight (r (r - 1) / 2), vector_a (r), vector_b (r).
    6,720.
    """

    name = "psoft"

    @dataclass(frozen=True)
    class Config(_Ranked.Config):
        """
        rank: r, at most the smaller size of every layer
        """

        lr: float = 5e-3
        rank: int = 32

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        rank = self.config.rank
        return peft.PsoftConfig(r=rank, psoft_alpha=rank, target_modules=pattern)


class BEFT(PeftTuner):
    """BEFT: a bias is added to what chosen layers put out (arXiv 2509.15974).

    W x + b + d, d zero; the paper's choice is the values, so `targets` is better "qv" than "qkv". Trains
    beft_bias (1, out). 27,648.
    """

    name = "beft"

    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        lr: float = 5e-3

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.BeftConfig(target_modules=pattern)

    def groups(self) -> list[ParameterGroup]:
        """Biases do not decay, whatever their shape."""
        return [*groups_of(self.backbone.net.named_parameters(), self.config.lr, 0.0), *self.head_groups()]


class HiRA(_Ranked):
    """HiRA: an update that is the weight times, by elements, one of low rank (Huang et al., ICLR 2025).

    W * (1 + B A), B zero. Trains hira_A (r, in) and hira_B (out, r). 147,456.
    """

    name = "hira"

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.HiraConfig(r=self.config.rank, target_modules=pattern)


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

    config: Config

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if not 0 < config.kept < 1:
            return f"kept={config.kept} is a share of the directions; take one between 0 and 1"
        return super().supports(config, info, backbone)

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.OSFConfig(effective_rank=cast(int, self.config.kept), target_modules=pattern)


class AdaMSS(_Ranked):
    """AdaMSS: an update of rank one in each of several subspaces of the weight (Zheng et al., NeurIPS 2025).

    The rows of (W, bias) in the first r directions of its SVD are put into K clusters by K-Means, and those
    of a cluster are updated by B_k A_k, B_k zero. Trains adamss_A (K times (1, r)) and adamss_B (K times
    (rows of the cluster, 1)). 33,648. The paper's pruning of subspaces is not done.
    """

    name = "adamss"

    @dataclass(frozen=True)
    class Config(_Ranked.Config):
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


class MiSS(_Ranked):
    """MiSS: one shard of an update serves all groups of inputs (Kang & Yin, arXiv 2409.15371).

    W x + D^T s, s_i the sum of every r-th input from the i-th on, D zero. Trains miss_block (r, out).
    110,592.
    """

    name = "miss"

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.MissConfig(r=self.config.rank, target_modules=pattern)


class SHiRA(_Ranked):
    """SHiRA: a few of the weights themselves are trained (Bhardwaj et al., NeurIPS 2024).

    W + S, S zero, with r (in + out) places drawn at random. Trains shira_weight. 147,456.
    """

    name = "shira"

    @dataclass(frozen=True)
    class Config(_Ranked.Config):
        """
        rank: r; as many weights as LoRA has at this rank
        """

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        seed = self.context.seeds.own("shira") % 2**31
        return peft.ShiraConfig(r=self.config.rank, random_seed=seed, target_modules=pattern)


class WaveFT(PeftTuner):
    """WaveFT: a few wavelet coefficients of an update (Bilican et al., 2025).

    W + scaling IDWT(C), C zero, with places for its coefficients drawn at random. Trains waveft_spectrum.
    12,000.
    """

    name = "waveft"

    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        """
        coefficients: of each layer, at most its weights
        scaling: of the update
        """

        coefficients: int = 1000
        scaling: float = 25.0

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        config = self.config
        return peft.WaveFTConfig(
            n_frequency=config.coefficients,
            scaling=config.scaling,
            random_loc_seed=self.context.seeds.own("waveft") % 2**31,
            target_modules=pattern,
        )
