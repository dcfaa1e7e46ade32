"""CRC32C (Castagnoli; RFC 3720, appendix B.4) in NumPy, and the mask under which TFRecords store it.

A CRC is linear over GF(2): the checksum of a block is the XOR of what each byte contributes at its
position. One table row per position makes a block one gather and one XOR over its bytes, and only the
step from block to block is a loop. That is some hundred times as fast as a loop over the bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # reflected
_BLOCK = 256  # bytes; its table takes 256 KiB, which stays in a core's cache
_BATCH = 128 * _BLOCK  # bytes gathered at once, for the same reason
_ONES = 0xFFFFFFFF


def _tables() -> NDArray[np.uint32]:
    """(_BLOCK, 256): what a byte value at each position of a block adds to the block's CRC."""
    last = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = (last >> np.uint32(1)) ^ np.where(last & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    table = np.empty((_BLOCK, 256), dtype=np.uint32)
    table[-1] = last
    for position in range(_BLOCK - 2, -1, -1):  # one byte earlier is one zero byte more behind it
        after = table[position + 1]
        table[position] = (after >> np.uint32(8)) ^ last[after & 255]
    return table


_TABLE = _tables()
_BYTE: list[int] = _TABLE[-1].tolist()
_SHIFT: list[list[int]] = _TABLE[:4].tolist()  # a CRC behind which a whole block follows, byte by byte
_ROW = np.arange(_BLOCK, dtype=np.intp) * 256


def crc32c(data: bytes) -> int:
    """The checksum of `data`, in [0, 2^32)."""
    if len(data) < 64:
        state = _ONES
        for byte in data:
            state = _BYTE[(state ^ byte) & 255] ^ (state >> 8)
        return state ^ _ONES
    # Zeros in front change nothing if the start value, all ones, is laid over the first four bytes instead.
    pad = -len(data) % _BLOCK
    padded = np.zeros(pad + len(data), dtype=np.uint8)
    padded[pad:] = np.frombuffer(data, dtype=np.uint8)
    padded[pad : pad + 4] ^= 255
    flat = _TABLE.reshape(-1)
    s0, s1, s2, s3 = _SHIFT
    state = 0
    for start in range(0, len(padded), _BATCH):
        blocks = padded[start : start + _BATCH].reshape(-1, _BLOCK)
        parts: list[int] = np.bitwise_xor.reduce(flat.take(_ROW + blocks), axis=1).tolist()
        for part in parts:
            state = s0[state & 255] ^ s1[state >> 8 & 255] ^ s2[state >> 16 & 255] ^ s3[state >> 24] ^ part
    return state ^ _ONES


def masked_crc32c(data: bytes) -> int:
    """The checksum as TFRecords store it: rotated right by 15 bits, plus a constant, modulo 2^32."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _ONES
