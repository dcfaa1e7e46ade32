"""Opening a decoded stream again, what hashing images for copies costs, and decoding with two workers."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from measure import Row, interleave, quartiles, rates
from PIL import Image
from workload import Setup

from benchmarks.progress import Silent
from benchmarks.sources import table
from benchmarks.sources.folder import FolderRows
from benchmarks.sources.scan import scan
from benchmarks.store import Store
from benchmarks.stream import Place
from benchmarks.streams.split import SplitStream

OPENED = 60_000
SECONDS = 0.5
_FRESH = count()  # a new store each time, so that everything is decoded


def sources(setup: Setup) -> Iterator[Row]:
    yield _opening(setup)
    folder = photographs(setup.scratch / "larger", 60 if setup.quick else 300)
    yield _hashing(setup, folder)
    yield _workers(setup, folder)


def photographs(folder: Path, images: int, side: int = 256) -> Path:
    """Ten folders of JPEGs of `side` pixels, of which 64 differ."""
    rng = np.random.default_rng(0)
    for number in range(images):
        place = folder / f"class{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        if number < 64:
            coarse = rng.integers(0, 256, (max(side // 8, 1), max(side // 8, 1), 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
            image.save(place / f"{number:05}.jpg", quality=90)
        else:
            first = folder / f"class{number % 64 % 10}" / f"{number % 64:05}.jpg"
            os.link(first, place / f"{number:05}.jpg")
    return folder


def _opening(setup: Setup) -> Row:
    images = OPENED // 10 if setup.quick else OPENED
    folder = photographs(setup.scratch / "many", images, side=16)
    place = Place(Store(setup.scratch / "opened"), Silent())

    def ours() -> None:
        _ = SplitStream(f"split:folder:{folder}", SplitStream.Parameters(), place).info

    def theirs() -> None:
        """What any reader does: one look at each file."""
        for where, _, names in os.walk(folder):
            for name in names:
                os.stat(f"{where}/{name}")

    pairs = interleave(ours, theirs, setup.pairs)
    seconds = statistics.median(pairs.ours)
    low, high = quartiles(pairs.ours)
    return Row(
        name="opening",
        compared=f"a decoded stream of {images:,} images / os.stat of each file",
        unit="s",
        ours=seconds,
        theirs=statistics.median(pairs.theirs),
        bound=f"<= {SECONDS:g} s",
        met=seconds <= SECONDS,
        note=f"quartiles {low:.3f} to {high:.3f} s, {statistics.median(pairs.cpu[0]):.3f} s of CPU time",
        samples={"ours_s": pairs.ours, "theirs_s": pairs.theirs},
    )


def _hashing(setup: Setup, folder: Path) -> Row:
    hashed = table._digest

    def ours() -> None:
        _decode(setup, folder, 1)

    def theirs() -> None:
        table._digest = lambda image: 0
        try:
            _decode(setup, folder, 1)
        finally:
            table._digest = hashed

    images = sum(len(files) for _, _, files in os.walk(folder))
    pairs = interleave(ours, theirs, setup.pairs)
    return rates("hashing", "decoding with / without hashing images", images, pairs, at_least=1 / 1.15)


def _workers(setup: Setup, folder: Path) -> Row:
    images = sum(len(files) for _, _, files in os.walk(folder))
    pairs = interleave(
        lambda: _decode(setup, folder, 2),
        lambda: _decode(setup, folder, 1),
        setup.pairs,
    )
    return rates("workers", "decoding JPEG with two workers / one", images, pairs, at_least=1.7)


def _decode(setup: Setup, folder: Path, workers: int) -> None:
    store = Store(setup.scratch / f"decoded {next(_FRESH)}")
    table.open_table(FolderRows("photographs", scan(str(folder))), store, Silent(), 224, workers)
