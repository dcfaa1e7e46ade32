"""SimCLR episodes (section 3.1): an episode in which every support image is a class of its own.

Queries are augmented copies of support images, one for each image whose rank within its class (from 1, in
support order) is at most the class's number of queries; the queries that were drawn are dropped, and
images without a copy stay as distractors. Head and loss are those of any episode.
"""

from __future__ import annotations

import numpy as np

from benchmarks.images import Indices
from benchmarks.seeds import generator


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
