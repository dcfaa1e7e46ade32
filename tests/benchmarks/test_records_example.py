"""tf.train.Example without tensorflow: what protobuf writes is read, anything else is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_files import bytes_feature, example, field, image_example, int_feature

from benchmarks.tfrecords.example import image_and_label, parse_example


def test_an_example_gives_its_features() -> None:
    payload = example(
        image=bytes_feature(b"x", b"y"),
        label=int_feature(3, -1, 2**40),
        name=bytes_feature(),
        f=field(2, b""),
    )
    assert parse_example(payload) == {"image": (b"x", b"y"), "label": (3, -1, 2**40), "name": ()}
    assert image_and_label(payload) == (b"x", 3)
    assert parse_example(example(label=int_feature(5, 300, packed=False))) == {"label": (5, 300)}
    assert parse_example(b"") == {}


def test_unknown_fields_of_an_example_are_passed_over() -> None:
    extra = b"\x78\x05" + b"\x79" + bytes(8) + b"\x7d" + bytes(4) + field(15, b"?")
    assert parse_example(extra + image_example(b"x", 300) + extra) == {"image": (b"x",), "label": (300,)}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (example(label=int_feature(1)), "no feature 'image' of bytes .it has 'label'"),
        (example(image=bytes_feature(b"x")), "no feature 'label' of integers .it has 'image'"),
        (example(image=bytes_feature(), label=int_feature(1)), "no feature 'image'"),
        (example(image=int_feature(1), label=int_feature(1)), "no feature 'image'"),
        (example(image=bytes_feature(b"x"), label=bytes_feature(b"1")), "no feature 'label'"),
        (b"", "it has none"),
        (field(1, b"x")[:-1], "claims 1 bytes where 0 are left"),
        (b"\x0a" + b"\xff" * 10, "more than 10 bytes"),
        (b"\x0a\xff", "cut off"),
        (b"\x0b", "unknown wire type 3"),
        (b"\x00\x00", "number 0"),
        (b"\x08\x01", "wire type 0"),
        (example(label=b"\x18\x01"), "the list of 'label' has wire type 0"),
        (example(label=field(3, b"\x0d" + bytes(4))), "an integer has wire type 5"),
        (b"\x0d" + bytes(4), "wire type 5 where bytes"),
        (field(1, field(1, field(1, b"\xff"))), "utf-8"),
    ],
)
def test_what_is_no_example_is_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        image_and_label(payload)


@given(data=st.binary(max_size=60), cut=st.integers(0, 40))
@settings(deadline=None)
def test_no_bytes_make_the_parser_fail_otherwise(data: bytes, cut: int) -> None:
    for payload in (data, image_example(b"image", 3)[:cut] + data):
        with contextlib.suppress(ValueError):
            parse_example(payload)


def test_protobuf_agrees() -> None:
    """An Example serialised by protobuf's own code, with the schema stated here."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2", reason="protobuf is missing")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, str | None]) -> None:
        described = file.message_type.add(name=name)
        for field_name, number, kind, of in fields:
            label = 3 if of == "repeated" or (kind == 11 and of == "Entry") else 1
            added = described.field.add(name=field_name, number=number, type=kind, label=label)
            if kind == 11:
                added.type_name = f".t.{of}"

    message("BytesList", ("value", 1, 12, "repeated"))
    message("Int64List", ("value", 1, 3, "repeated"))
    message("Feature", ("bytes_list", 1, 11, "BytesList"), ("int64_list", 3, 11, "Int64List"))
    message("Entry", ("key", 1, 9, None), ("value", 2, 11, "Feature"))
    message("Features", ("feature", 1, 11, "Entry"))
    message("Example", ("features", 1, 11, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))()
    entry = made.features.feature.add(key="image")
    entry.value.bytes_list.value.append(bytes(range(256)))
    entry = made.features.feature.add(key="label")
    entry.value.int64_list.value.extend([-7, 10**12])
    assert parse_example(made.SerializeToString()) == {"image": (bytes(range(256)),), "label": (-7, 10**12)}
