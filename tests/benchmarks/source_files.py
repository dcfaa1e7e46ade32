"""Small data sets on disk for the tests of the sources."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = ("ant", "bee", "cat")


def encode(pixels: NDArray[np.uint8], format: str = "PNG") -> bytes:
    """One image (H, W, 3) or (H, W), encoded."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def draw(count: int, side: int = 6, seed: int = 0) -> NDArray[np.uint8]:
    """`count` random images (N, side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def parquet_bytes(
    images: Sequence[bytes | None],
    labels: Sequence[object],
    names: Sequence[str] | None = NAMES,
    *,
    image_column: str = "image",
    label_column: str = "label",
    row_group: int = 7,
) -> bytes:
    """A parquet file in the Hugging Face layout; without `names` it has no feature metadata."""
    table = pa.table(
        {
            image_column: pa.array([{"bytes": image, "path": "x.png"} for image in images], IMAGE),
            label_column: pa.array(labels),
        }
    )
    if names is not None:
        features = {
            image_column: {"_type": "Image"},
            label_column: {"_type": "ClassLabel", "names": list(names)},
        }
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=row_group)
    return sink.getvalue()


def write_parquet(
    path: Path, pixels: NDArray[np.uint8], labels: Sequence[int], names: Sequence[str] = NAMES
) -> None:
    """The images as a parquet file of PNGs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(parquet_bytes([encode(image) for image in pixels], labels, names))


def write_folder(
    path: Path, pixels: NDArray[np.uint8], labels: Sequence[int], names: Sequence[str] = NAMES
) -> None:
    """The images as CLASS/NNN.png."""
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        file = path / names[label] / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(image))


def thirds(count: int) -> list[int]:
    """Labels 0, .., 0, 1, .., 1, 2, .., 2."""
    return [label * len(NAMES) // count for label in range(count)]
