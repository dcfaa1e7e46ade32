"""Solids on a floor, seen by one camera: what the scenes are built of.

Positions on the floor are (x, z) in metres, x to the right of the camera and z away from it; heights are y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.procedural.canvas import FINE, SIDE, WHOLE, Box, Canvas, averaged, between, clouds
from benchmarks.procedural.colours import Colour, any_colour, scaled
from benchmarks.procedural.exact import Dice, Field, clamp, cosine, fraction, sine
from benchmarks.procedural.plane import tone, whole
from benchmarks.procedural.strokes import Point

_ROUND = tuple((cosine(step / 12), sine(step / 12)) for step in range(12))  # corners of what is round


class Camera:
    """height: above the floor; pitch: below the horizon, in turns; focus: in pixels."""

    def __init__(self, height: float, pitch: float, focus: float = 62.0) -> None:
        self.height = height
        self.focus = focus
        self._c, self._s = cosine(pitch), sine(pitch)

    def seen(self, x: float, y: float, z: float) -> Point:
        """The pixel at which a point appears."""
        up, scale = (y - self.height) * self._c + z * self._s, self.focus / self.depth(y, z)
        return SIDE / 2 + x * scale, SIDE / 2 - up * scale

    def depth(self, y: float, z: float) -> float:
        """Distance along the line of sight."""
        return z * self._c - (y - self.height) * self._s

    def floor(self) -> tuple[Field, Field]:
        """x (192, 192) and z (192, 1) of the floor at each sample; the horizon lies above the picture."""
        column, row = WHOLE.samples()
        up = (SIDE / 2 - row) / self.focus
        far = self.height / (self._s - up * self._c)
        return (column - SIDE / 2) / self.focus * far, far * (self._c + up * self._s)


@dataclass(frozen=True)
class Solid:
    """kind: "ball", "cube", "cone", "drum", "pawn" or "truck"; turn: of its front, 0 towards positive z."""

    kind: str
    x: float
    z: float
    size: float
    colour: Colour
    turn: float = 0.0


def laid(canvas: Canvas, camera: Camera, dice: Dice) -> None:
    """Draw the floor: boards, tiles, checks or concrete."""
    x, z = camera.floor()
    turn, size = dice.between(0, 1), dice.between(1.0, 2.2)
    c, s = cosine(turn) / size, sine(turn) / size
    u, v = x * c + (z * s + 40.0), z * c - (x * s - 40.0)
    first = any_colour(dice, (0.45, 0.85), (0.0, 0.06))
    second = any_colour(dice, (0.4, 0.85), (0.0, 0.06))
    kind = dice.pick(("boards", "tiles", "checks", "concrete"))
    if kind == "boards":
        share = tone(fraction(u) < 0.05) * 0.7 + fraction(np.floor(u) * 0.37) * 0.3
    elif kind == "tiles":
        share = tone((fraction(u) < 0.06) | (fraction(v) < 0.06))
    elif kind == "checks":
        share = tone(((whole(u) + whole(v)) & 1) == 1) * 0.6
    else:
        share = np.zeros((FINE * SIDE, FINE * SIDE))
    grey = clamp(averaged(share) + (clouds(dice, WHOLE, 20, 3, 0.7) - 0.5) * dice.between(0.2, 0.9))
    canvas.colour[...] = between(grey, first, second)


def stood(canvas: Canvas, camera: Camera, solids: Sequence[Solid], light: float) -> None:
    """Draw the shadows, then the solids, far ones first; light: the direction it comes from, in turns."""
    for solid in solids:
        _shadow(canvas, camera, solid, light)
    for solid in sorted(solids, key=lambda solid: -solid.z):
        _DRAWN[solid.kind](canvas, camera, solid, light)


def _shadow(canvas: Canvas, camera: Camera, solid: Solid, light: float) -> None:
    reach = solid.size * (1.9 if solid.kind == "truck" else 1.35)
    x, z = solid.x - 0.5 * solid.size * cosine(light), solid.z - 0.3 * solid.size * sine(light)
    x0, y0 = camera.seen(x, 0.0, z)
    wide = camera.focus * reach / camera.depth(0.0, z)
    high = 0.5 * (camera.seen(x, 0.0, z - reach)[1] - camera.seen(x, 0.0, z + reach)[1])
    box = Box.around(x0 - wide, y0 - high, x0 + wide, y0 + high)
    if not box.empty:
        px, py = box.centres()
        dx, dy = (px - x0) / wide, (py - y0) / high
        edge = clamp(1.0 - (dx * dx + dy * dy))
        canvas.blend(box, 0.6 * edge, (0.02, 0.02, 0.05))


def face(canvas: Canvas, corners: Sequence[Point], colour: Colour | Field, box: Box | None = None) -> None:
    """Fill a convex polygon; `colour` may be a field over `box`, the box of the corners."""
    box = box or Box.of(corners)
    if box.empty:
        return
    x, y = box.samples()
    turned = 1.0 if _area(corners) > 0 else -1.0
    mask = np.ones((y.shape[0], x.shape[1]), dtype=np.bool_)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        across, down = turned * (bx - ax), turned * (by - ay)
        mask &= (y - ay) * across >= (x - ax) * down
    canvas.paint(box, mask, colour)


def _area(corners: Sequence[Point]) -> float:
    """Twice the signed area, positive where the corners go clockwise on the screen."""
    total = 0.0
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        total += ax * by - bx * ay
    return total


def _prism(
    canvas: Canvas,
    camera: Camera,
    base: Sequence[Point],
    low: float,
    high: float,
    colour: Colour,
    light: float,
) -> None:
    """A block over a polygon (x, z), clockwise seen from above; its sides are lit by their direction."""
    lx, lz = cosine(light), sine(light)
    for (ax, az), (bx, bz) in zip(base, [*base[1:], base[0]], strict=True):
        corners = [camera.seen(*at) for at in ((ax, low, az), (bx, low, bz), (bx, high, bz), (ax, high, az))]
        if _area(corners) < 0:
            nx, nz = az - bz, bx - ax
            lit = (nx * lx + nz * lz) / math.sqrt(nx * nx + nz * nz)
            face(canvas, corners, scaled(colour, 0.62 + 0.25 * lit))
    face(canvas, [camera.seen(x, high, z) for x, z in base], scaled(colour, 1.08))


def _oblong(solid: Solid, ahead: float, long: float, wide: float) -> list[Point]:
    """The corners of a rectangle whose middle lies `ahead` of the solid's, turned with it."""
    c, s = cosine(solid.turn), sine(solid.turn)
    corners = ((ahead - long, -wide), (ahead - long, wide), (ahead + long, wide), (ahead + long, -wide))
    return [(solid.x + forth * s + side * c, solid.z + forth * c - side * s) for forth, side in corners]


