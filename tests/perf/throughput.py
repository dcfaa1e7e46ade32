"""Rates that nothing bounds: decoding a source, and features of a frozen network."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
from bare import Bare
from measure import Row, interleave, rates
from PIL import Image
from workload import Setup, pictures, terminal

from benchmarks.sources.lookup import open_source
from benchmarks.store import Store
from carryover.commands.screen import shown


def throughput(setup: Setup) -> Iterator[Row]:
    yield _decode(setup)
    yield _extract(setup)


def _decode(setup: Setup) -> Row:
    """A folder of JPEG into a new table, fingerprint and all, against Pillow in one thread."""
    each, classes, side = (20 if setup.quick else 200), 10, 64
    folder, fresh = setup.scratch / "photographs", count()
    rng = np.random.default_rng(0)
    for cls in range(classes):
        (folder / f"class{cls}").mkdir(parents=True)
        for number in range(each):
            coarse = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
            image.save(folder / f"class{cls}" / f"{number:04}.jpeg", quality=90)
    paths = sorted(folder.rglob("*.jpeg"))

    def ours() -> None:
        open_source(f"folder:{folder}").load(Store(setup.scratch / f"tables {next(fresh)}"), shown())

    def theirs() -> np.ndarray:
        return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])

    with terminal():
        pairs = interleave(ours, theirs, setup.pairs)
    compared = f"folder source into the store / Pillow in a list comprehension: JPEG of {side} px"
    return rates("decode", compared, len(paths), pairs)


def _extract(setup: Setup) -> Row:
    """Features into the store against a bare loop that keeps them in memory."""
    data, fresh = pictures(256 if setup.quick else 1024), count()
    backbone, bare = setup.backbone.copy(), Bare(setup.backbone, data, training=False)

    def ours() -> None:
        backbone.store = Store(setup.scratch / f"extracted {next(fresh)}")
        backbone.features(data.inputs, progress=shown())

    with terminal():
        pairs = interleave(ours, lambda: bare.predict(256), setup.pairs, setup.device)
    compared = (
        f"backbone.features into the store / bare no_grad loop: {setup.network(setup.backbone)}, batch 256"
    )
    return rates("features", compared, len(data), pairs)
