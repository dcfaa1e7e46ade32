"""How images reach the network, as named presets; part of a stream's rule."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Transforms:
    """mirror: whether training may flip images; words: all that is done to an image, `{size}` in it."""

    mirror: bool
    words: str

    def describe(self, size: int) -> str:
        return self.words.format(size=size)


# Published results differ by points through this alone, so a record must say it.
TRANSFORMS = {
    "vtab": Transforms(
        mirror=False,
        words="images squashed to {size}x{size} pixels without keeping their aspect (bicubic, antialiased), "
        "no augmentation, the model's own normalisation",
    ),
}
