"""Twelve alphabets of twelve characters: how each alphabet writes, and what its characters are.

A character is a few strokes between the points of its alphabet's lattice, in the unit square with y down.
Within an alphabet no two characters cover nearly the same ground.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.procedural.exact import Dice, Mask
from benchmarks.procedural.strokes import Nib, Point, Stroke, inked

CHARACTERS = 12
TOO_ALIKE = 0.5  # of two characters' common ground, the share that both cover


@dataclass(frozen=True)
class Alphabet:
    """How an alphabet writes.

    lattice: columns and rows of the points that strokes join; kinds: of strokes, the more frequent named
    more often; strokes: how many beside the spine; spine: strokes that every character has; bend: how far
    curves leave the straight line, as a share of its length; steps: the lattice steps (columns, rows) that
    a line may take, all if empty; nib: its weight, its long over its short axis, and its turn; wide: how much
    wider than others; mirrored: whether the right half repeats the left; ringed: whether the first stroke is
    a loop.
    """

    lattice: tuple[int, int]
    kinds: tuple[str, ...]
    strokes: tuple[int, int]
    spine: tuple[Stroke, ...] = ()
    bend: float = 0.4
    steps: tuple[tuple[int, int], ...] = ()
    nib: tuple[float, float, float] = (1.0, 1.0, 0.0)
    wide: float = 1.0
    mirrored: bool = False
    ringed: bool = False


def _line(*points: Point) -> Stroke:
    return Stroke("line", points)


_STRAIGHT = ((0, 1), (0, 2), (1, 0), (2, 0), (0, -1), (0, -2), (-1, 0), (-2, 0))
_SLANTED = ((1, 1), (1, -1), (1, 2), (1, -2), (-1, 1), (-1, -1))
_SHORT = ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0))

ALPHABETS = (
    # a stem with slanted twigs
    Alphabet(
        (3, 5),
        ("line",),
        (2, 3),
        spine=(_line((0.3, 0.0), (0.3, 1.0)),),
        steps=_SLANTED,
        nib=(0.9, 1.0, 0.0),
        wide=0.8,
    ),
    # wide arcs and loops
    Alphabet((3, 3), ("curve", "curve", "loop"), (2, 3), bend=0.8, wide=1.15),
    # everything hangs from a headline, with a broad nib
    Alphabet(
        (3, 4),
        ("line", "curve", "curve"),
        (2, 3),
        spine=(_line((0.0, 0.0), (1.0, 0.0)),),
        bend=0.6,
        nib=(0.9, 2.0, -0.1),
    ),
    # zigzags of straight lines, thin
    Alphabet((3, 3), ("chain",), (1, 2), nib=(0.7, 1.0, 0.0), wide=1.1),
    # two long flourishes with a broad nib
    Alphabet((3, 3), ("curve",), (2, 2), bend=1.3, nib=(0.8, 2.8, 0.125), wide=1.1),
    # upright and level lines, heavy, broad level ones
    Alphabet((3, 3), ("line",), (3, 4), steps=_STRAIGHT, nib=(1.2, 2.4, 0.25), wide=0.95),
    # bowls on a line, and dots
    Alphabet(
        (4, 3),
        ("curve", "curve", "dot", "dot"),
        (3, 4),
        spine=(_line((0.1, 0.75), (0.9, 0.75)),),
        bend=0.7,
        wide=1.2,
    ),
    # left and right alike
    Alphabet((5, 4), ("line", "line", "curve", "loop"), (2, 2), nib=(0.8, 1.0, 0.0), mirrored=True),
    # rings with ticks, heavy
    Alphabet((3, 4), ("loop", "line", "line"), (3, 4), steps=_SHORT, nib=(1.4, 1.0, 0.0), ringed=True),
    # hooks: a straight stroke that ends in a curl, thin
    Alphabet((3, 4), ("hook", "hook", "line"), (2, 3), bend=0.5, nib=(0.7, 1.0, 0.0)),
    # many strokes
    Alphabet((4, 4), ("line",) * 5 + ("dot",), (6, 7), steps=_STRAIGHT + _SLANTED, nib=(0.8, 1.0, 0.0)),
    # a stem in the middle, arms to both sides, narrow
    Alphabet(
        (5, 6),
        ("arm", "arm", "curve"),
        (3, 4),
        spine=(_line((0.5, 0.0), (0.5, 1.0)),),
        bend=0.5,
        nib=(1.1, 1.6, 0.0),
        wide=0.8,
    ),
)


@cache
def characters(alphabet: int) -> tuple[tuple[Stroke, ...], ...]:
    """The characters of an alphabet, the same for every seed."""
    style = ALPHABETS[alphabet]
    found, ground = list[tuple[Stroke, ...]](), list[Mask]()
    attempt = 0
    while len(found) < CHARACTERS:
        strokes = _character(style, Dice("character", alphabet, attempt))
        attempt += 1
        if _thin(strokes):
            continue
        covered = inked(
            [[(6 + 52 * x, 6 + 52 * y) for x, y in stroke.flattened()] for stroke in strokes], Nib(4.5, 4.5)
        )
        if all(_alike(covered, other) < TOO_ALIKE for other in ground):
            found.append(strokes)
            ground.append(covered)
    return tuple(found)


def _thin(strokes: tuple[Stroke, ...]) -> bool:
    """Whether little more than a single line."""
    points = [point for stroke in strokes for point in stroke.flattened()]
    return any(max(axis) - min(axis) < 0.3 for axis in zip(*points, strict=True))


def _alike(a: Mask, b: Mask) -> float:
    return int(np.count_nonzero(a & b)) / int(np.count_nonzero(a | b))


def _character(style: Alphabet, dice: Dice) -> tuple[Stroke, ...]:
    strokes, wanted = list(style.spine), len(style.spine) + dice.whole(*style.strokes)
    while len(strokes) < wanted:
        kind = "loop" if not strokes and style.ringed else dice.pick(style.kinds)
        new = _stroke(style, dice, kind, [joint for stroke in strokes for joint in stroke.joints()])
        if all(set(new.points) != set(other.points) for other in strokes):
            strokes.append(new)
    if style.mirrored:
        strokes += [
            Stroke(stroke.kind, tuple((1.0 - x, y) for x, y in stroke.points)) for stroke in tuple(strokes)
        ]
    return _fitted(strokes)


def _fitted(strokes: list[Stroke]) -> tuple[Stroke, ...]:
    """The strokes scaled to touch the edges of the unit square in at least one direction, and centred."""
    points = [point for stroke in strokes for point in stroke.flattened()]
    (left, right), (top, bottom) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    scale = 1.0 / max(right - left, bottom - top)
    x0, y0 = (left + right) / 2.0, (top + bottom) / 2.0
    return tuple(
        Stroke(stroke.kind, tuple((0.5 + (x - x0) * scale, 0.5 + (y - y0) * scale) for x, y in stroke.points))
        for stroke in strokes
    )


def _stroke(style: Alphabet, dice: Dice, kind: str, joints: list[Point]) -> Stroke:
    columns, rows = style.lattice
    start = _place(style, dice.whole(0, columns - 1), dice.whole(0, rows - 1))
    if kind == "dot":
        return Stroke("dot", (start,))
    if kind == "loop":
        x, y = 0.2 + 0.6 * start[0], 0.2 + 0.6 * start[1]
        wide, high = dice.between(0.13, 0.3), dice.between(0.13, 0.3)
        return Stroke("loop", ((x, y), (x + wide, y), (x, y + high)))
    if kind == "arm":
        side, reach, lift = dice.pick((-1, 1)), dice.pick((0.25, 0.5)), dice.pick((-0.2, 0.0, 0.2))
        y = _place(style, 0, dice.whole(0, rows - 1))[1]
        return Stroke("line", ((0.5, y), (0.5 + side * reach, min(max(y + lift, 0.0), 1.0))))
    if joints and dice.chance(0.85):
        start = dice.pick(joints)
    end = _end(style, dice, start, bound=kind in ("line", "chain"))
    if kind == "line":
        return Stroke("line", (start, end))
    if kind == "chain":
        points = [start, end]
        for _ in range(dice.whole(1, 2)):
            points.append(_end(style, dice, points[-1], bound=True))
        return Stroke("line", tuple(points))
    dx, dy = end[0] - start[0], end[1] - start[1]
    if kind == "hook":
        side, curl = dice.pick((-1, 1)), dice.between(0.5, 0.8)
        return Stroke(
            "curve",
            (
                start,
                (start[0] + 1.2 * dx, start[1] + 1.2 * dy),
                (end[0] + 0.4 * dx - side * curl * dy, end[1] + 0.4 * dy + side * curl * dx),
                (start[0] + 0.6 * dx - side * curl * dy, start[1] + 0.6 * dy + side * curl * dx),
            ),
        )
    first = style.bend * dice.pick((-1, 1)) * dice.between(0.8, 1.3)
    second = first * dice.pick((-1.0, 1.0, 1.0)) * dice.between(0.8, 1.3)
    return Stroke(
        "curve",
        (
            start,
            (start[0] + 0.25 * dx - first * dy, start[1] + 0.25 * dy + first * dx),
            (start[0] + 0.75 * dx - second * dy, start[1] + 0.75 * dy + second * dx),
            end,
        ),
    )


def _place(style: Alphabet, column: int, row: int) -> Point:
    columns, rows = style.lattice
    return column / (columns - 1), row / (rows - 1)


def _end(style: Alphabet, dice: Dice, start: Point, bound: bool) -> Point:
    """A lattice point away from `start`; one of the alphabet's steps away if `bound`."""
    columns, rows = style.lattice
    places = [_place(style, column, row) for column in range(columns) for row in range(rows)]
    x0, y0 = start
    far = [(x, y) for x, y in places if (x - x0) * (x - x0) + (y - y0) * (y - y0) > 0.1]
    if bound and style.steps:
        near = [(x0 + across / (columns - 1), y0 + down / (rows - 1)) for across, down in style.steps]
        far = [(x, y) for x, y in near if -0.01 < x < 1.01 and -0.01 < y < 1.01] or far
    return dice.pick(far)
