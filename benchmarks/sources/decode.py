"""One encoded image -> RGB uint8.

The rule, which is part of the key of every table (`RULE`): the first frame; EXIF orientation applied,
as a viewer shows it; transparency laid over white; 16-bit grey keeps the upper 8 of its significant bits (8,
10, 12, 14 or 16, as many as its largest value has unless said; a table has one number for all its images);
grey, palette and CMYK through Pillow's conversion to RGB; then, on request, both sides squashed to `size`
(bicubic, or bilinear on request, antialiased). JPEG is decoded at full resolution first.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from benchmarks.errors import DataError
from benchmarks.images import Pixels

RULE = "rgb-2"

Resample = Literal["bicubic", "bilinear"]
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

# Pillow asks every format it knows in turn; for small images that takes as long as decoding them.
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP"}


_BITS = (8, 10, 12, 14, 16)  # of values in 16-bit images: cameras, microscopes, X-ray


class Undecodable(DataError):
    """An image that is broken, truncated or of a kind without an 8-bit meaning."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} cannot be decoded as an image ({reason}); replace or remove it")
        self.where = where
        self.reason = reason


def decode(
    where: str,
    encoded: bytes | Path,
    size: int | None = None,
    resample: Resample = "bicubic",
    bits: int | None = None,
) -> Pixels:
    """The image as (H, W, 3) uint8; (size, size, 3) with `size`, through the filter `resample`.

    bits: significant bits of 16-bit grey, by its largest value if not given. Undecodable, naming `where`.
    """
    rgb, _ = _decoded(where, encoded, bits)
    return np.asarray(_squashed(rgb, size, resample))


def decode_and_describe(
    where: str,
    encoded: bytes | Path,
    size: int | None = None,
    resample: Resample = "bicubic",
    bits: int | None = None,
) -> tuple[Pixels, int, int]:
    """As `decode`; the significant bits of 16-bit grey (0 for other images); and a digest of 64 bits.

    The digest is of the pixels before they are squashed: equal for one image at whatever size it is used,
    and by chance for one pair in 10^19.
    """
    rgb, used = _decoded(where, encoded, bits)
    digest = hashlib.sha1(rgb.tobytes(), usedforsecurity=False).digest()
    return np.asarray(_squashed(rgb, size, resample)), used, int.from_bytes(digest[:8], "little")


def _squashed(rgb: Image.Image, size: int | None, resample: Resample) -> Image.Image:
    if size is None or rgb.size == (size, size):
        return rgb
    return rgb.resize((size, size), _FILTERS[resample])


def _decoded(where: str, encoded: bytes | Path, bits: int | None) -> tuple[Image.Image, int]:
    """The whole image, and the significant bits of 16-bit grey."""
    try:
        data = encoded if isinstance(encoded, bytes) else encoded.read_bytes()
        if not data:
            raise ValueError("it is empty")
        formats = [name for magic, name in _MAGIC.items() if data.startswith(magic)] or None
        with Image.open(io.BytesIO(data), formats=formats) as image:
            rgb, used = _rgb(ImageOps.exif_transpose(image), bits)
            if _deep_colour(data) and np.asarray(rgb).max(initial=0) < 16:
                raise ValueError(
                    "its 16-bit colours use the lower 12 bits alone; store them over the full range, or in 8 "
                    "bits"
                )
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise what they like on broken bytes, SyntaxError included
        raise Undecodable(where, _reason(error)) from error
    return rgb, used


def _rgb(image: Image.Image, bits: int | None) -> tuple[Image.Image, int]:
    """The image in RGB, and the significant bits of 16-bit grey (0 for other images)."""
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image, 0
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        values = np.asarray(image).astype(np.int64)
        top = int(values.max(initial=0)).bit_length()
        used = bits or next((few for few in _BITS if top <= few), 16)
        if top > used:
            raise ValueError(f"its values need {top} bits, more than bits={used}")
        upper = (values >> (used - 8)).astype(np.uint8)
        return Image.fromarray(upper).convert("RGB"), used
    if image.mode in ("I", "F"):
        raise ValueError(f"{image.mode} pixels have no fixed range; store 8 or 16 bits")
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB"), 0
    return image.convert("RGB"), 0


def _deep_colour(data: bytes) -> bool:
    """Whether this is a PNG of 16-bit colours, of which Pillow keeps the upper 8 bits."""
    return data.startswith(b"\x89PNG") and data[24:25] == b"\x10" and data[25:26] in b"\2\4\6"


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"
    return f"{error}".split("\n")[0] or type(error).__name__
