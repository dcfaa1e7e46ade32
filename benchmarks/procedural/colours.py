"""Colours by lightness, chroma and hue as the eye orders them: OKLCh (Ottosson, 2020) -> RGB."""

from __future__ import annotations

import math

from benchmarks.procedural.exact import Dice, cosine, sine

Colour = tuple[float, float, float]


def oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """RGB in [0, 1] of lightness in [0, 1], chroma in [0, 0.3] and hue in turns.

    Colours that no screen shows are clipped. sRGB's transfer curve is replaced by a square root, which every
    machine rounds alike.
    """
    a, b = chroma * cosine(hue), chroma * sine(hue)
    long, medium, short = (
        root * root * root
        for root in (
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        )
    )
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    return _shown(red), _shown(green), _shown(blue)


def any_colour(dice: Dice, light: tuple[float, float], chroma: tuple[float, float] = (0.0, 0.14)) -> Colour:
    """A colour of any hue with lightness and chroma in the given ranges."""
    return oklch(dice.between(*light), dice.between(*chroma), dice.between(0, 1))


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second, the rest of the first."""
    r, g, b = (x + (y - x) * share for x, y in zip(first, second, strict=True))
    return r, g, b


def scaled(colour: Colour, by: float) -> Colour:
    """The colour under `by` times the light."""
    r, g, b = (min(x * by, 1.0) for x in colour)
    return r, g, b


def _shown(linear: float) -> float:
    return math.sqrt(min(max(linear, 0.0), 1.0))
