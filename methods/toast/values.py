"""Feedback enters attention through its values: v <- v + W_v t, before the heads split (section 3.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

ValueBias = Literal["single", "reference"]


class FedQKV(nn.Linear):
    """`qkv` of timm's attention, with the same weights, that adds W_v t to its last third.

    feedback: t (B, N, C) of the next call, already where the tokens are; None: the plain layer.
    bias: "single" adds W_v t; "reference" W_v t + b_v as the released code does, so that b_v counts twice.
    """

    def __init__(self, qkv: nn.Linear, bias: ValueBias = "single") -> None:
        super().__init__(qkv.in_features, qkv.out_features, bias=qkv.bias is not None, device="meta")
        self.weight, self.bias = qkv.weight, qkv.bias
        self.value_bias = bias
        self.feedback: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if self.feedback is None:
            return out
        start = self.out_features // 3 * 2
        bias = self.bias[start:] if self.value_bias == "reference" and self.bias is not None else None
        fed = linear(self.feedback, self.weight[start:], bias)
        return torch.cat([out[..., :start], out[..., start:] + fed], dim=-1)
