"""The families by name: their classes, how many images are drawn of each, and the function that draws one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.procedural import glyphs, objects, scenes, textures
from benchmarks.procedural.family import Family


def _scenes() -> Iterator[Family]:
    for question, names in scenes.NAMES.items():
        yield Family(f"scenes-{question}", scenes.VERSION, names, 150, 50, partial(scenes.draw, question))


FAMILIES = {
    family.name: family
    for family in (
        Family("glyphs", glyphs.VERSION, glyphs.NAMES, 40, 10, glyphs.draw),
        Family("textures", textures.VERSION, textures.NAMES, 100, 40, textures.draw),
        Family("objects", objects.VERSION, objects.NAMES, 100, 40, objects.draw),
        *_scenes(),
    )
}
