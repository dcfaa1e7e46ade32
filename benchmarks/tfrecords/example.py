"""tf.train.Example, the protocol buffer in a record: named lists of bytes or of integers.

Example { Features features = 1 }; Features { map<string, Feature> feature = 1 }; a map entry is
{ key = 1, value = 2 }; Feature { BytesList bytes_list = 1 | FloatList float_list = 2 | Int64List
int64_list = 3 }; each list { repeated value = 1 }, integers packed or not. Unknown fields are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

Feature = tuple[bytes, ...] | tuple[int, ...]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def parse_example(payload: bytes) -> dict[str, Feature]:
    """The features by name, without lists of floats; ValueError for bytes that are no Example."""
    found: dict[str, Feature] = {}
    for features in _messages(memoryview(payload), 1):
        for entry in _messages(features, 1):
            key = b"".join(list(_messages(entry, 1))[-1:]).decode()  # of a repeated field the last one counts
            for feature in _messages(entry, 2):
                for field, kind, value in _fields(feature):
                    if field == 1 and isinstance(value, memoryview):
                        found[key] = tuple(bytes(item) for item in _messages(value, 1))
                    elif field == 3 and isinstance(value, memoryview):
                        found[key] = tuple(_integers(value))
                    elif field in (1, 3):
                        raise ValueError(f"the list of {key!r} has wire type {kind}")
    return found


def image_and_label(payload: bytes) -> tuple[bytes, int]:
    """The encoded image and the class number; ValueError says which of the two is missing or malformed."""
    features = parse_example(payload)
    image, label = features.get("image"), features.get("label")
    there = f"it has {', '.join(map(repr, features)) or 'none'}"
    if not image or not isinstance(image[0], bytes):
        raise ValueError(f"there is no feature 'image' of bytes ({there})")
    if not label or not isinstance(label[0], int):
        raise ValueError(f"there is no feature 'label' of integers ({there})")
    return image[0], label[0]


def _messages(data: memoryview, number: int) -> Iterator[memoryview]:
    """Every occurrence of the length-delimited field `number`."""
    for field, kind, value in _fields(data):
        if field == number:
            if not isinstance(value, memoryview):
                raise ValueError(f"field {field} has wire type {kind} where bytes are expected")
            yield value


def _integers(data: memoryview) -> Iterator[int]:
    for field, kind, value in _fields(data):
        if field != 1:
            continue
        if isinstance(value, int) and kind == _VARINT:
            yield _signed(value)
        elif isinstance(value, memoryview):
            at = 0
            while at < len(value):
                item, at = _varint(value, at)
                yield _signed(item)
        else:
            raise ValueError(f"an integer has wire type {kind}")


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(field number, wire type, value) of each field; a view for length-delimited ones, else an int."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, kind = tag >> 3, tag & 7
        if field == 0:
            raise ValueError("a field has number 0")
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield field, kind, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"field {field} has the unknown wire type {kind}")
        if length > len(data) - at:
            raise ValueError(f"field {field} claims {length} bytes where {len(data) - at} are left")
        content = data[at : at + length]
        yield field, kind, content if kind == _BYTES else int.from_bytes(content, "little")
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(data):
            raise ValueError("a number is cut off")
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value & (2**64 - 1), at + place + 1
    raise ValueError("a number has more than 10 bytes")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
