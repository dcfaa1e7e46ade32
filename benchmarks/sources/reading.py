"""How the files of a source are read where they leave a choice: parameters of every stream over sources."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import RequestError

DRAWN = "drawn"


@dataclass(frozen=True)
class Reading:
    """
    depth: which level of folders the classes are, from 1, where folders lie within folders
    merge: with depth, whether class folders of one name in several folders are one class
    train_split: parts of the data to train on, joined by "+", e.g. train+extra (train by default)
    test_split: parts to test on, e.g. val, or drawn: a fifth of each class (test by default)
    image_column: the column of images, in parquet files and lists
    label_column: the column of labels, in parquet files and lists
    class_list: a file of class names in their order, one a line, for the sources list:FILE
    bits: significant bits of 16-bit images, e.g. 12
    """

    depth: int | None = None
    merge: bool | None = None
    train_split: str = ""
    test_split: str = ""
    image_column: str = ""
    label_column: str = ""
    class_list: str = ""
    bits: int | None = None

    @property
    def reading(self) -> Reading:
        """These parameters alone, of whatever has them."""
        return Reading(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Reading)})

    def refuse(self, source: str, why: str, *, but: tuple[str, ...] = ()) -> None:
        """RequestError for a parameter that says nothing about this source, so that none is ignored.

        why: what the source is, in words; but: the parameters that it understands.
        """
        for field in dataclasses.fields(Reading):
            value: Any = getattr(self, field.name)
            if field.name not in but and value != field.default:
                raise RequestError(
                    f"{source}: {field.name}={value} does not apply, since {why}; leave it out"
                )

    def check(self, source: str) -> None:
        """RequestError for values out of range."""
        for name, value, low, high in (("depth", self.depth, 1, 20), ("bits", self.bits, 8, 16)):
            if value is not None and not low <= value <= high:
                raise RequestError(f"{source}: {name}={value} lies outside {low} to {high}")
        if self.merge is not None and self.depth is None:
            raise RequestError(f"{source}: merge={str(self.merge).lower()} needs depth, e.g. depth=2; add it")
