"""What a family of procedural images is; knows no family, and nothing of how images are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.images import Pixels


@dataclass(frozen=True)
class Family:
    """Images of one kind.

    version: raised whenever any pixel changes; class_names: with "/" between the levels of the hierarchy;
    train, test: images of each class; test images have the indices 0 to test - 1 and training images those
    that follow, so more training images would leave the test set as it is.
    """

    name: str
    version: int
    class_names: tuple[str, ...]
    train: int
    test: int
    drawn: Callable[[int, int, int], Pixels]

    def draw(self, label: int, seed: int, index: int) -> Pixels:
        """The image (64, 64, 3) uint8: the same for the same arguments, whatever was drawn before.

        ValueError for a label that is no class or an index below 0.
        """
        if not 0 <= label < len(self.class_names) or index < 0:
            raise ValueError(f"{self.name} has classes 0 to {len(self.class_names) - 1} and images from 0 on")
        return self.drawn(label, seed, index)

    def indices(self, split: str) -> range:
        """The indices of the images of each class in "train" or "test"."""
        return range(self.test) if split == "test" else range(self.test, self.test + self.train)
