"""The interface to the token maps of training and validation episodes; SimCLR episodes.

In a SimCLR episode (section 3.1) every support image is a class of its own. Queries are augmented copies of
support images, one for each image whose rank within its class (from 1, in support order) is at most the
class's number of queries; the queries that were drawn are dropped, and images without a copy stay as
distractors. Head and loss are those of any episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from backbones.backbone import Backbone
from benchmarks.images import Indices
from benchmarks.seeds import generator


@dataclass(frozen=True)
class EpisodeMaps:
    """support (S, T, D) with labels (S,), query (Q, T, D) with answers (Q,), all labels in 0..classes-1."""

    support: Tensor
    labels: Tensor
    query: Tensor
    answers: Tensor
    classes: int


class Episodes(Protocol):
    """The episodes of meta-training; `parameters` and `buffers` change with the head."""

    @property
    def parameters(self) -> Sequence[nn.Parameter]: ...

    @property
    def buffers(self) -> Sequence[Tensor]: ...

    @property
    def kernels(self) -> Sequence[nn.Parameter]:
        """Those of `parameters` that have the l2 term."""

    def training(self, number: int) -> EpisodeMaps:
        """The training episode `number`, with gradients to `parameters`."""

    def validation(self, number: int) -> EpisodeMaps | None:
        """The validation episode `number`, without gradients; None where there are no other classes."""


def as_labels(labels: Indices, device: torch.device) -> Tensor:
    """On the device, int64."""
    return torch.from_numpy(np.ascontiguousarray(labels)).to(device)


def normalised(backbone: Backbone, images: Tensor) -> Tensor:
    """Images (B, 3, S, S) in [0, 1] as the network takes them."""
    mean, std = (
        torch.tensor(values, device=images.device).view(3, 1, 1)
        for values in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    return ((images - mean) / std).contiguous()


def in_unit_range(pixels: np.ndarray, device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 as (B, 3, H, W) float32 in [0, 1] on the device."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(255)


def converts(seed: int, number: int, share: float) -> bool:
    """Whether the training episode `number` is converted; `share` of them are."""
    return bool(generator("converted", seed, number).random() < share)


def copied(support_labels: Indices, query_labels: Indices) -> Indices:
    """Positions (Q,) of the support images of which a converted episode's queries are copies, in order.

    They are the queries' labels too, since the label of a support image is its position.
    """
    classes = int(max(support_labels.max(initial=-1), query_labels.max(initial=-1))) + 1
    asked = np.bincount(query_labels, minlength=classes)
    order = np.argsort(support_labels, kind="stable")
    counts = np.bincount(support_labels, minlength=classes)
    rank = np.empty(len(support_labels), dtype=np.int64)  # from 0
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.flatnonzero(rank < asked[support_labels])
