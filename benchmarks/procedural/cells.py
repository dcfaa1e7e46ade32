"""Textures of cells that fill the plane."""

from __future__ import annotations

import numpy as np

from benchmarks.procedural.canvas import Box
from benchmarks.procedural.exact import Field, fraction
from benchmarks.procedural.plane import Plane, tone, whole, window


def _checks(plane: Plane) -> Field:
    return ((whole(plane.u) + whole(plane.v)) & 1).astype(np.float64)


def _bricks(plane: Plane) -> Field:
    """Courses of bricks, each shifted by half a brick, in mortar."""
    row = whole(plane.v)
    along = plane.u / plane.dice.between(1.7, 2.2) + 0.5 * (row & 1)
    joint = plane.dice.between(0.06, 0.1)
    mortar = (fraction(plane.v) < 2 * joint) | (fraction(along) < joint)
    return np.where(mortar, 0.0, 0.55 + 0.45 * plane.tones(row, whole(along)))


def _honeycomb(plane: Plane) -> Field:
    """Walls of hexagonal cells: what lies far from the nearer of two lattices of centres."""
    u, v, high = plane.u * 0.8, plane.v * 0.8, 1.7320508075688772
    near = []
    for shift in (0.0, 0.5):
        a, b = np.abs(fraction(u + shift) - 0.5), np.abs(fraction(v / high + shift) - 0.5) * high
        near.append(np.maximum(a, 0.5 * a + (high / 2.0) * b))
    return tone(np.minimum(*near) > 0.5 - plane.dice.between(0.06, 0.12))


def _triangles(plane: Plane) -> Field:
    """Triangles of two tones and some between, cut by three families of lines."""
    u, v = plane.u * 0.7, plane.v * 0.7
    half, high = 0.5 * u, 0.8660254037844386 * v
    a, b, c = whole(u), whole(half + high), whole(high - half)
    return 0.6 * ((a + b + c) & 1) + 0.4 * plane.tones(a + 7 * c, b)


def _nearest(plane: Plane, spacing: float) -> tuple[Field, Field, Field]:
    """Squared distance to the nearest and second nearest of scattered points, and the nearest's tone."""
    first, second, owner = (np.full((192, 192), start) for start in (1e9, 1e9, 0.0))
    reach = 1.9 * spacing
    for px, py in plane.scattered(spacing):
        shade = plane.dice.between(0, 1)
        box = Box.around(px - reach, py - reach, px + reach, py + reach)
        if box.empty:
            continue
        x, y = box.samples()
        distance = (x - px) * (x - px) + (y - py) * (y - py)
        at = window(box)
        owner[at] = np.where(distance < first[at], shade, owner[at])
        second[at] = np.minimum(second[at], np.maximum(first[at], distance))
        first[at] = np.minimum(first[at], distance)
    return first, second, owner


def _cracks(plane: Plane) -> Field:
    """Walls between the cells of scattered points, of one width."""
    first, second, _ = _nearest(plane, 1.15 * plane.period)
    return tone(np.sqrt(second) - np.sqrt(first) < plane.dice.between(1.2, 2.4))


def _mosaic(plane: Plane) -> Field:
    """The cells of scattered points in flat tones."""
    return _nearest(plane, plane.period)[2]


KINDS = {
    "bricks": _bricks,
    "checks": _checks,
    "cracks": _cracks,
    "honeycomb": _honeycomb,
    "mosaic": _mosaic,
    "triangles": _triangles,
}
