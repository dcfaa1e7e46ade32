"""What a family of drawn images is. Knows none of them, nor how anything is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.images import Pixels


@dataclass(frozen=True)
class Family:
    """Images of one kind.

    version: raised whenever any pixel changes; class_names: with "/" between the levels of the hierarchy;
    train, test: images of each class, of which the test images are indices 0 to test - 1 and the training
    images those that follow, so that more of them would leave the test as it is.
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
        """Of the images of each class in "train" or "test"."""
        return range(self.test) if split == "test" else range(self.test, self.test + self.train)
