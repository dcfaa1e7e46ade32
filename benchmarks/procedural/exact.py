"""Arithmetic and random numbers with the same bits on every machine.

NumPy's sin, exp, power and arctan2, its float sums and BLAS round differently from one CPU and version
to the next. Drawing therefore uses only what IEEE 754 rounds in one way, element by element (+ - * / sqrt
floor, comparisons, float64 throughout), sums of integers, and the functions of this file. Random numbers
are PCG64's uniform doubles and nothing derived from them by NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.seeds import generator

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]
Number = TypeVar("Number", float, Field)
T = TypeVar("T")

_TURN = 6.283185307179586
# The Taylor series of sine, x^3 to x^13: the error at a quarter turn is 7e-10, and less before it.
_SERIES = (-1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800)


def cosine(turns: Number) -> Number:
    """cos(2 pi turns) to 1e-9, by a polynomial; turns: any finite number below 1e6, or an array of them."""
    left = 0.25 - abs(turns - _floor(turns + 0.5))  # cosine is the sine of what is left to a quarter turn
    x = left * _TURN
    square = x * x
    total = square * _SERIES[-1] + _SERIES[-2]
    for coefficient in _SERIES[-3::-1]:
        total = square * total + coefficient
    return x + x * (square * total)


def _floor(x: Number) -> Number:
    """For single numbers Python's own, which is many times faster."""
    return np.floor(x) if isinstance(x, np.ndarray) else float(math.floor(x))


def sine(turns: Number) -> Number:
    """sin(2 pi turns), see `cosine`."""
    return cosine(turns - 0.25)


def fraction(x: Field) -> Field:
    """x modulo 1, in [0, 1]."""
    return x - np.floor(x)


def smooth(x: Number) -> Number:
    """3x^2 - 2x^3: from 0 to 1 with level ends, for x in [0, 1]."""
    return x * x * (3.0 - 2.0 * x)


def clamp(x: Field) -> Field:
    """x cut off at 0 and 1."""
    return np.minimum(np.maximum(x, 0.0), 1.0)


class Dice:
    """Random numbers seeded by a name; equal parts give equal numbers."""

    def __init__(self, *parts: str | int) -> None:
        self._random = generator("procedural", *parts).random

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * float(self._random())

    def around(self, reach: float) -> float:
        """Bell-shaped in (-reach, reach), standard deviation reach / 3: the mean of three uniforms."""
        return reach * ((self.between(-1, 1) + self.between(-1, 1) + self.between(-1, 1)) / 3.0)

    def whole(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(float(self._random()) * (high - low + 1))

    def chance(self, share: float) -> bool:
        return float(self._random()) < share

    def pick(self, things: Sequence[T]) -> T:
        return things[int(float(self._random()) * len(things))]

    def shuffled(self, things: Sequence[T]) -> list[T]:
        keys = [float(self._random()) for _ in things]
        return [things[at] for at in sorted(range(len(things)), key=keys.__getitem__)]

    def field(self, *shape: int) -> Field:
        """Uniform numbers in [0, 1)."""
        return self._random(shape)
