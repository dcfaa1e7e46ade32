"""LoRA and its variants, through the `peft` library (see `base.peft`): W + alpha/r B A."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from methods.base.peft import PeftTuner

if TYPE_CHECKING:
    from peft import PeftConfig


class LowRank(PeftTuner):
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


class LoRA(LowRank):
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
