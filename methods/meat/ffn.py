"""Masks on the feed-forward network of a block; biases stay unmasked.

- elementwise  W' = m * W on fc1.weight and fc2.weight (MEAT, section 3.3)
- neuron       one bit for each hidden unit: its fc1 row and its fc2 column. A unit whose column is
               gone adds nothing whatever its row holds, so the mask is put on the activation: the
               same function, cheaper, and the gradient of a masked unit says what bringing the whole
               unit back would do. It slices exactly into a smaller network.

Noise is drawn once per forward pass, for the whole batch.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from methods.meat.masks import BinaryMask

FFN = Literal["elementwise", "neuron", "none"]


Dense = tuple[Tensor, Tensor | None, Tensor]  # fc1.weight (K, C), fc1.bias (K,), fc2.weight (C, K)


class MaskedFFN(nn.Module):
    """timm's `Mlp` with masks; takes over its layers under their names.

    `fix` computes the weights at inference once, for as long as the masks stay; `release` forgets
    them. Training never reads them.
    """

    fc1: nn.Linear
    act: nn.Module
    drop1: nn.Module
    norm: nn.Module
    fc2: nn.Linear
    drop2: nn.Module

    def __init__(self, mlp: Mlp, noise: torch.Generator, shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        for name, layer in mlp.named_children():
            self.add_module(name, layer)
        self.masks = tuple(BinaryMask(shape, mlp.fc1.weight.device) for shape in shapes)
        for number, mask in enumerate(self.masks, start=1):
            self.add_module(f"mask{number}", mask)
        self.noise = noise
        self.fixed: Dense | None = None

    def dense(self) -> Dense:
        """The weights at inference, over the K hidden units that are left."""
        raise NotImplementedError

    @torch.no_grad()
    def fix(self) -> None:
        self.fixed = self.dense()

    def release(self) -> None:
        self.fixed = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.fixed is None:
            return self.masked(x)
        weight1, bias1, weight2 = self.fixed
        hidden = self.norm(self.act(F.linear(x, weight1, bias1)))
        return F.linear(hidden, weight2, self.fc2.bias)

    def masked(self, x: Tensor) -> Tensor:
        """The forward pass with masks sampled in training, hard at inference."""
        raise NotImplementedError


class ElementwiseFFN(MaskedFFN):
    """One bit for each weight of fc1 and fc2."""

    def __init__(self, mlp: Mlp, noise: torch.Generator) -> None:
        super().__init__(mlp, noise, (tuple(mlp.fc1.weight.shape), tuple(mlp.fc2.weight.shape)))

    def dense(self) -> Dense:
        first, second = self.masks
        return self.fc1.weight * first.hard(), self.fc1.bias, self.fc2.weight * second.hard()

    def masked(self, x: Tensor) -> Tensor:
        hidden = self.drop1(self.act(F.linear(x, self._weight(self.fc1, 0), self.fc1.bias)))
        return self.drop2(F.linear(self.norm(hidden), self._weight(self.fc2, 1), self.fc2.bias))

    def _weight(self, linear: nn.Linear, index: int) -> Tensor:
        mask = self.masks[index]
        return mask.sample_weight(linear.weight, self.noise) if self.training else linear.weight * mask.hard()


class NeuronFFN(MaskedFFN):
    """One bit for each hidden unit.

    Raises ValueError for an Mlp that normalises its hidden units: a norm over fewer units is
    another function, so nothing could be sliced.
    """

    def __init__(self, mlp: Mlp, noise: torch.Generator) -> None:
        if not isinstance(mlp.norm, nn.Identity):
            raise ValueError(
                "ffn=neuron cannot slice an FFN that normalises hidden units; use ffn=elementwise"
            )
        super().__init__(mlp, noise, ((len(mlp.fc1.weight),),))

    def dense(self) -> Dense:
        kept = self.masks[0].hard()
        bias = None if self.fc1.bias is None else self.fc1.bias[kept]
        return self.fc1.weight[kept], bias, self.fc2.weight[:, kept].contiguous()

    def masked(self, x: Tensor) -> Tensor:
        mask = self.masks[0].sample(self.noise) if self.training else self.masks[0].hard()
        hidden = self.drop1(self.act(self.fc1(x)))
        return self.drop2(self.fc2(hidden * mask.to(hidden.dtype)))
