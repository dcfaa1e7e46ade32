"""What a layer of external attention costs beside one of self-attention.

Per token, at width d with 64 slots and the published fourfold width, multi-head external attention takes
8d² + 512d multiply-adds whatever the number of tokens; multi-head self-attention takes 4d² + 2Nd for N
tokens. So external attention costs more unless N > 2d + 256: linear in N is not cheap at small N.
"""

from __future__ import annotations


def external_attention_macs(dim: int, slots: int = 64, expansion: int = 4) -> int:
    """Multiply-adds per token of multi-head external attention: 8d² + 512d at the defaults.

    Two Linears between d and 4d, and 4d numbers compared with, then made from, the slots. More than
    `self_attention_macs` unless N > 2d + 256 tokens.
    """
    return 2 * expansion * dim**2 + 2 * expansion * dim * slots


def self_attention_macs(dim: int, tokens: int) -> int:
    """Multiply-adds per token of multi-head self-attention among N tokens, 4d² + 2Nd.

    Less than `external_attention_macs` unless N > 2d + 256.
    """
    return 4 * dim**2 + 2 * tokens * dim


def break_even_tokens(dim: int) -> int:
    """N = 2d + 256 tokens, at which both cost the same; external attention is cheaper beyond."""
    return 2 * dim + 256
