"""Strokes of a pen: curves through control points, flattened to short lines and drawn with a nib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.procedural.canvas import FINE, SIDE, Box
from benchmarks.procedural.exact import Mask, cosine, sine

Point = tuple[float, float]
PIECES = 9  # lines that a curve is flattened to
_ROUND = tuple((cosine(step / 12), sine(step / 12)) for step in range(12))  # and a loop


@dataclass(frozen=True)
class Stroke:
    """kind: "line" (2 points or more, joined), "curve" (a cubic Bezier curve: 4 points), "loop" (an ellipse:
    its centre and the ends of two half axes) or "dot" (1 point).
    """

    kind: str
    points: tuple[Point, ...]

    def joints(self) -> tuple[Point, ...]:
        """Where another stroke may begin."""
        if self.kind == "loop":
            (x, y), (right, _), (_, bottom) = self.points
            return (right, y), (x, bottom), (2 * x - right, y), (x, 2 * y - bottom)
        return {"line": self.points, "curve": self.points[::3], "dot": ()}[self.kind]

    def flattened(self) -> list[Point]:
        """The points of a polyline along the stroke."""
        if self.kind == "curve":
            return [_bezier(self.points, step / PIECES) for step in range(PIECES + 1)]
        if self.kind == "loop":
            (x, y), (ax, ay), (bx, by) = self.points
            return [
                (x + (ax - x) * c + (bx - x) * s, y + (ay - y) * c + (by - y) * s)
                for c, s in (*_ROUND, _ROUND[0])
            ]
        return list(self.points)


def _bezier(points: Sequence[Point], t: float) -> Point:
    s = 1.0 - t
    weights = (s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t)
    x = y = 0.0
    for weight, (px, py) in zip(weights, points, strict=True):
        x, y = x + weight * px, y + weight * py
    return x, y


@dataclass(frozen=True)
class Nib:
    """An ellipse that is drawn along the strokes: its half axes in pixels, and the turn of the long one.

    A round pen has equal axes; a broad pen makes strokes thick or thin by their direction.
    """

    long: float
    short: float
    turn: float = 0.0


def inked(strokes: Sequence[Sequence[Point]], nib: Nib) -> Mask:
    """(192, 192): the samples that polylines, in pixels of the picture, cover when drawn with `nib`."""
    mask = np.zeros((FINE * SIDE, FINE * SIDE), dtype=np.bool_)
    c, s = cosine(nib.turn), sine(nib.turn)
    for points in strokes:
        for (ax, ay), (bx, by) in zip(points, points[1:] or points, strict=False):
            box = Box.of([(ax, ay), (bx, by)], nib.long)
            if box.empty:
                continue
            x, y = box.samples()
            # In the nib's own frame, where it is the unit circle: the distance of each sample to the line.
            u = (x - ax) * (c / nib.long) + (y - ay) * (s / nib.long)
            v = (y - ay) * (c / nib.short) - (x - ax) * (s / nib.short)
            du = ((bx - ax) * c + (by - ay) * s) / nib.long
            dv = ((by - ay) * c - (bx - ax) * s) / nib.short
            length = du * du + dv * dv
            if length > 0.0:
                along = np.minimum(np.maximum((u * du + v * dv) / length, 0.0), 1.0)
                u, v = u - along * du, v - along * dv
            part = mask[FINE * box.top : FINE * box.bottom, FINE * box.left : FINE * box.right]
            part |= u * u + v * v <= 1.0
    return mask
