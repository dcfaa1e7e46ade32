"""The plane on which textures are functions: samples in turned, scaled and shifted coordinates."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from benchmarks.procedural.canvas import FINE, SIDE, WHOLE, Box, clouds
from benchmarks.procedural.exact import Dice, Field, Mask, cosine, sine

Whole = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class Plane:
    """u, v: (192, 192), in periods along the texture's own axes; dice: for what a kind draws besides.

    period: in pixels; turn: of the axes.
    """

    def __init__(self, dice: Dice, period: float, turn: float) -> None:
        self.dice = dice
        self.period = period
        self._turn = turn
        self._u0, self._v0 = dice.between(8.0, 24.0), dice.between(8.0, 24.0)

    @cached_property
    def u(self) -> Field:
        x, y = WHOLE.samples()
        c, s = cosine(self._turn) / self.period, sine(self._turn) / self.period
        return x * c + (y * s + self._u0)

    @cached_property
    def v(self) -> Field:
        x, y = WHOLE.samples()
        c, s = cosine(self._turn) / self.period, sine(self._turn) / self.period
        return y * c - (x * s - self._v0)

    def tones(self, i: Whole, j: Whole) -> Field:
        """A random tone in [0, 1] for each cell (i, j) of the plane; cells far apart may share one."""
        table = self.dice.field(32 * 32)
        return table[(i & 31) * 32 + (j & 31)]

    def warp(self, reach: float, period: float) -> Field:
        """A smooth random shift within (-reach, reach), in periods; period: of its bends, in pixels."""
        return (clouds(self.dice, WHOLE, period, 2, 0.5, fine=True) - 0.5) * (2.0 * reach)

    def scattered(self, spacing: float) -> list[tuple[float, float]]:
        """Points in pixels, one in each square of side `spacing`, beyond the picture's edge too."""
        cells = int(SIDE / spacing) + 3
        shift = self.dice.field(cells, cells, 2)
        return [
            ((i - 1 + float(shift[i, j, 0])) * spacing, (j - 1 + float(shift[i, j, 1])) * spacing)
            for i in range(cells)
            for j in range(cells)
        ]


def window(box: Box) -> tuple[slice, slice]:
    """Where the samples of `box` stand in an array (192, 192)."""
    return slice(FINE * box.top, FINE * box.bottom), slice(FINE * box.left, FINE * box.right)


def whole(x: Field) -> Whole:
    """The cell that each coordinate lies in."""
    return np.floor(x).astype(np.int64)


def tone(mask: Mask) -> Field:
    """1 where the mask is, 0 elsewhere."""
    return mask.astype(np.float64)
