"""A picture of 64 x 64 pixels on which masks of three times that resolution are painted.

Positions are in pixels, (0, 0) the upper left corner of the picture, x to the right and y down. A mask is
sampled at the centres of 3 x 3 parts of every pixel; how many of the nine it covers, a whole number, is how
much of the colour the pixel gets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.images import Pixels
from benchmarks.procedural.colours import Colour
from benchmarks.procedural.exact import Dice, Field, Mask, clamp, cosine, sine, smooth

SIDE = 64
FINE = 3


@dataclass(frozen=True)
class Box:
    """Whole pixels: left <= x < right, top <= y < bottom, within the picture; it may be empty."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, left: float, top: float, right: float, bottom: float) -> Box:
        """The pixels that touch a rectangle."""
        left, top = max(math.floor(left), 0), max(math.floor(top), 0)
        return cls(left, top, max(left, min(math.ceil(right), SIDE)), max(top, min(math.ceil(bottom), SIDE)))

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]], margin: float = 0.0) -> Box:
        """The pixels that touch the rectangle around `points`."""
        xs, ys = [x for x, _ in points], [y for _, y in points]
        return cls.around(min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin)

    @property
    def empty(self) -> bool:
        return self.right <= self.left or self.bottom <= self.top

    def centres(self) -> tuple[Field, Field]:
        """x (1, w) and y (h, 1) of the pixels' centres."""
        return (
            np.arange(self.left, self.right, dtype=np.float64)[None, :] + 0.5,
            np.arange(self.top, self.bottom, dtype=np.float64)[:, None] + 0.5,
        )

    def samples(self) -> tuple[Field, Field]:
        """x (1, 3w) and y (3h, 1) of the samples."""
        x = np.arange(FINE * self.left, FINE * self.right, dtype=np.float64)
        y = np.arange(FINE * self.top, FINE * self.bottom, dtype=np.float64)
        return (x[None, :] + 0.5) / FINE, (y[:, None] + 0.5) / FINE


WHOLE = Box(0, 0, SIDE, SIDE)


def coverage(mask: Mask) -> Field:
    """(3h, 3w) -> the share (h, w) of each pixel that is covered."""
    bits = mask.view(np.uint8)
    rows = bits[0::FINE] + bits[1::FINE] + bits[2::FINE]
    whole = rows[:, 0::FINE] + rows[:, 1::FINE] + rows[:, 2::FINE]
    return whole.astype(np.float64) / (FINE * FINE)


def averaged(values: Field) -> Field:
    """(3h, 3w) in [0, 1] -> each pixel's mean (h, w), to 1/4095; sums are of integers."""
    whole = (values * 4095.0 + 0.5).astype(np.int32)
    rows = whole[0::FINE] + whole[1::FINE] + whole[2::FINE]
    whole = rows[:, 0::FINE] + rows[:, 1::FINE] + rows[:, 2::FINE]
    return whole.astype(np.float64) / (4095.0 * FINE * FINE)


class Canvas:
    """colour: (3, 64, 64) in [0, 1] before `finished`."""

    def __init__(self, colour: Colour | Field) -> None:
        self.colour = np.empty((3, SIDE, SIDE))
        self.colour[...] = colour if isinstance(colour, np.ndarray) else column(colour)

    def paint(self, box: Box, mask: Mask, colour: Colour | Field, opacity: float = 1.0) -> None:
        """Lay a colour (or a field of colours (3, h, w)) over what `mask` (3h, 3w) covers of `box`."""
        if not box.empty:
            self.blend(box, coverage(mask) * opacity if opacity != 1.0 else coverage(mask), colour)

    def blend(self, box: Box, share: Field, colour: Colour | Field) -> None:
        """Move each pixel of `box` towards `colour` by `share` (h, w)."""
        if not box.empty:
            part = self.colour[:, box.top : box.bottom, box.left : box.right]
            target = colour if isinstance(colour, np.ndarray) else column(colour)
            part += (target - part) * share

    def lit(self, light: Field) -> None:
        """Multiply every pixel by `light`, (64, 64) or (3, 64, 64)."""
        self.colour *= light

    def grained(self, dice: Dice, strength: float) -> None:
        """Grey noise, triangular in (-strength, strength)."""
        self.colour += (dice.field(SIDE, SIDE) - dice.field(SIDE, SIDE)) * strength

    def finished(self) -> Pixels:
        """(64, 64, 3) uint8."""
        whole = np.floor(clamp(self.colour) * 255.0 + 0.5).astype(np.uint8)
        return np.ascontiguousarray(whole.transpose(1, 2, 0))


def column(colour: Colour) -> Field:
    """(3, 1, 1), to be spread over pixels."""
    return np.array(colour).reshape(3, 1, 1)


def between(share: Field, low: Colour, high: Colour) -> Field:
    """Colours (3, h, w) from `low` where `share` (h, w) is 0 to `high` where it is 1."""
    start = column(low)
    return start + (column(high) - start) * share


def slope(dice: Dice, low: float, high: float) -> Field:
    """Light (64, 64) that falls from `high` to `low` across the picture, in any direction."""
    turn = dice.between(0, 1)
    x, y = WHOLE.centres()
    along = (x - SIDE / 2) * cosine(turn) + (y - SIDE / 2) * sine(turn)
    return low + (high - low) * clamp(along / (1.3 * SIDE) + 0.5)


def noise(dice: Dice, x: Field, y: Field, cells: int) -> Field:
    """Value noise in [0, 1] on a grid; x: (1, w) and y: (h, 1), in lattice cells, within [0, cells]."""
    lattice = dice.field(cells + 2, cells + 2)
    column, row = np.floor(x[0]).astype(np.int64), np.floor(y[:, 0]).astype(np.int64)
    across, down = smooth(x - column), smooth(y - row[:, None])
    left = lattice[:, column]
    rows = left + (lattice[:, column + 1] - left) * across
    upper = rows[row]
    return upper + (rows[row + 1] - upper) * down


def clouds(dice: Dice, box: Box, period: float, octaves: int, fade: float, fine: bool = False) -> Field:
    """Value noise of several octaves over `box` in [0, 1], mean about 1/2.

    period: pixels of the coarsest octave's cells; fade: the weight of each octave over the one before.
    """
    x, y = box.samples() if fine else box.centres()
    total, weight, sum_of_weights = np.zeros((y.shape[0], x.shape[1])), 1.0, 0.0
    for _ in range(octaves):
        total = total + noise(dice, x / period, y / period, int(SIDE / period) + 1) * weight
        sum_of_weights += weight
        weight, period = weight * fade, period / 2.0
    return total / sum_of_weights
