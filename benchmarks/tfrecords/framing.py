"""The frame around one record of a TFRecord file.

u64 length, u32 masked CRC32C of the length, payload, u32 masked CRC32C of the payload, all
little-endian; records follow each other without a gap from the first byte of the file to the last.
CRC32C is Castagnoli's (RFC 3720, appendix B.4).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import DataError
from benchmarks.images import Indices

Checksums = NDArray[np.uint32]

FRAME = 16  # bytes of a frame beside its payload
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")

DAMAGED = "the file is damaged: copy it again or convert its source again"


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, int]]:
    """(descriptor, size in bytes) of the file, open within the block; DataError if it cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); restore the file") from error
    try:
        yield descriptor, os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def walk(path: Path, most: int | None = None) -> Indices:
    """The offsets of n records, then the end of the last: (n + 1,) bytes, found frame by frame.

    most: how many records to find, all by default. Reads no payload. DataError, with file and offset, for a
    wrong CRC of a length and for a record cut off.
    """
    starts = [0]
    with opened(path) as (descriptor, size):
        while starts[-1] < size and (most is None or len(starts) <= most):
            starts.append(starts[-1] + FRAME + payload_length(descriptor, path, starts[-1], size))
    return np.array(starts, dtype=np.int64)


def stored_checksums(path: Path, starts: Indices) -> Checksums:
    """(n,) the masked CRC32C that the file has behind each payload; starts: as from `walk`.

    Whether a payload matches its own shows only when it is read. DataError if the file ends too early.
    """
    with opened(path) as (descriptor, _):
        stored = b"".join(
            os.pread(descriptor, _FOOTER.size, end - _FOOTER.size) for end in starts[1:].tolist()
        )
    if len(stored) < _FOOTER.size * (len(starts) - 1):
        raise DataError(f"{path} was cut off while it was read; {DAMAGED}")
    return np.frombuffer(stored, dtype="<u4")


def payload_length(descriptor: int, path: Path, start: int, size: int) -> int:
    """Bytes of the payload in the frame at `start` of a file of `size` bytes; errors as in `walk`."""
    header = os.pread(descriptor, _HEADER.size, start)
    if len(header) < _HEADER.size:
        raise DataError(
            f"{path} ends within the frame of the record at offset {start} (at {size} bytes); {DAMAGED}"
        )
    length, crc = _HEADER.unpack(header)
    if crc != masked_crc32c(header[:8]):
        raise DataError(f"{path}: the length of the record at offset {start} has a wrong CRC; {DAMAGED}")
    if start + FRAME + length > size:
        raise DataError(
            f"{path}: the record at offset {start} is cut off: {length + FRAME} bytes long, "
            f"but {size - start} are left; {DAMAGED}"
        )
    return int(length)


def read_payload(descriptor: int, path: Path, start: int, length: int) -> bytes:
    """The payload of `length` bytes in the frame at `start`; DataError for a wrong CRC or an early end."""
    data = os.pread(descriptor, length + _FOOTER.size, start + _HEADER.size)
    if len(data) < length + _FOOTER.size:
        raise DataError(f"{path}: the record at offset {start} is cut off; {DAMAGED}")
    (crc,) = _FOOTER.unpack(data[length:])
    payload = data[:length]
    if crc != masked_crc32c(payload):
        raise DataError(f"{path}: the payload of the record at offset {start} has a wrong CRC; {DAMAGED}")
    return payload


def masked_crc32c(data: bytes) -> int:
    """The CRC32C as TFRecords store it: rotated right by 15 bits, plus a constant, modulo 2^32."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
