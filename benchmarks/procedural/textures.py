"""Textures: thirty kinds of surface in five groups, of any colours, phase, scale and direction.

Each kind is a function of the plane, (u, v) in periods, to a tone in [0, 1] between two colours; the files
`lines`, `cells`, `dots`, `surfaces` and `weaves` hold one group each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.images import Pixels
from benchmarks.procedural import cells, dots, lines, surfaces, weaves
from benchmarks.procedural.canvas import WHOLE, Canvas, averaged, between, clouds, slope
from benchmarks.procedural.colours import Colour, any_colour
from benchmarks.procedural.exact import Dice, Field
from benchmarks.procedural.plane import Plane

VERSION = 1
GROUPS: Mapping[str, Mapping[str, Callable[[Plane], Field]]] = {
    "cells": cells.KINDS,
    "dots": dots.KINDS,
    "lines": lines.KINDS,
    "surfaces": surfaces.KINDS,
    "weaves": weaves.KINDS,
}
NAMES = tuple(f"{group}/{kind}" for group, kinds in GROUPS.items() for kind in kinds)
_KINDS = tuple(kind for kinds in GROUPS.values() for kind in kinds.values())


def draw(label: int, seed: int, index: int) -> Pixels:
    """The image (64, 64, 3)."""
    dice = Dice("textures", seed, label, index)
    plane = Plane(dice, period=dice.between(7.0, 13.0), turn=dice.between(0.0, 1.0))
    tone = averaged(_KINDS[label](plane))
    low, high = _colours(dice)
    canvas = Canvas(between(tone, low, high))
    # Light and dirt that have nothing to do with the class.
    canvas.lit(slope(dice, dice.between(0.55, 0.9), 1.1) + (clouds(dice, WHOLE, 24, 3, 0.6) - 0.5) * 0.3)
    canvas.grained(dice, dice.between(0.02, 0.07))
    return canvas.finished()


def _colours(dice: Dice) -> tuple[Colour, Colour]:
    """Two colours that differ enough in lightness to be told apart, in either order."""
    dark = dice.between(0.2, 0.55)
    first = any_colour(dice, (dark, dark))
    second = any_colour(dice, (dark + 0.22, min(dark + 0.5, 0.95)))
    return (first, second) if dice.chance(0.5) else (second, first)
