"""The head of CrossTransformers (section 3.2), in three forms that agree.

    a[c,j,m,p]  = <W_K h_s[j,m], W_K h_q[p]> / sqrt(d_k)     j: the images of class c, m: their positions
    alpha       = softmax of a over all (j, m) of class c jointly
    t[c,p]      = sum_{j,m} alpha W_V h_s[j,m]
    logit[q,c]  = -(1/P) sum_p || W_V h_q[p] - t[c,p] ||^2

Only the content of a token tells its place in the image: there is no position code.

- "naive"    the equations as they stand: every score of every pair of tokens in memory
- "sdpa"     one fused attention for all classes of equally many images; scores are never kept
- "chunked"  that for a few queries at a time, computed again in the backward pass: memory is bounded
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from benchmarks.errors import RequestError

Form = Literal["naive", "sdpa", "chunked"]
Norm = Literal["none", "layer", "l2"]

FLOATS = 2**26  # of t[c,p] at once in the chunked form, a quarter of it without gradients: 256 and 64 MiB
ABSENT = -1e9  # the logit of a class without a support image, which is never the answer


@dataclass(frozen=True)
class Projected:
    """Token maps after W_K and W_V: keys (N, T, d_k), which are the queries of a query map, and values."""

    keys: Tensor
    values: Tensor

    def __getitem__(self, chosen: Tensor | slice) -> Projected:
        return Projected(self.keys[chosen], self.values[chosen])


class CrossHead(nn.Module):
    """W_K and W_V, shared by supports and queries, over token maps (N, T, width).

    norm: of every token before both: "layer" (LayerNorm without parameters), "l2" (to unit length) or
    "none", as in the paper; scale: a learnt factor exp(s) on the logits, 1 at the start (the paper has none).
    """

    def __init__(
        self, width: int, d_k: int = 128, d_v: int = 128, norm: Norm = "none", scale: bool = False
    ) -> None:
        """RequestError for a d_k or d_v below 1, and for an unknown norm."""
        super().__init__()
        for name, value in (("d_k", d_k), ("d_v", d_v)):
            if value < 1:
                raise RequestError(f"{name}={value} must be at least 1; the paper has 128")
        if norm not in ("none", "layer", "l2"):
            raise RequestError(f"norm={norm!r} is none of none, layer and l2")
        self.norm = norm
        self.key = nn.utils.skip_init(nn.Linear, width, d_k, bias=False)
        self.value = nn.utils.skip_init(nn.Linear, width, d_v, bias=False)
        self.log_scale = nn.Parameter(torch.zeros(())) if scale else None
        self.reset(torch.Generator().manual_seed(0))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw W_K and W_V anew from N(0, 0.1^2) cut at two deviations, +-0.2; the scale goes back to 1."""
        for linear in (self.key, self.value):
            # Drawn on the CPU, so that every device starts from the same bits. torch cuts at absolute values.
            drawn = torch.empty(linear.weight.shape)
            nn.init.trunc_normal_(drawn, std=0.1, a=-0.2, b=0.2, generator=generator)
            linear.weight.copy_(drawn)
        if self.log_scale is not None:
            self.log_scale.zero_()

    def project(self, tokens: Tensor) -> Projected:
        """(N, T, width) to keys (N, T, d_k) and values (N, T, d_v)."""
        if self.norm == "layer":
            tokens = F.layer_norm(tokens, tokens.shape[-1:])
        elif self.norm == "l2":
            tokens = F.normalize(tokens, dim=-1)
        return Projected(self.key(tokens), self.value(tokens))

    def forward(
        self, support: Tensor, labels: Tensor, query: Tensor, classes: int, form: Form = "sdpa"
    ) -> Tensor:
        """Logits (Q, classes) of query maps (Q, T, width) given supports (S, T', width) and labels (S,)."""
        return self.logits(self.project(support), labels, self.project(query), classes, form)

    def logits(
        self, support: Projected, labels: Tensor, query: Projected, classes: int, form: Form = "sdpa"
    ) -> Tensor:
        """The logits of maps that are already projected."""
        if form == "naive":
            found = _naive(support, labels, query, classes)
        elif form == "sdpa":
            found = _fused(support, labels, query, classes)
        else:
            found = _chunked(support, labels, query, classes)
        return found if self.log_scale is None else found * self.log_scale.exp()


def _naive(support: Projected, labels: Tensor, query: Projected, classes: int) -> Tensor:
    scores = torch.einsum("jmd,qpd->qpjm", support.keys, query.keys) / math.sqrt(query.keys.shape[-1])
    columns = []
    for cls in range(classes):
        members = labels == cls
        if not members.any():
            columns.append(query.keys.new_full((len(query.keys),), ABSENT))
            continue
        alpha = scores[:, :, members].flatten(2).softmax(-1)
        prototypes = alpha @ support.values[members].flatten(0, 1)
        columns.append(_logit(query.values, prototypes))
    return torch.stack(columns, 1)


def _fused(support: Projected, labels: Tensor, query: Projected, classes: int) -> Tensor:
    queries, positions, d_k = query.keys.shape
    d_v, wide = query.values.shape[-1], max(d_k, query.values.shape[-1])
    # Zeros make keys and values equally wide, which the fused kernels ask for, and add nothing to a product.
    asked, keys = (F.pad(x.keys, (0, wide - d_k)) for x in (query, support))
    values = F.pad(support.values, (0, wide - d_v))
    asked = asked.reshape(1, 1, queries * positions, wide)
    out = query.keys.new_full((classes, queries), ABSENT)
    for members, images in _equally_many(labels, classes):
        count = len(members)
        prototypes = F.scaled_dot_product_attention(
            asked.expand(count, -1, -1, -1),
            keys[images].reshape(count, 1, -1, wide),
            values[images].reshape(count, 1, -1, wide),
            scale=d_k**-0.5,
        )[..., :d_v].reshape(count, queries, positions, d_v)
        out = out.index_copy(0, members, _logit(query.values, prototypes))
    return out.T


def _chunked(support: Projected, labels: Tensor, query: Projected, classes: int) -> Tensor:
    queries, positions, d_v = query.values.shape
    limit = FLOATS if torch.is_grad_enabled() else FLOATS // 4
    at_once = max(1, limit // (classes * positions * d_v))
    if queries <= at_once:
        return _fused(support, labels, query, classes)

    def part(keys: Tensor, values: Tensor, asked: Tensor, wanted: Tensor) -> Tensor:
        return _fused(Projected(keys, values), labels, Projected(asked, wanted), classes)

    found = []
    for start in range(0, queries, at_once):
        few = query[slice(start, start + at_once)]
        four = (support.keys, support.values, few.keys, few.values)
        kept = torch.is_grad_enabled()
        found.append(checkpoint(part, *four, use_reentrant=False) if kept else part(*four))
    return torch.cat(found)


def _logit(values: Tensor, prototypes: Tensor) -> Tensor:
    """-(1/P) sum_p of the squared distance between values (Q, P, d_v) and prototypes (..., Q, P, d_v)."""
    return -(values - prototypes).square().sum(-1).mean(-1)


def _equally_many(labels: Tensor, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Classes (n,) with equally many support images, and which images those are (n * shots,), by class."""
    counts = torch.bincount(labels, minlength=classes)
    order = torch.argsort(labels, stable=True)
    first = counts.cumsum(0) - counts
    for shots in counts.unique().tolist():
        if shots:
            members = torch.nonzero(counts == shots).flatten()
            places = first[members, None] + torch.arange(shots, device=labels.device)
            yield members, order[places.flatten()]
