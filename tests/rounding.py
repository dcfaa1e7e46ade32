"""By how much two floats may differ in a test, and why; whoever writes the next test looks here first.

The same operations on the same shapes    not at all: `torch.equal`, on every machine
One formula written twice, in float64     about 1e-9 of numbers about 1: thousands of roundings (2e-16), and
                                          nothing next to a mistake. Take float64 wherever the code can.
Numbers of a released implementation      1e-4 of the largest: `tests/golden` keeps them in float32, and
                                          sums of thousands of terms are rounded there as well
A few operations on float32 about 1       `torch.testing.assert_close` as it is (1.3e-6 of each, and 1e-5)
Float32 by two ways through a network,    `assert_same_to_rounding`: what rounding can do is tried, since no
a head or a training; another batch       constant holds for every processor, scale and depth
bfloat16 against float32                  some ten roundings of bfloat16 (2^-8) of the largest: 0.05 of it
Means and shares of draws                 in standard errors, and how many

A bound that is only the largest difference seen here, rounded up, holds here only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from carryover.protocols.rounding import Rounding


def assert_same_to_rounding(
    compute: Callable[[], Tensor], other: Tensor, rows: np.ndarray | None = None
) -> None:
    """`other` is what `compute` returns (its `rows`), computed another way: only rounding may differ."""
    apart = Rounding(compute).unexplained(other, rows)
    assert not apart, f"differ {apart}"
