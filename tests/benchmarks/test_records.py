"""Meta-Dataset's records: what was written comes back, and what is damaged is refused by name and offset."""

from __future__ import annotations

import os
import random
import resource
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_files import crc32c, frame, index_lines, masked

from benchmarks.errors import DataError
from benchmarks.store import Store
from benchmarks.tfrecords import RecordFile, index, open_files
from benchmarks.tfrecords.framing import masked_crc32c, walk

PAYLOADS = [b"", b"a", bytes(300), bytes(range(256)) * 5, b"last"]
OFFSETS = [0, 16, 33, 349, 1645, 1665]


def read_all(path: Path, store: Path) -> list[bytes]:
    (file,) = open_files([path], Store(store))
    return list(file.payloads(range(len(file))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "7.tfrecords"
    file.write_bytes(b"".join(map(frame, PAYLOADS)))
    return file


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_the_checksum_is_that_of_rfc_3720(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum
    assert struct.pack("<I", masked_crc32c(data)) == masked(data)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 255, 256, 257, 511, 512, 3000, 32768, 32769, 40000])
def test_the_checksum_is_its_definition_at_any_length(length: int) -> None:
    data = random.Random(length).randbytes(length)
    assert struct.pack("<I", masked_crc32c(data)) == masked(data)


def test_payloads_are_read_in_any_order(path: Path, tmp_path: Path) -> None:
    (file,) = open_files([path], Store(tmp_path / "store"))
    assert file.starts.tolist() == OFFSETS
    assert [file.payload(number) for number in (4, 0, 3, 3)] == [PAYLOADS[n] for n in (4, 0, 3, 3)]
    assert list(file.payloads([2, 1])) == [PAYLOADS[2], PAYLOADS[1]]
    for number in (-1, 5):
        with pytest.raises(IndexError, match="only 5"):
            file.payload(number)


def test_a_file_without_records_has_none(tmp_path: Path) -> None:
    (tmp_path / "0.tfrecords").touch()
    (file,) = open_files([tmp_path / "0.tfrecords"], Store(tmp_path / "store"))
    assert len(file) == 0


@given(at=st.integers(0, OFFSETS[-1] - 1), bit=st.integers(0, 7))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_flipped_bit_is_never_read_over(tmp_path: Path, at: int, bit: int) -> None:
    data = bytearray(b"".join(map(frame, PAYLOADS)))
    data[at] ^= 1 << bit
    path = tmp_path / f"{at}-{bit}.tfrecords"
    path.write_bytes(data)
    start = max(offset for offset in OFFSETS if offset <= at)
    with pytest.raises(DataError, match=rf"{path.name}.*record at offset {start} has a wrong CRC"):
        list(RecordFile(path, walk(path)).payloads(range(len(PAYLOADS))))


@pytest.mark.parametrize(
    ("at", "part"), [(349, "length"), (357, "length"), (361, "payload"), (361 + 1280, "payload")]
)
def test_which_checksum_is_wrong_is_said(path: Path, tmp_path: Path, at: int, part: str) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"the {part} of the record at offset 349 .* copy it again"):
        read_all(path, tmp_path / "store")


@given(end=st.integers(1, OFFSETS[-1] - 1).filter(lambda end: end not in OFFSETS))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_file_cut_within_a_record_is_refused(tmp_path: Path, end: int) -> None:
    path = tmp_path / f"{end}.tfrecords"
    path.write_bytes(b"".join(map(frame, PAYLOADS))[:end])
    start = max(offset for offset in OFFSETS if offset <= end)
    with pytest.raises(DataError, match=rf"{path.name}.* the record at offset {start}\b"):
        walk(path)


def test_a_file_that_shrinks_after_it_was_indexed_is_refused(path: Path, tmp_path: Path) -> None:
    (file,) = open_files([path], Store(tmp_path / "store"))
    os.truncate(path, 1660)
    with pytest.raises(DataError, match=r"7\.tfrecords: the record at offset 1645 is cut off"):
        file.payload(4)
    path.unlink()
    with pytest.raises(DataError, match=r"7\.tfrecords cannot be read"):
        file.payload(0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"9\.tfrecords cannot be read \(No such file"):
        open_files([tmp_path / "9.tfrecords"], Store(tmp_path / "store"))