def _circle(camera: Camera, solid: Solid, radius: float, height: float) -> list[Point]:
    return [camera.seen(solid.x + radius * c, height, solid.z + radius * s) for c, s in _ROUND]


def _hull(points: Sequence[Point]) -> list[Point]:
    """The convex hull (Andrew, 1979)."""
    ordered, hull = sorted(points), list[Point]()
    for part in (ordered, ordered[::-1]):
        start = len(hull)
        for x, y in part:
            while len(hull) >= start + 2:
                (ax, ay), (bx, by) = hull[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                hull.pop()
            hull.append((x, y))
        hull.pop()
    return hull


def _round(canvas: Canvas, corners: Sequence[Point], colour: Colour, light: float) -> None:
    """Fill the outline of something round and upright, darker away from the light."""
    box = Box.of(corners)
    if not box.empty:
        x, _ = box.centres()
        left, right = min(x for x, _ in corners), max(x for x, _ in corners)
        side = 2.0 * (x - left) / (right - left) - 1.0
        shade = 0.78 - 0.2 * sine(light) * (1.0 - side * side) + 0.28 * side * cosine(light)
        face(canvas, corners, np.minimum(between(shade, (0.0, 0.0, 0.0), colour), 1.0), box)


def _ball(canvas: Canvas, camera: Camera, solid: Solid, light: float, height: float | None = None) -> None:
    middle = solid.size if height is None else height
    x0, y0 = camera.seen(solid.x, middle, solid.z)
    radius = camera.focus * solid.size / camera.depth(middle, solid.z)
    box = Box.around(x0 - radius, y0 - radius, x0 + radius, y0 + radius)
    if box.empty:
        return
    x, y = box.samples()
    dx, dy = (x - x0) / radius, (y - y0) / radius
    px, py = box.centres()
    nx, ny = (px - x0) / radius, (py - y0) / radius
    nz = np.sqrt(clamp(1.0 - nx * nx - ny * ny))
    lit = clamp(0.5 * nx * cosine(light) - 0.6 * ny + 0.6 * nz)
    square = lit * lit
    glint = square * square
    glint = glint * glint * 0.5
    shaded = between(0.45 + 0.65 * lit, (0.0, 0.0, 0.0), solid.colour)
    canvas.paint(box, dx * dx + dy * dy <= 1.0, np.minimum(shaded + glint, 1.0))


def _cube(canvas: Canvas, camera: Camera, solid: Solid, light: float) -> None:
    side = 0.85 * solid.size
    _prism(canvas, camera, _oblong(solid, 0.0, side, side), 0.0, 2.0 * side, solid.colour, light)


def _drum(canvas: Canvas, camera: Camera, solid: Solid, light: float) -> None:
    radius, high = 0.85 * solid.size, 1.7 * solid.size
    top = _circle(camera, solid, radius, high)
    _round(canvas, _hull(top + _circle(camera, solid, radius, 0.0)), solid.colour, light)
    face(canvas, top, scaled(solid.colour, 1.1))


def _cone(canvas: Canvas, camera: Camera, solid: Solid, light: float) -> None:
    tip = camera.seen(solid.x, 2.2 * solid.size, solid.z)
    _round(canvas, _hull([tip, *_circle(camera, solid, 0.95 * solid.size, 0.0)]), solid.colour, light)


def _pawn(canvas: Canvas, camera: Camera, solid: Solid, light: float) -> None:
    """A cone with a ball on its tip."""
    _cone(canvas, camera, solid, light)
    head = Solid("ball", solid.x, solid.z, 0.55 * solid.size, solid.colour)
    _ball(canvas, camera, head, light, 2.2 * solid.size)


def _truck(canvas: Canvas, camera: Camera, solid: Solid, light: float) -> None:
    """A light, tall load behind a low cab in the solid's colour; half as wide as long."""
    size, dark = solid.size, (0.1, 0.1, 0.12)
    _prism(canvas, camera, _oblong(solid, 0.0, 1.5 * size, 0.6 * size), 0.0, 0.3 * size, dark, light)
    load = _oblong(solid, -0.45 * size, 1.05 * size, 0.72 * size), 0.3 * size, 1.6 * size, (0.86, 0.86, 0.84)
    cab = _oblong(solid, 1.1 * size, 0.4 * size, 0.66 * size), 0.3 * size, 1.1 * size, solid.colour
    parts = (load, cab) if cosine(solid.turn) < 0 else (cab, load)  # the one that lies further away first
    for base, low, high, colour in parts:
        _prism(canvas, camera, base, low, high, colour, light)


_DRAWN = {"ball": _ball, "cone": _cone, "cube": _cube, "drum": _drum, "pawn": _pawn, "truck": _truck}
