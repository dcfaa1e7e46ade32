"""Tuners that scale or shift what a layer computes, through the `peft` library (see `base.peft`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from backbones.backbone import Backbone
from methods.base import ParameterEfficient
from methods.base.gradient import rates
from methods.base.peft import PeftTuner, Tuner, pattern_of

if TYPE_CHECKING:
    from peft import PeftConfig


class IA3(Tuner):
    """(IA)^3: what attention and the MLP compute is scaled (Liu et al., NeurIPS 2022).

    l * (W x) for k and v, W (l * x) for the MLP's last layer, l one. Trains ia3_l. 64,512. On a fused qkv the
    queries are scaled too, which adds nothing that scaled keys cannot do: q . k sees only the product of the
    two scales.
    """

    name = "ia3"
    needs = ("qkv", "mlp")

    @dataclass(frozen=True)
    class Config(ParameterEfficient.Config):
        lr: float = 1e-2
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(1e-2)

    config: Config

    def attach(self, backbone: Backbone) -> None:
        read: list[str] = []
        self._hidden: list[str] = []
        for site in backbone.sites():
            attention, mlp = (f"{site.name}.{child}" for child in site.children)
            read += [f"{attention}.{name}" for made, name in site.readers().items() if made != "q"]
            self._hidden.append(f"{mlp}.{site.mlp_layers()[-1]}")
        self.inject(backbone, pattern_of([*read, *self._hidden]))

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.IA3Config(target_modules=pattern, feedforward_modules=pattern_of(self._hidden))

    def spared(self, name: str) -> bool:
        return True


class BEFT(PeftTuner):
    """BEFT: a bias is added to what chosen layers put out (arXiv 2509.15974).

    W x + b + d, d zero; the paper's choice is the values, so `targets` is better "qv" than "qkv". Trains
    beft_bias (1, out). 27,648.
    """

    name = "beft"

    @dataclass(frozen=True)
    class Config(PeftTuner.Config):
        lr: float = 5e-3
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(5e-3)

    config: Config

    def tuner(self, pattern: str) -> PeftConfig:
        import peft

        return peft.BeftConfig(target_modules=pattern)

    def spared(self, name: str) -> bool:
        """Biases do not decay, whatever their shape."""
        return True
