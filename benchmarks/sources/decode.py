"""One encoded image -> RGB uint8.

The rule, which is part of the key of every table (`RULE`): the first frame; EXIF orientation applied,
as a viewer shows it; transparency laid over white; 16-bit grey keeps its upper 8 bits; grey, palette and
CMYK through Pillow's conversion to RGB; then, on request, both sides squashed to `size` (bicubic, or
bilinear on request, antialiased). JPEG is decoded at full resolution first.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from benchmarks.errors import DataError
from benchmarks.images import Pixels

RULE = "rgb-1"

Resample = Literal["bicubic", "bilinear"]
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

# Pillow asks every format it knows in turn; for small images that takes as long as decoding them.
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP"}


def decode(
    where: str, encoded: bytes | Path, size: int | None = None, resample: Resample = "bicubic"
) -> Pixels:
    """The image as (H, W, 3) uint8; (size, size, 3) with `size`, through the filter `resample`.

    DataError, naming `where`, for an image that is broken, truncated or of a kind without an 8-bit meaning.
    """
    try:
        data = encoded if isinstance(encoded, bytes) else encoded.read_bytes()
        formats = [name for magic, name in _MAGIC.items() if data.startswith(magic)] or None
        with Image.open(io.BytesIO(data), formats=formats) as image:
            rgb = _rgb(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise what they like on broken bytes, SyntaxError included
        raise DataError(
            f"{where} cannot be decoded as an image ({_reason(error)}); replace or remove it"
        ) from error
    if size is not None and rgb.size != (size, size):
        rgb = rgb.resize((size, size), _FILTERS[resample])
    return np.asarray(rgb)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        upper = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return Image.fromarray(upper).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"{image.mode} pixels have no fixed range; store 8 or 16 bits")
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"
    return f"{error}".split("\n")[0] or type(error).__name__
