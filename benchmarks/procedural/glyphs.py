"""Glyphs: characters of made-up alphabets, each image in its own handwriting.

After Omniglot (Lake et al., Science 2015). An image's index stands for its drawer, who
keeps one slant, pen, ink and paper for a whole alphabet; the wobble of each stroke is the image's.
"""

from __future__ import annotations

from benchmarks.images import Pixels
from benchmarks.procedural.alphabets import ALPHABETS, CHARACTERS, characters
from benchmarks.procedural.canvas import WHOLE, Canvas, clouds, slope
from benchmarks.procedural.colours import any_colour
from benchmarks.procedural.exact import Dice, cosine, sine
from benchmarks.procedural.strokes import Nib, Point, Stroke, inked

VERSION = 1
NAMES = tuple(
    f"alphabet{alphabet:02}/character{character:02}"
    for alphabet in range(len(ALPHABETS))
    for character in range(CHARACTERS)
)


def draw(label: int, seed: int, index: int) -> Pixels:
    """The image (64, 64, 3)."""
    alphabet, character = divmod(label, CHARACTERS)
    hand = Dice("glyphs", "drawer", seed, alphabet, index)
    dice = Dice("glyphs", "image", seed, label, index)
    paper, ink = any_colour(hand, (0.72, 0.97), (0.0, 0.06)), any_colour(hand, (0.12, 0.45), (0.0, 0.12))
    if hand.chance(0.25):
        paper, ink = ink, paper
    size, broad = hand.between(34, 46), hand.between(1.3, 2.3)
    style = ALPHABETS[alphabet]
    weight, ratio, turn = style.nib
    broad = broad * weight
    nib = Nib(broad * (0.5 + 0.5 * ratio), broad if ratio == 1.0 else 0.75 * broad, turn + hand.around(0.05))
    slant, lean = hand.around(0.25), hand.around(0.03) + dice.around(0.02)
    wide = size * style.wide * hand.between(0.85, 1.1)
    unsteady = hand.between(0.015, 0.05)
    c, s = cosine(lean), sine(lean)
    x0, y0 = 32 + dice.around(6), 32 + dice.around(6)

    def placed(point: Point) -> Point:
        x = (point[0] - 0.5 + dice.around(unsteady)) * wide
        y = (point[1] - 0.5 + dice.around(unsteady)) * size
        x = x - slant * y
        return x0 + c * x - s * y, y0 + s * x + c * y

    strokes = [
        Stroke(stroke.kind, tuple(placed(point) for point in stroke.points)).flattened()
        for stroke in characters(alphabet)[character]
    ]
    canvas = Canvas(paper)
    canvas.lit(slope(hand, 0.88, 1.08) + (clouds(dice, WHOLE, 12, 3, 0.7) - 0.5) * 0.18)
    canvas.paint(WHOLE, inked(strokes, nib), ink, opacity=hand.between(0.75, 1.0))
    canvas.grained(dice, 0.03)
    return canvas.finished()
