"""scikit-learn's digits: 1,797 grey images of 8x8 pixels that ship with the package.

Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998); its values 0..16 become 0..255.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.images import Indices
from benchmarks.progress import Progress
from benchmarks.sources.source import DRAWN_RULE, SourceData, draw_test, pair
from benchmarks.store import Store

TERMS = "CC BY 4.0 (UCI Machine Learning Repository)"


class _Rows:
    title = "digits"
    notes: tuple[str, ...] = ()

    def identity(self) -> str:
        return "sklearn.datasets.load_digits, lossless, 255/16"  # the data has not changed since 2010

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        from sklearn.datasets import load_digits

        return load_digits().target.astype(np.int64), tuple("0123456789")

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        """As PNG, so that digits are decoded like every other image."""
        from PIL import Image
        from sklearn.datasets import load_digits

        grey = np.round(load_digits().images[start:] * (255 / 16)).astype(np.uint8)
        for row, image in enumerate(grey, start):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            yield f"digits, row {row}", buffer.getvalue()


class Digits:
    """The source `digits`."""

    name = "digits"

    def load(self, store: Store, progress: Progress, size: int | None = None) -> SourceData:
        from benchmarks.sources.table import open_table

        train, test = draw_test(open_table(_Rows(), store, progress, size), title=self.name)
        return pair(train, test, title=self.name, rule=DRAWN_RULE, size=size, terms=TERMS)
