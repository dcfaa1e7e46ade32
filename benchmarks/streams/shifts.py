"""Shifts of a whole table, for domain streams: one label space, inputs that drift.

A shifted table is made once per (content, shift, level) and memory-mapped like any other.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from benchmarks.images import Chunk, Pixels
from benchmarks.stream import Place

Shift = Literal["rotation", "contrast"]

ROTATION = 90.0  # degrees at level 1
CONTRAST = 0.8  # share of the contrast that is gone at level 1
VERSION = 1  # of the arithmetic below: part of a shifted table's fingerprint


def shifted(chunk: Chunk, shift: Shift, level: float, place: Place) -> Chunk:
    """`chunk` under `shift` at `level` in [0, 1]; level 0 is the chunk itself.

    rotation: counter-clockwise by 90 level degrees, bilinear, black corners; contrast: every pixel
    moves towards the image's mean by the share 0.8 level.
    """
    if level == 0:
        return chunk
    rule = f"{chunk.content}:{shift}:{level:.9f}:{VERSION}"
    content = hashlib.sha256(rule.encode()).hexdigest()

    def make(folder: Path) -> None:
        table = np.lib.format.open_memmap(
            folder / "table.npy", mode="w+", dtype=np.uint8, shape=chunk.table.shape
        )
        with place.progress.bar(f"{shift} at {level:.2f}", len(table), "image") as bar:
            for row, image in enumerate(chunk.table):
                table[row] = _rotate(image, level) if shift == "rotation" else _fade(image, level)
                if row % 1000 == 999:
                    bar.advance(1000)
        table.flush()

    folder = place.store.get("shifted", content[:32], make)
    return Chunk(np.load(folder / "table.npy", mmap_mode="r", allow_pickle=False), chunk.rows, content)


def _rotate(image: Pixels, level: float) -> Pixels:
    turned = Image.fromarray(image).rotate(ROTATION * level, resample=Image.Resampling.BILINEAR)
    return np.asarray(turned)


def _fade(image: Pixels, level: float) -> Pixels:
    centre = image.mean()
    return np.rint(centre + (1 - CONTRAST * level) * (image - centre)).clip(0, 255).astype(np.uint8)
