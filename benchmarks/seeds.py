"""Every random draw comes from a hash of what it is for, so that nothing depends on the order of draws.

Splits, batches and episodes are drawn from (purpose, stream, seed) and are therefore the same for
every method; what belongs to a method (initial weights, Gumbel noise) adds its name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


def derive(*parts: str | int) -> int:
    """A seed in [0, 2^63) from the given parts; equal parts give equal seeds on every machine.

    Each part enters with its type and length, so ("ab", "c") and ("a", "bc") differ, as do 1 and "1".
    """
    digest = hashlib.sha256()
    for part in parts:
        text = f"{type(part).__name__}:{part}".encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return int.from_bytes(digest.digest()[:8], "little") >> 1


def generator(*parts: str | int) -> np.random.Generator:
    """A NumPy generator (PCG64) seeded by `derive(*parts)`."""
    return np.random.Generator(np.random.PCG64(derive(*parts)))


@dataclass(frozen=True)
class Seeds:
    """The seeds of one cell: those shared by all methods, and those of its own method."""

    stream: str
    seed: int
    method: str

    def shared(self, purpose: str, *parts: str | int) -> int:
        """For splits, batches, augmentation: equal for every method on this stream and seed."""
        return derive(purpose, self.stream, self.seed, *parts)

    def own(self, purpose: str, *parts: str | int) -> int:
        """For initial weights and noise: the method's name is in it."""
        return derive(purpose, self.stream, self.seed, self.method, *parts)
