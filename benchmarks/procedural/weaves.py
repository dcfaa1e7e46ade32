"""Textures of threads and staves that cross."""

from __future__ import annotations

import numpy as np

from benchmarks.procedural.exact import Field, Mask, fraction
from benchmarks.procedural.plane import Plane, tone, whole


def _round(across: Field) -> Field:
    """The light on threads from edge to edge: dark, bright, dark; across: in threads."""
    centred = 2.0 * fraction(across) - 1.0
    return 1.0 - centred * centred


def _over(first: Mask, u: Field, v: Field, apart: float) -> Field:
    """Threads along v where `first`, along u elsewhere; the two sorts differ in tone by `apart`."""
    return np.where(first, _round(u) * (1.0 - apart), apart + (1.0 - apart) * _round(v))


def _plaid(plane: Plane) -> Field:
    """Bands of many widths, one sequence both ways."""
    bands = plane.dice.field(12)
    u, v = (bands[whole(x * 1.6) % 12] for x in (plane.u, plane.v))
    return 0.5 * (u + v)


def _basket(plane: Plane) -> Field:
    """Squares of three threads, lengthwise and crosswise in turn."""
    first = ((whole(plane.u * 0.8) + whole(plane.v * 0.8)) & 1) == 0
    return _over(first, plane.u * 2.4, plane.v * 2.4, plane.dice.between(0.1, 0.35))


def _twill(plane: Plane) -> Field:
    """Threads over two and under two, one further each row."""
    u, v = plane.u * 2.0, plane.v * 2.0
    return _over(((whole(u) + whole(v)) & 3) < 2, u, v, plane.dice.between(0.25, 0.5))


def _herringbone(plane: Plane) -> Field:
    """Staves of 1 x 4, level and upright in turn, with joints."""
    u, v = plane.u * 1.4, plane.v * 1.4
    i, j = whole(u), whole(v)
    place = (i - j) & 7
    level = place < 4
    along = np.where(level, place + fraction(u), 7 - place + fraction(v)) / 4.0
    across = np.where(level, fraction(v), fraction(u))
    stave = plane.tones(np.where(level, i - place, i), np.where(level, j, j - 7 + place))
    joint = (across < 0.14) | (along < 0.04)
    return np.where(joint, 0.0, 0.4 + 0.25 * level + 0.35 * stave)


def _mesh(plane: Plane) -> Field:
    """A net: thin threads both ways, the ground between them."""
    width = plane.dice.between(0.09, 0.16)
    u, v = plane.u, plane.v + plane.dice.between(-0.35, 0.35) * plane.u
    return tone((np.abs(fraction(u) - 0.5) < width) | (np.abs(fraction(v) - 0.5) < width))


def _maze(plane: Plane) -> Field:
    """Truchet's tiles: in each cell two quarter circles around opposite corners, one pair or the other."""
    i, j = whole(plane.u), whole(plane.v)
    a, b = plane.u - i, plane.v - j
    a = np.where(plane.tones(i, j) < 0.5, a, 1.0 - a)
    far_a, far_b = 1.0 - a, 1.0 - b
    near = np.minimum(a * a + b * b, far_a * far_a + far_b * far_b)
    width = plane.dice.between(0.12, 0.2)
    return tone(np.abs(np.sqrt(near) - 0.5) < width)


KINDS = {
    "basket": _basket,
    "herringbone": _herringbone,
    "maze": _maze,
    "mesh": _mesh,
    "plaid": _plaid,
    "twill": _twill,
}
