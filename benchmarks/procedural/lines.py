"""Textures of lines."""

from __future__ import annotations

import numpy as np

from benchmarks.procedural.canvas import WHOLE, clouds
from benchmarks.procedural.exact import Field, cosine, fraction, sine
from benchmarks.procedural.plane import Plane, tone


def _grating(plane: Plane) -> Field:
    return 0.5 + 0.5 * cosine(plane.u)


def _stripes(plane: Plane) -> Field:
    """Bands of random widths with hard edges."""
    cut = plane.dice.between(0.3, 0.7)
    within = fraction(plane.u / 2.0)
    return tone(within < cut * 0.6) + tone((within > 0.6) & (within < 0.6 + cut * 0.3))


def _waves(plane: Plane) -> Field:
    swing, pace = plane.dice.between(0.25, 0.5), plane.dice.between(0.25, 0.5)
    return tone(fraction(plane.u + swing * sine(plane.v * pace)) < 0.5)


def _zigzag(plane: Plane) -> Field:
    pace = plane.dice.between(0.3, 0.6)
    fold = np.abs(fraction(plane.v * pace) - 0.5) * (plane.dice.between(0.7, 1.2) / pace)
    return tone(fraction(plane.u + fold) < 0.5)


def _rings(plane: Plane) -> Field:
    x, y = WHOLE.samples()
    dx, dy = x - plane.dice.between(8, 56), y - plane.dice.between(8, 56)
    return tone(fraction(np.sqrt(dx * dx + dy * dy) / plane.period) < plane.dice.between(0.35, 0.65))


def _contours(plane: Plane) -> Field:
    """Thin lines of equal height on rolling ground."""
    height = clouds(plane.dice, WHOLE, 2.6 * plane.period, 2, 0.4, fine=True)
    return tone(fraction(height * 9.0) < plane.dice.between(0.2, 0.35))


KINDS = {
    "contours": _contours,
    "grating": _grating,
    "rings": _rings,
    "stripes": _stripes,
    "waves": _waves,
    "zigzag": _zigzag,
}
