"""Meta-Dataset's records written by hand for the tests: frames, checksums and Examples."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def crc32c(data: bytes) -> int:
    """CRC32C byte by byte, straight from its definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _BYTE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def _eight_bits(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    return byte


_BYTE = [_eight_bits(byte) for byte in range(256)]


def masked(data: bytes) -> bytes:
    """The checksum as it stands in a file."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32)


def frame(payload: bytes) -> bytes:
    """One record of a TFRecord file."""
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def varint(value: int) -> bytes:
    value %= 2**64
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def bytes_feature(*values: bytes) -> bytes:
    return field(1, b"".join(field(1, value) for value in values))


def int_feature(*values: int, packed: bool = True) -> bytes:
    if packed:
        return field(3, field(1, b"".join(varint(value) for value in values)))
    return field(3, b"".join(b"\x08" + varint(value) for value in values))


def example(**features: bytes) -> bytes:
    """A tf.train.Example of encoded features."""
    entries = (field(1, field(1, name.encode()) + field(2, feature)) for name, feature in features.items())
    return field(1, b"".join(entries))


def image_example(image: bytes, label: int) -> bytes:
    """The Example of one encoded image."""
    return example(image=bytes_feature(image), label=int_feature(label))


def jpeg(pixels: NDArray[np.uint8], format: str = "JPEG", **options: int) -> bytes:
    """One image (H, W), (H, W, 3) or (H, W, 4), encoded; a JPEG of quality 95 unless `options` say else."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **({"quality": 95} if format == "JPEG" else {}) | options)
    return buffer.getvalue()


def picture(seed: int, height: int = 12, width: int = 12) -> NDArray[np.uint8]:
    """A smooth image (H, W, 3) that survives JPEG: one gradient per seed."""
    corner = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(corner).resize((width, height), Image.Resampling.BILINEAR))


def write_records(path: Path, images: Sequence[bytes], label: int) -> None:
    """A class file of encoded images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(frame(image_example(image, label)) for image in images))


def index_lines(path: Path) -> list[str]:
    """The lines of the official index of an intact file: offset and length of each whole frame."""
    data, at, lines = path.read_bytes(), 0, []
    while at < len(data):
        length = 16 + struct.unpack_from("<Q", data, at)[0]
        lines.append(f"{at} {length}\n")
        at += length
    return lines
