"""A row: the score of one test set at one step, with per-sample correctness."""

from __future__ import annotations

import base64
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Count = Annotated[int, Meta(ge=0)]


class Row(Struct, frozen=True, kw_only=True):
    """The score of one test set at one step.

    step: number of tasks learnt so far; task: its id, from 0 (few-shot: step is the number of the episode
    within its source, and task the source); n: images; correct: how many were right, null if the method has
    no head for the task yet; hits: which ones, see `pack_hits`.
    """

    step: Count
    task: Count
    split: str = "test"
    n: Count
    correct: Count | None = None
    hits: str | None = None

    def __post_init__(self) -> None:
        if self.correct is not None and self.correct > self.n:
            raise ValueError(f"step {self.step}, task {self.task}: {self.correct} correct of {self.n}")
        if self.hits is not None:
            found = int(unpack_hits(self.hits, self.n).sum())
            if found != self.correct:
                place = f"step {self.step}, task {self.task}"
                raise ValueError(f"{place}: the hits name {found} correct images, not {self.correct}")

    @classmethod
    def scored(cls, step: int, task: int, hits: NDArray[np.bool_], split: str = "test") -> Row:
        """A row from per-sample correctness (n,)."""
        return cls(
            step=step, task=task, split=split, n=len(hits), correct=int(hits.sum()), hits=pack_hits(hits)
        )


def pack_hits(hits: NDArray[np.bool_]) -> str:
    """Per-sample correctness (n,) as base64 of numpy.packbits: sample 8k is the highest bit of byte k."""
    return base64.b64encode(np.packbits(np.asarray(hits, dtype=bool)).tobytes()).decode("ascii")


def unpack_hits(packed: str, n: int) -> NDArray[np.bool_]:
    """The (n,) booleans that `pack_hits` packed; ValueError for text that does not hold n samples."""
    data = base64.b64decode(packed, validate=True)
    if len(data) != -(-n // 8):
        raise ValueError(f"{len(data)} bytes of hits do not hold {n} samples")
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=n).astype(bool)
