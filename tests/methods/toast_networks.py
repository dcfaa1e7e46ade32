"""Networks small enough for float64, with weights far from their initial ones, and TOAST around them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbones.architecture import build
from backbones.names import parse
from backbones.numerics import Numerics
from methods.toast.chains import Chain, chain_of
from methods.toast.feedback import Feedback
from methods.toast.passes import TwoPasses

NETWORKS = ("tiny_vit", "tiny_swin", "tiny_convnet", "convnext_atto?img_size=64&depths=1,1,1,1")
ATTENTION = NETWORKS[:2]


@dataclass(frozen=True)
class Fed:
    """A network, TOAST around it, a twin of the network that nothing feeds, and images."""

    net: nn.Module
    plain: nn.Module
    chain: Chain
    feedback: Feedback
    passes: TwoPasses
    images: Tensor

    def logits(self, images: Tensor) -> Tensor:
        """Pooled features stand for logits: every head is linear in them."""
        return self.net.forward_head(self.passes(images), pre_logits=True)

    def plain_logits(self, images: Tensor) -> Tensor:
        return self.plain.forward_head(self.plain.forward_features(images), pre_logits=True)

    def source(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.chain.source(self.plain.forward_features(images))


def fed(name: str, early: int = 0, late: int = 0, lite: bool = False, bias: str = "single") -> Fed:
    """`name` with lively weights, and feedback that is large enough to see."""
    nets = []
    for _ in range(2):
        torch.manual_seed(1)
        net = build(parse(name)).double().eval().requires_grad_(False)
        with torch.no_grad():
            for key, parameter in net.named_parameters():
                if parameter.ndim == 2 and "table" not in key:
                    parameter.normal_(0.0, 1.2 * parameter.shape[1] ** -0.5)
                elif "table" in key or key.endswith("bias"):
                    parameter.normal_(0.0, 0.3)
        nets.append(net)
    net, plain = nets
    chain = chain_of(net, bias)
    top = chain.unit_of(early) if early else len(chain.units)
    feedback = Feedback(chain, chain.unit_of(late), top, lite)
    feedback.reset(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in feedback.bases():
            parameter *= 10 if parameter.ndim == 2 else 2
    feedback.double()
    net.add_module("toast", feedback)
    passes = TwoPasses(chain, feedback, Numerics())
    side = 64 if name.startswith("convnext") else 32
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():  # tokens of random networks are alike: towards them, or the mask is closed
        tokens = chain.source(plain.forward_features(images))[0].flatten(0, -2)
        feedback.prompt += len(feedback.prompt) ** 0.5 * torch.nn.functional.normalize(tokens.mean(0), dim=0)
    return Fed(net, plain, chain, feedback, passes, images)
