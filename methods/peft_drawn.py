"""Tuners with fixed random factors or places, through the `peft` library (see `base.peft`).

What is fixed is drawn from the method's own seed and never stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from methods.base.gradient import rates
from methods.base.peft import PeftTuner, Ranked

if TYPE_CHECKING:
    from peft import PeftConfig


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
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(1e-2)

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


class RandLoRA(Ranked):
    """RandLoRA: a full-rank update from scaled products of fixed random factors (Albert et al., ICLR 2025).

    W + alpha/r sum_j B_j diag(l_j) A diag(g_j), A and B_j fixed and shared by all layers, l zero, as many j
    as make the sum full rank. Trains randlora_lambda (r, n) and randlora_gamma (n, the smaller of in and
    out), n = that / r. 230,400.
    """

    name = "randlora"

    @dataclass(frozen=True)
    class Config(Ranked.Config):
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

    def spared(self, name: str) -> bool:
        return "randlora_gamma" in name


class SHiRA(Ranked):
    """SHiRA: a few of the weights themselves are trained (Bhardwaj et al., NeurIPS 2024).

    W + S, S zero, with r (in + out) places drawn at random. Trains shira_weight. 147,456.
    """

    name = "shira"

    @dataclass(frozen=True)
    class Config(Ranked.Config):
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
