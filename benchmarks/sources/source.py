"""What a source is, and how two splits, or one, become train and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Indices, Labelled
from benchmarks.progress import Progress
from benchmarks.seeds import generator
from benchmarks.sources.counts import counted, many
from benchmarks.sources.paths import folder_name
from benchmarks.store import Store

DRAWN_RULE = "test drawn: 20 % of each class, fixed by the class's name"


@dataclass(frozen=True, eq=False)
class SourceData:
    """A data set cut into train and test, both over the same class names, every class in both.

    fingerprint: hash of pixels, labels and class names of both; rule: how they were cut and sized, in words;
    terms: the terms of use of the data, if known; notes: what a reader of a number must know of the files,
    such as what was left out and how many test images are also in train.
    """

    train: Labelled
    test: Labelled
    class_names: tuple[str, ...]
    fingerprint: str
    rule: str
    terms: str = ""
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[tuple[int, int], ...]:
        """(train, test) images of each class."""
        train, test = (
            np.bincount(part.labels, minlength=len(self.class_names)) for part in (self.train, self.test)
        )
        return tuple(zip(train.tolist(), test.tolist(), strict=True))


class Source(Protocol):
    """A data set that can be loaded; opening it costs next to nothing."""

    @property
    def name(self) -> str:
        """What a user types."""
        ...

    def load(self, store: Store, progress: Progress, size: int | None = None) -> SourceData:
        """Train and test, decoded into `store` first if they are not there.

        size: side in pixels to which every image is squashed; None keeps the images as they are, and they
        must then share one size. DataError for missing or damaged data.
        """
        ...


class Rows(Protocol):
    """One split before it is decoded."""

    @property
    def title(self) -> str:
        """Which split of which source, for bars and errors."""
        ...

    def identity(self) -> str:
        """Changes whenever the files do; cheap, and reads none of them."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """How the files were read where that is not plain; stored with the table."""
        ...

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        """Labels (N,) and the class names they index; DataError if a label has no name."""
        ...

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        """From row `start` on: where each image is, for errors, and the encoded image or its file."""
        ...


def pair(
    train: Labelled,
    test: Labelled,
    *,
    title: str,
    rule: str,
    size: int | None,
    terms: str = "",
    notes: tuple[str, ...] = (),
) -> SourceData:
    """The data of two splits; DataError unless classes and image size agree and no class is empty.

    rule: how the two were cut, to which `size` is added; notes: to which images in both and the order of
    classes named by numbers are added.
    """
    if train.class_names != test.class_names:
        missing = [
            f"{split} has no {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
            for split, names in (
                ("test", [name for name in train.class_names if name not in set(test.class_names)]),
                ("train", [name for name in test.class_names if name not in set(train.class_names)]),
            )
            if names
        ]
        differ = "; ".join(missing) or "they come in another order"
        none = not set(train.class_names) & set(test.class_names)
        few_shot = ", or learn them few-shot, which splits by class: episodes:SOURCE" if none else ""
        raise DataError(
            f"{title}: the classes of train and test differ ({differ}); give both the same classes{few_shot}"
        )
    sizes = train.inputs.image_size, test.inputs.image_size
    if sizes[0] != sizes[1]:
        (h, w), (th, tw) = sizes
        raise DataError(
            f"{title}: training images are {h}x{w}, test images {th}x{tw} pixels; "
            f"add ?size={min(h, w)} to bring all to one size"
        )
    for split, part in (("training", train), ("test", test)):
        counts = np.bincount(part.labels, minlength=len(part.class_names))
        empty = [part.class_names[c] for c in np.flatnonzero(counts == 0)]
        if empty:
            named = ", ".join(repr(name) for name in empty[:5]) + (" ..." if len(empty) > 5 else "")
            raise DataError(
                f"{title}: no {split} images of class {named}; add some, or take the class out of the data"
            )
    if size is not None:
        rule += f"; images squashed to {size}x{size} pixels, bicubic"
    digest = hashlib.sha256((train.fingerprint + test.fingerprint).encode())
    called = folder_name(title) or title
    found = (*notes, *_numbered(train.class_names, called), *copies(train, test, title=called))
    return SourceData(train, test, train.class_names, digest.hexdigest(), rule, terms, found)


def copies(train: Labelled, test: Labelled, *, title: str, of: str = "test") -> list[str]:
    """Notes on images that are there more than once: equal pixels, however they were stored.

    of: what `test` is called.
    """
    known, asked = train.inputs.digests, test.inputs.digests
    if known is None or asked is None:
        return []
    said = []
    both = np.flatnonzero(np.isin(asked, known))
    if len(both):
        order = np.argsort(known, kind="stable")
        first = order[np.searchsorted(known[order], asked[both])]
        named = np.array(train.class_names)[train.labels[first]]
        wrong = int((named != np.array(test.class_names)[test.labels[both]]).sum())
        classes = np.bincount(test.labels[both], minlength=len(test.class_names))
        per_class = counted(dict(zip(test.class_names, classes.tolist(), strict=True)))
        said.append(
            f"{title}: {many(len(both), f'{of} image')} of {len(asked):,} are also in train (identical "
            "pixels: "
            f"{per_class})" + (f", {wrong} of them under another label" if wrong else "")
        )
    if again := len(known) - len(np.unique(known)):
        said.append(
            f"{title}: {many(again, 'training image')} of {len(known):,} repeat another one, so that "
            "validation images drawn from train may be trained on as well"
        )
    return said


def _numbered(names: tuple[str, ...], title: str) -> list[str]:
    """A note on classes that are named by numbers and come in the order of words."""
    if not all(name.isdecimal() for name in names) or list(names) == sorted(names, key=int):
        return []
    if list(names) != sorted(names):
        return []
    return [
        f"{title}: classes are named by numbers and ordered as words, as folders are: "
        f"{', '.join(names[:4])}, ..."
    ]


def draw_test(data: Labelled, *, title: str) -> tuple[Labelled, Labelled]:
    """Cut (train, test) from one split: a fifth of each class, at least one image, is test.

    The draw depends on the class's name and its number of images alone, so the same data at another
    path is cut alike. DataError for a class of fewer than two images.
    """
    chosen = []
    for label, name in enumerate(data.class_names):
        rows = np.flatnonzero(data.labels == label)
        if len(rows) < 2:
            raise DataError(
                f"{title}: class {name!r} has {len(rows)} image{'s' * (len(rows) != 1)}, but at least 2 "
                "are needed to draw a test image; add some, or take the class out of the data"
            )
        take = max(1, round(len(rows) / 5))
        chosen.append(rows[generator("test", name).permutation(len(rows))[:take]])
    test = np.sort(np.concatenate(chosen))
    train = np.setdiff1d(np.arange(len(data)), test)
    return data.select(train), data.select(test)
