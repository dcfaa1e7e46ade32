"""Objects: five shapes x four patterns x four colours before clutter; every class is one combination.

All combinations are classes, so each of the three tells nothing about the other two, and none alone names the
class. The object lies whole in front of the rest and casts a shadow; behind it are pieces of any colour and
pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.images import Pixels
from benchmarks.procedural.canvas import WHOLE, Box, Canvas, between, clouds, column, slope
from benchmarks.procedural.colours import Colour, any_colour, oklch, scaled
from benchmarks.procedural.exact import Dice, Field, Mask, clamp, cosine, fraction, sine

VERSION = 1


def _triangle(u: Field, v: Field) -> Mask:
    return (v < 0.62) & (np.abs(u) * 1.7320508 - v < 1.24)


def _cross(u: Field, v: Field) -> Mask:
    u, v = np.abs(u), np.abs(v)
    return (np.minimum(u, v) < 0.32) & (np.maximum(u, v) < 0.98)


def _star(u: Field, v: Field) -> Mask:
    """Five points: inside at least four of the five lines of a pentagram."""
    inside = np.zeros(np.broadcast(u, v).shape, dtype=np.uint8)
    for point in range(5):
        line = u * cosine(point / 5 + 0.05) + v * sine(point / 5 + 0.05) < 0.37
        inside += line.view(np.uint8)
    return inside >= 4


def _heart(u: Field, v: Field) -> Mask:
    """(x^2 + y^2 - 1)^3 < x^2 y^3."""
    x, y = u * 1.12, 0.12 - v * 1.12
    square = x * x + y * y - 1.0
    return square * square * square < x * x * (y * y * y)


def _dotted(a: Field, b: Field) -> Mask:
    a, b = fraction(a) - 0.5, fraction(b) - 0.5
    return a * a + b * b < 0.09


SHAPES: Mapping[str, Callable[[Field, Field], Mask]] = {
    "cross": _cross,
    "disc": lambda u, v: u * u + v * v < 0.81,
    "heart": _heart,
    "star": lambda u, v: _star(u / 1.08, v / 1.08),
    "triangle": lambda u, v: _triangle(u / 1.12, v / 1.12),
}
# Which samples have the second tone; in periods of the pattern.
PATTERNS: Mapping[str, Callable[[Field, Field], Mask]] = {
    "checked": lambda a, b: (fraction(a * 0.8) < 0.5) ^ (fraction(b * 0.8) < 0.5),
    "dotted": _dotted,
    "plain": lambda a, b: np.zeros(a.shape, dtype=np.bool_),
    "striped": lambda a, b: fraction(a) < 0.42,
}
COLOURS: Mapping[str, float] = {"blue": 0.72, "green": 0.40, "red": 0.07, "yellow": 0.27}  # hue in turns
NAMES = tuple(f"{shape}/{pattern}/{colour}" for shape in SHAPES for pattern in PATTERNS for colour in COLOURS)


def draw(label: int, seed: int, index: int) -> Pixels:
    """The image (64, 64, 3)."""
    dice = Dice("objects", seed, label, index)
    shape, pattern, colour = NAMES[label].split("/")
    canvas = Canvas(_ground(dice))
    for _ in range(dice.whole(5, 10)):
        _piece(canvas, dice)
    _object(canvas, dice, SHAPES[shape], PATTERNS[pattern], COLOURS[colour])
    # Light that falls off to one side and has a colour of its own.
    tint = column(any_colour(dice, (0.9, 0.9), (0.0, 0.11)))
    canvas.lit(tint * slope(dice, dice.between(0.6, 1.0), 1.25))
    canvas.grained(dice, dice.between(0.01, 0.05))
    return canvas.finished()


def _ground(dice: Dice) -> Field:
    """Two colours that run into each other."""
    share = clamp((clouds(dice, WHOLE, dice.between(14, 30), 3, 0.6) - 0.5) * 2.0 + 0.5)
    first, second = (any_colour(dice, (0.25, 0.9), (0.0, 0.16)) for _ in range(2))
    return between(share, first, second)


def _frame(box: Box, x0: float, y0: float, size: float, turn: float) -> tuple[Field, Field]:
    """Coordinates of the samples of `box` in which a circle of `size` pixels around (x0, y0) has radius 1."""
    x, y = box.samples()
    c, s = cosine(turn) / size, sine(turn) / size
    return (x - x0) * c + (y - y0) * s, (y - y0) * c - (x - x0) * s


def _piece(canvas: Canvas, dice: Dice) -> None:
    """One piece of clutter: a bar, an oval or a wedge, plain or patterned."""
    size, turn = dice.between(4, 10), dice.between(0, 1)
    x0, y0 = dice.between(-2, 66), dice.between(-2, 66)
    box = Box.around(x0 - size, y0 - size, x0 + size, y0 + size)
    if box.empty:
        return
    u, v = _frame(box, x0, y0, size, turn)
    thin = dice.between(0.15, 0.7)
    kind = dice.pick(("bar", "oval", "wedge"))
    if kind == "bar":
        mask = (np.abs(v) < 0.7 * thin) & (np.abs(u) < 0.9)
    elif kind == "oval":
        mask = u * u + (v / thin) * (v / thin) < 0.9
    else:
        mask = (np.abs(u) < 0.8) & (v < 0.5 * u + 0.3) & (v > -0.6 * u - 0.3)
    first, second = any_colour(dice, (0.25, 0.9), (0.04, 0.22)), any_colour(dice, (0.25, 0.9))
    canvas.paint(box, mask, first, dice.between(0.6, 1.0))
    if dice.chance(0.4):
        pattern = PATTERNS[dice.pick(("checked", "dotted", "striped"))]
        pace = size / dice.between(4.0, 7.0)
        canvas.paint(box, mask & pattern(u * pace, v * pace), second, dice.between(0.6, 1.0))


def _object(
    canvas: Canvas,
    dice: Dice,
    shape: Callable[[Field, Field], Mask],
    pattern: Callable[[Field, Field], Mask],
    hue: float,
) -> None:
    size, turn = dice.between(19, 28), dice.around(0.07)
    x0, y0 = 32 + dice.around(9), 32 + dice.around(9)
    base, second = _tones(dice, hue)
    reach = 1.25 * size
    box = Box.around(x0 - reach, y0 - reach, x0 + reach, y0 + reach)
    fall_x, fall_y = dice.between(-2.5, 2.5), dice.between(0.8, 2.8)
    canvas.paint(box, shape(*_frame(box, x0 + fall_x, y0 + fall_y, size, turn)), (0.0, 0.0, 0.0), 0.4)
    u, v = _frame(box, x0, y0, size, turn)
    canvas.paint(box, shape(u, v), scaled(base, 0.35))  # what is left of it is an outline
    inner = size / (size - 1.6)
    mask = shape(u * inner, v * inner)
    canvas.paint(box, mask, base)
    period, tilt = dice.between(5.0, 8.0) / size, dice.between(0, 1)
    c, s = cosine(tilt) / period, sine(tilt) / period
    a, b = u * c + (v * s + dice.between(0, 1)), v * c - (u * s - dice.between(0, 1))
    canvas.paint(box, mask & pattern(a, b), second)
    # Light from one side, brightest towards the edge it comes from.
    x, y = box.centres()
    light = dice.between(0, 1)
    along = ((x - x0) * cosine(light) + (y - y0) * sine(light)) / size
    inside = canvas.colour[:, box.top : box.bottom, box.left : box.right]
    canvas.paint(box, mask, inside * (1.0 + dice.between(0.1, 0.3) * along))


def _tones(dice: Dice, hue: float) -> tuple[Colour, Colour]:
    """The object's colour, and the tone of its pattern: of any hue, but lighter or darker."""
    lightness = dice.between(0.42, 0.75) + (0.1 if hue == COLOURS["yellow"] else 0.0)
    base = oklch(lightness, dice.between(0.06, 0.14), hue + dice.around(0.085))
    away = dice.between(0.22, 0.4) * (-1.0 if lightness > 0.62 else 1.0)
    return base, any_colour(dice, (lightness + away, lightness + away), (0.0, 0.06))
