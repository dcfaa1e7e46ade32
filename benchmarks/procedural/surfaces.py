"""Textures of noise."""

from __future__ import annotations

import numpy as np

from benchmarks.procedural.canvas import WHOLE, clouds
from benchmarks.procedural.exact import Field, clamp, cosine, fraction
from benchmarks.procedural.plane import Plane, tone


def _stretched(x: Field, by: float) -> Field:
    """More contrast around the middle."""
    return clamp((x - 0.5) * by + 0.5)


def _clouds(plane: Plane) -> Field:
    return _stretched(clouds(plane.dice, WHOLE, 2.4 * plane.period, 4, 0.55, fine=True), 2.0)


def _grain(plane: Plane) -> Field:
    """Sand: noise of one fine scale."""
    return _stretched(clouds(plane.dice, WHOLE, 0.28 * plane.period, 1, 1.0, fine=True), 1.4)


def _camouflage(plane: Plane) -> Field:
    """Blotches of three flat tones."""
    height = clouds(plane.dice, WHOLE, 1.7 * plane.period, 3, 0.45, fine=True)
    return 0.5 * tone(height > 0.44) + 0.5 * tone(height > 0.56)


def _marble(plane: Plane) -> Field:
    """Veins: a grating bent by turbulence."""
    bent = plane.u * 0.4 + plane.warp(1.6, 3.2 * plane.period)
    vein = 0.5 + 0.5 * cosine(bent)
    return vein * vein


def _wood(plane: Plane) -> Field:
    """Year rings cut lengthwise: narrow, long, hardly bent."""
    bent = plane.u * 0.9 + plane.warp(0.9, 4.0 * plane.period)
    ring = fraction(bent)
    fibre = fraction(bent * 7.3 + 0.3 * cosine(plane.v * 0.2))
    return 0.75 * ring * ring + 0.25 * fibre


def _ridges(plane: Plane) -> Field:
    """Sharp crests between rounded valleys."""
    total, period, weight = np.zeros((192, 192)), 2.0 * plane.period, 1.0
    for _ in range(3):
        height = clouds(plane.dice, WHOLE, period, 1, 1.0, fine=True)
        total = total + (1.0 - np.abs(2.0 * height - 1.0)) * weight
        period, weight = period / 2.0, weight * 0.5
    crest = clamp(total / 0.9 - 0.95)
    return crest * crest


KINDS = {
    "camouflage": _camouflage,
    "clouds": _clouds,
    "grain": _grain,
    "marble": _marble,
    "ridges": _ridges,
    "wood": _wood,
}