def test_a_file_is_walked_once_per_store(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[Path] = []
    monkeypatch.setattr(index, "walk", lambda path, most: (walked.append(path), walk(path, most))[1])
    assert read_all(path, tmp_path / "store") == read_all(path, tmp_path / "store") == PAYLOADS
    assert walked == [path]
    path.write_bytes(frame(b"new"))  # a changed file is another file
    assert read_all(path, tmp_path / "store") == [b"new"]
    assert walked == [path, path]
    for damaged in (tmp_path / "store").rglob("*.npy"):
        damaged.write_bytes(b"")
    assert read_all(path, tmp_path / "store") == [b"new"]


def test_an_official_index_spares_the_walk(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.with_suffix(".index").write_text("".join(index_lines(path)))
    monkeypatch.delattr(index, "walk")
    (file,) = open_files([path], Store(tmp_path / "store"))
    assert file.starts.tolist() == OFFSETS
    assert list(file.payloads(range(5))) == PAYLOADS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lines: lines[:-1], "records end at 1645 bytes, the file at 1665"),
        (lambda lines: [*lines, "1665 20\n"], "records end at 1685 bytes, the file at 1665"),
        (lambda lines: [], "records end at 0 bytes"),
        (lambda lines: lines[1:], "line 1 gives offset 16"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 gives offset 16"),
        (lambda lines: ["0 15\n", "15 1650\n"], "line 1 gives a record 15 bytes"),
        (lambda lines: ["0 33\n", *lines[2:]], "the record at offset 0 has 16 bytes, not 33"),
        (lambda lines: ["0 20\n", "20 1645\n"], "the record at offset 0 has 16 bytes, not 20"),
        (lambda lines: [*lines[:3], "349 1300\n", "1649 16\n"], "the record at offset 349 has 1296 bytes"),
        (lambda lines: [*lines[:-1], "1645\n"], 'line 5 is not "offset length"'),
        (lambda lines: ["0 x\n", *lines[1:]], 'line 1 is not "offset length"'),
        (lambda lines: ["-16 16\n", *lines], 'line 1 is not "offset length"'),
        (lambda lines: ["\xb2 16\n", *lines], 'line 1 is not "offset length"'),
    ],
)
def test_an_index_that_does_not_fit_is_refused(path: Path, tmp_path: Path, change, reason: str) -> None:
    path.with_suffix(".index").write_text("".join(change(index_lines(path))))
    with pytest.raises(DataError, match=rf"7\.index does not fit 7\.tfrecords: .*{reason}.*remove it"):
        open_files([path], Store(tmp_path / "store"))


def test_an_index_that_is_wrong_between_the_checked_records_is_noticed_when_read(tmp_path: Path) -> None:
    path = tmp_path / "1.tfrecords"
    path.write_bytes(frame(b"1234") * 100)
    lines = index_lines(path)
    path.with_suffix(".index").write_text("".join([*lines[:7], f"{7 * 20} 40\n", *lines[9:]]))
    (file,) = open_files([path], Store(tmp_path / "store"))
    with pytest.raises(DataError, match=r"offset 140 is not as long as .*1\.index says; remove"):
        file.payload(7)


def test_threads_share_a_file(tmp_path: Path) -> None:
    payloads = [bytes([number]) * (50 + number) for number in range(40)]
    path = tmp_path / "1.tfrecords"
    path.write_bytes(b"".join(map(frame, payloads)))
    (file,) = open_files([path], Store(tmp_path / "store"))
    gate = threading.Barrier(4)

    def read(seed: int) -> bool:
        gate.wait()
        order = np.random.default_rng(seed).permutation(np.tile(np.arange(40), 5))
        return all(file.payload(int(number)) == payloads[number] for number in order)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))


def test_many_files_take_few_descriptors(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.tfrecords" for number in range(300)]
    for number, path in enumerate(paths):
        path.write_bytes(frame(b"%d" % number))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 100), hard))
    try:
        files = open_files(paths, Store(tmp_path / "store"))
        assert [int(file.payload(0)) for file in files] == list(range(300))
        held = [file.payloads([0, 0]) for file in files[:20]]
        assert [int(next(reading)) for reading in held] == list(range(20))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(files[0], RecordFile)
