"""Split streams that have names of their own.

All that a preset says is in its stream's identity, so this list is no part of a record's key, and adding a
preset makes no record stale.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A stream that has a name of its own."""

    source: str
    tasks: int
    summary: str
    mirror: bool = True


PRESETS = {
    "split-cifar100": Preset("cifar100", 10, "CIFAR-100, 10 tasks of 10 classes"),
    "split-cifar10": Preset("cifar10", 5, "CIFAR-10, 5 tasks of 2 classes"),
    "split-imagenet-subset": Preset("imagenet-subset", 10, "a subset of ImageNet's classes, 10 tasks"),
    "split-digits": Preset(
        "digits", 5, "scikit-learn's 8x8 digits, 5 tasks of 2 classes; ships with Carryover", mirror=False
    ),
    "split-glyphs": Preset(
        "glyphs", 12, "characters of made-up alphabets, 12 tasks of 12 classes; procedural", mirror=False
    ),
    "split-objects": Preset(
        "objects", 10, "shape x pattern x colour before clutter, 10 tasks of 8 classes; procedural"
    ),
    "split-textures": Preset("textures", 5, "surfaces of any colours, 5 tasks of 6 classes; procedural"),
}
