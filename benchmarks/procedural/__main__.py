"""A contact sheet of the families: `python -m benchmarks.procedural [PATH]`, else docs/procedural.png."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.procedural.families import FAMILIES
from benchmarks.procedural.family import Family

SHOWN, GAP, LABEL, TITLE = 48, 2, 128, 26  # pixels: an image, between two, beside a row, above a family
INSTANCES = 4
COLOURS = 256  # of the sheet, whose grain no lossless format makes small


def main(path: Path) -> None:
    """Draw rows of classes and columns of images, the families in three columns of about one height."""
    glyphs, textures, objects = (FAMILIES[name] for name in ("glyphs", "textures", "objects"))
    columns: list[list[tuple[Family, Sequence[int]]]] = [
        [(textures, range(len(textures.class_names)))],
        [(objects, [5 * n + n // 4 for n in range(16)]), (glyphs, [13 * n for n in range(12)])],
        [
            (family, range(len(family.class_names)))
            for name, family in FAMILIES.items()
            if name.startswith("scenes")
        ],
    ]
    panels = [_stack([_panel(family, classes) for family, classes in column]) for column in columns]
    sheet = Image.new("RGB", (sum(p.width for p in panels), max(p.height for p in panels)), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def _panel(family: Family, classes: Sequence[int]) -> Image.Image:
    """A family's title, and a row for each of `classes`: its name and the first training images."""
    step = SHOWN + GAP
    panel = Image.new("RGB", (LABEL + INSTANCES * step + 4 * GAP, TITLE + len(classes) * step), "white")
    pen = ImageDraw.Draw(panel)
    pen.text((2 * GAP, 7), f"{family.name}, {len(family.class_names)} classes", "black", font_size=14)
    for row, label in enumerate(classes):
        name = family.class_names[label].replace("alphabet", "alph. ").replace("character", "char. ")
        pen.text((2 * GAP, TITLE + row * step + 18), name, "#444", font_size=11)
        for column, index in enumerate(family.indices("train")[:INSTANCES]):
            image = Image.fromarray(family.draw(label, 0, index)).resize((SHOWN, SHOWN), Image.Resampling.BOX)
            panel.paste(image, (LABEL + column * step, TITLE + row * step))
    return panel


def _stack(panels: Sequence[Image.Image]) -> Image.Image:
    """One below the other."""
    stack = Image.new("RGB", (max(p.width for p in panels), sum(p.height for p in panels)), "white")
    top = 0
    for panel in panels:
        stack.paste(panel, (0, top))
        top += panel.height
    return stack


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/procedural.png"))
