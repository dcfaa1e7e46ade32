"""Textures of single marks on a ground."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.procedural.canvas import WHOLE, Box, clouds
from benchmarks.procedural.exact import Field, cosine, fraction, sine
from benchmarks.procedural.plane import Plane, tone, whole, window


def _polka(plane: Plane) -> Field:
    """Equal discs on a lattice whose rows are shifted."""
    row = whole(plane.v)
    a, b = fraction(plane.u + 0.5 * (row & 1)) - 0.5, fraction(plane.v) - 0.5
    radius = plane.dice.between(0.24, 0.36)
    return tone(a * a + b * b < radius * radius)


def _halftone(plane: Plane) -> Field:
    """Discs on a square lattice whose size follows a slow change of tone."""
    a, b = fraction(plane.u * 1.3) - 0.5, fraction(plane.v * 1.3) - 0.5
    size = clouds(plane.dice, WHOLE, 26, 1, 1.0, fine=True)
    return tone(a * a + b * b < 0.3 * size * size)


def _marks(plane: Plane, spacing: float) -> Iterator[tuple[tuple[slice, slice], Field, Field]]:
    """For scattered places: the samples around, and their coordinates in pixels, turned at random."""
    for px, py in plane.scattered(spacing):
        turn = plane.dice.between(0, 1)
        box = Box.around(px - spacing, py - spacing, px + spacing, py + spacing)
        if not box.empty:
            x, y = box.samples()
            c, s = cosine(turn), sine(turn)
            yield window(box), (x - px) * c + (y - py) * s, (y - py) * c - (x - px) * s


def _pebbles(plane: Plane) -> Field:
    """Ovals of many sizes and tones."""
    out, spacing = np.zeros((192, 192)), 0.8 * plane.period
    for at, a, b in _marks(plane, spacing):
        long, short = plane.dice.between(0.3, 0.75) * spacing, plane.dice.between(0.25, 0.5) * spacing
        a, b = a / long, b / short
        out[at] = np.where(a * a + b * b < 1.0, plane.dice.between(0.45, 1.0), out[at])
    return out


def _bubbles(plane: Plane) -> Field:
    """Outlines of circles, one over the other."""
    out, spacing = np.zeros((192, 192)), plane.period
    for at, a, b in _marks(plane, spacing):
        radius = plane.dice.between(0.35, 0.9) * spacing
        distance = np.sqrt(a * a + b * b)
        out[at] = np.where(np.abs(distance - radius) < 0.75, 1.0, out[at])
    return out


def _confetti(plane: Plane) -> Field:
    """Short bars in all directions."""
    out, spacing = np.zeros((192, 192)), 0.75 * plane.period
    for at, a, b in _marks(plane, spacing):
        long, tint = plane.dice.between(0.5, 0.9) * spacing, plane.dice.between(0.5, 1.0)
        out[at] = np.where((np.abs(a) < long) & (np.abs(b) < 0.17 * spacing), tint, out[at])
    return out


def _crosses(plane: Plane) -> Field:
    """Upright crosses on a lattice."""
    row = whole(plane.v)
    a, b = np.abs(fraction(plane.u + 0.5 * (row & 1)) - 0.5), np.abs(fraction(plane.v) - 0.5)
    long, short = plane.dice.between(0.32, 0.42), plane.dice.between(0.08, 0.14)
    return tone(np.minimum(a, b) < short) * tone(np.maximum(a, b) < long)


KINDS = {
    "bubbles": _bubbles,
    "confetti": _confetti,
    "crosses": _crosses,
    "halftone": _halftone,
    "pebbles": _pebbles,
    "polka": _polka,
}
