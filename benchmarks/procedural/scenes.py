"""Scenes: solids on a floor, and four questions about them.

After the structured tasks of VTAB (Zhai et al., 2019):

    count        how many solids there are, one to eight
    location     in which of 3 x 3 fields of the floor the pawn stands, among other solids
    orientation  which of eight ways the truck faces, to within 18 degrees
    distance     how far the nearest solid is, in six steps

The answer is drawn first and the scene is made for it, so that every answer is as frequent as any other and
camera, light, floor, colours, kinds and sizes say nothing about it.
"""

from __future__ import annotations

from itertools import pairwise

from benchmarks.images import Pixels
from benchmarks.procedural.canvas import Canvas, slope
from benchmarks.procedural.colours import any_colour
from benchmarks.procedural.exact import Dice
from benchmarks.procedural.solids import Camera, Solid, laid, stood

VERSION = 1
KINDS = ("ball", "cone", "cube", "drum")
NEAR, FAR = 3.9, 11.0  # metres: where solids may stand
ROWS = (3.9, 5.2, 7.2, 10.2)  # metres: the edges of the fields, near to far
STEPS = (3.6, 4.4, 5.3, 6.4, 7.7, 9.2, 11.0)  # metres: the edges of the distances
NAMES = {
    "count": tuple(f"{count}" for count in range(1, 9)),
    "distance": tuple(f"{low} to {high} m" for low, high in pairwise(STEPS)),
    "location": tuple(
        f"{row} {column}" for row in ("near", "middle", "far") for column in ("left", "centre", "right")
    ),
    "orientation": tuple(f"{45 * step} degrees" for step in range(8)),
}


def draw(question: str, label: int, seed: int, index: int) -> Pixels:
    """The image (64, 64, 3) with the answer `label`."""
    dice = Dice("scenes", question, seed, label, index)
    camera = Camera(dice.between(4.7, 5.3), dice.between(0.095, 0.105))
    canvas = Canvas((0.0, 0.0, 0.0))
    laid(canvas, camera, dice)
    stood(canvas, camera, solids(question, label, dice, camera), dice.between(0, 1))
    canvas.lit(slope(dice, dice.between(0.6, 0.95), 1.08))
    canvas.grained(dice, 0.04)
    return canvas.finished()


def solids(question: str, label: int, dice: Dice, camera: Camera) -> list[Solid]:
    """The solids on the floor, such that `label` is the answer; the one asked about comes first."""
    return _MADE[question](dice, camera, label)


def _counted(dice: Dice, camera: Camera, label: int) -> list[Solid]:
    return _crowd(dice, camera, [], label + 1, NEAR, FAR)


def _located(dice: Dice, camera: Camera, label: int) -> list[Solid]:
    row, column = divmod(label, 3)
    edge = 0.12 * (ROWS[row + 1] - ROWS[row])
    z = dice.between(ROWS[row] + edge, ROWS[row + 1] - edge)
    x = _half(camera, z) * (-1.0 + (column + dice.between(0.14, 0.86)) * (2.0 / 3.0))
    pawn = Solid("pawn", x, z, dice.between(0.85, 1.1), any_colour(dice, (0.4, 0.75), (0.05, 0.18)))
    return _crowd(dice, camera, [pawn], dice.whole(0, 2), NEAR, FAR)


def _oriented(dice: Dice, camera: Camera, label: int) -> list[Solid]:
    z = dice.between(4.6, 6.6)
    x = _half(camera, z) * dice.between(-0.45, 0.45)
    turn = label / 8 + dice.between(-0.05, 0.05)
    truck = Solid("truck", x, z, dice.between(0.85, 1.15), any_colour(dice, (0.4, 0.75), (0.05, 0.18)), turn)
    return _crowd(dice, camera, [truck], dice.whole(2, 4), NEAR, FAR)


def _distant(dice: Dice, camera: Camera, label: int) -> list[Solid]:
    low, high = STEPS[label], STEPS[label + 1]
    edge = 0.1 * (high - low)
    first = _solid(dice, camera, low + edge, high - edge)
    return _crowd(dice, camera, [first], dice.whole(0, 4), first.z + 0.2, max(FAR, first.z + 1.5))


_MADE = {"count": _counted, "distance": _distant, "location": _located, "orientation": _oriented}


def _half(camera: Camera, z: float) -> float:
    """Half the width of the floor that is seen at z, less a margin for what stands there."""
    return 0.43 * camera.depth(0.0, z)


def _solid(dice: Dice, camera: Camera, near: float, far: float) -> Solid:
    kind, z = dice.pick(KINDS), dice.between(near, far)
    x = _half(camera, z) * dice.between(-1.0, 1.0)
    colour = any_colour(dice, (0.35, 0.85), (0.03, 0.18))
    return Solid(kind, x, z, dice.between(0.45, 0.75), colour, dice.between(0, 1))


def _crowd(
    dice: Dice, camera: Camera, solids: list[Solid], more: int, near: float, far: float
) -> list[Solid]:
    """`solids` and `more` others that leave each other, as the camera sees them, some room."""
    wanted, room = len(solids) + more, 1.0
    while len(solids) < wanted:
        new = _solid(dice, camera, near, far)
        if all(_apart(camera, new, other) > room for other in solids):
            solids = [*solids, new]
        room = room * 0.98  # where it is too crowded, they come closer
    return solids


def _apart(camera: Camera, a: Solid, b: Solid) -> float:
    """The distance of two solids on the screen, 1 being where they touch."""
    (ax, ay), (bx, by) = (camera.seen(solid.x, solid.size, solid.z) for solid in (a, b))
    first, second = (
        camera.focus * solid.size * (1.7 if solid.kind == "truck" else 1.05) / camera.depth(0.0, solid.z)
        for solid in (a, b)
    )
    reach = first + second  # not sum(), which rounds otherwise from Python 3.12 on
    return ((ax - bx) * (ax - bx) + (ay - by) * (ay - by)) / (reach * reach)
