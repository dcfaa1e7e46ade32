"""A table is decoded once, to the same bytes whatever happens on the way; a file has one RGB meaning."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from source_files import draw, encode, thirds, write_folder, write_parquet

from benchmarks.errors import RequestError
from benchmarks.images import Labelled
from benchmarks.progress import Silent
from benchmarks.sources import table
from benchmarks.sources.decode import decode
from benchmarks.sources.local import LocalSource
from benchmarks.sources.lookup import open_source
from benchmarks.sources.source import Rows
from benchmarks.store import Store

PIXELS = draw(60)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    monkeypatch.setattr(table, "PIECE_ROWS", 8)
    monkeypatch.setattr(table, "RUN", 3)
    write_parquet(tmp_path / "d/train-00000-of-00002.parquet", PIXELS[:35], thirds(60)[:35])
    write_parquet(tmp_path / "d/train-00001-of-00002.parquet", PIXELS[35:], thirds(60)[35:])
    return LocalSource("d", tmp_path / "d").splits()["train"]


def test_the_table_holds_the_pixels_with_any_number_of_workers(rows: Rows, tmp_path: Path) -> None:
    prints = set()
    for workers in (1, 2, 5):
        data = table.open_table(rows, Store(tmp_path / f"{workers}"), Silent(), workers=workers)
        np.testing.assert_array_equal(data.inputs.pixels(), PIXELS)
        assert isinstance(data.inputs.chunks[0].table, np.memmap)
        prints.add(data.fingerprint)
    assert len(prints) == 1


class Interrupted(Exception):
    """Ctrl-C at a chosen moment."""


class Stopping(Silent):
    """A bar that stops the work after `after` images and notes where it began."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.steps: list[int] = []

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "") -> Iterator[Stopping]:
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.steps.append(amount)
        if sum(self.steps) > self.after:
            raise Interrupted


@pytest.mark.parametrize("after", [0, 9, 30, 59])
def test_an_interrupted_decode_goes_on_and_gives_the_same_bytes(
    rows: Rows, tmp_path: Path, after: int
) -> None:
    whole = table.open_table(rows, Store(tmp_path / "whole"), Silent())
    store = Store(tmp_path / "cut")
    with pytest.raises(Interrupted):
        table.open_table(rows, store, Stopping(after))
    assert not store.entries()
    bar = Stopping(10**9)
    resumed = table.open_table(rows, store, bar)
    assert bar.steps[0] == after // 8 * 8, "whole pieces are not decoded twice"
    assert sum(bar.steps) == 60
    assert resumed.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(resumed.inputs.pixels(), PIXELS)
    assert not list(store.root.glob("*/*.pieces"))


def test_a_killed_decode_goes_on(tmp_path: Path) -> None:
    write_folder(tmp_path / "d", PIXELS, thirds(60))
    code = """
import os, signal, sys
from benchmarks.progress import Silent
from benchmarks.sources import table
from benchmarks.sources.lookup import open_source
from benchmarks.store import Store
table.PIECE_ROWS = 8
write = table.write_atomic
def write_and_die(path, data):
    write(path, data)
    if path.name.startswith("000000024"):
        os.kill(os.getpid(), signal.SIGKILL)
table.write_atomic = write_and_die
from pathlib import Path
open_source("folder:" + sys.argv[1]).load(Store(Path(sys.argv[2])), Silent())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "d"), str(tmp_path / "cache")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    store = Store(tmp_path / "cache")
    assert len(list(store.root.glob("images/*.pieces/*.raw"))) == 4
    data = open_source(f"folder:{tmp_path / 'd'}").load(store, Silent())
    other = open_source(f"folder:{tmp_path / 'd'}").load(Store(tmp_path / "other"), Silent())
    assert data.fingerprint == other.fingerprint


def opened(rows: Rows, store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[Labelled, bool]:
    """The table, and whether it had to be decoded."""
    made = []
    original = table._make
    with monkeypatch.context() as patch:
        patch.setattr(table, "_make", lambda *args: (made.append(True), original(*args)))
        return table.open_table(rows, store, Silent()), bool(made)


def test_a_table_is_decoded_once_and_again_when_its_files_change(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "cache")
    first, decoded = opened(rows, store, monkeypatch)
    assert decoded
    again, decoded = opened(rows, store, monkeypatch)
    assert not decoded
    assert again.fingerprint == first.fingerprint
    file = tmp_path / "d/train-00001-of-00002.parquet"
    date = file.stat().st_mtime_ns
    write_parquet(file, PIXELS[35:][::-1], thirds(60)[35:])
    os.utime(file, ns=(date, date))
    changed, decoded = opened(rows, store, monkeypatch)
    assert decoded, "the date was set back, but the inode tells"
    assert changed.fingerprint != first.fingerprint


def test_a_damaged_entry_is_made_again(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "cache")
    first, _ = opened(rows, store, monkeypatch)
    pixels = store.entries()[0].path / "pixels.npy"
    whole = pixels.read_bytes()
    pixels.unlink()  # `first` keeps its map of the old file
    pixels.write_bytes(whole[:200])
    again, decoded = opened(rows, store, monkeypatch)
    assert decoded
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.inputs.pixels(), PIXELS)


def test_files_that_change_meanwhile_are_noticed(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = table._make

    def make_and_touch(*args: object) -> None:
        original(*args)  # type: ignore[arg-type]
        os.utime(tmp_path / "d/train-00000-of-00002.parquet")

    monkeypatch.setattr(table, "_make", make_and_touch)
    with pytest.raises(RequestError, match="changed while they were decoded"):
        table.open_table(rows, Store(tmp_path / "cache"), Silent())


def test_a_full_disk_is_a_sentence(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table, "write_atomic", full)
    with pytest.raises(RequestError, match=r"the cache in .*No space left.*CARRYOVER_CACHE"):
        table.open_table(rows, Store(tmp_path / "cache"), Silent())


def test_a_cache_that_is_no_folder_is_a_sentence(rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(RequestError, match=r"cache in .* cannot be written .* CARRYOVER_CACHE"):
        table.open_table(rows, Store(tmp_path / "cache"), Silent())


def test_size_squashes_both_sides(tmp_path: Path) -> None:
    for number, side in enumerate((4, 9, 12, 30)):
        image = Image.new("RGB", (side, 2 * side), (10 * number, 200, 3))
        (tmp_path / f"d/{'ab'[number % 2]}").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / f"d/{'ab'[number % 2]}/{number}.png")
    data = open_source(f"folder:{tmp_path / 'd'}").load(Store(tmp_path / "cache"), Silent(), size=7)
    assert data.train.inputs.image_size == (7, 7)
    assert {tuple(image[3, 3]) for image in data.train.inputs.pixels()} <= {
        (10 * n, 200, 3) for n in range(4)
    }
    assert "7x7" in data.rule
    with pytest.raises(RequestError, match="size=0"):
        open_source("digits").load(Store(tmp_path / "cache"), Silent(), size=0)


def saved(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_every_kind_of_image_has_one_rgb_meaning() -> None:
    grey = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    deep = Image.fromarray((grey.astype(np.uint16) << 8) + 77)
    clear = np.dstack([rgb, np.zeros_like(grey)])
    colours = draw(1, 16)[0]
    palette = Image.fromarray(rgb).quantize(256)
    for encoded, expected in (
        (encode(colours), colours),
        (encode(colours, "BMP"), colours),
        (saved(Image.fromarray(colours), "WEBP", lossless=True), colours),
        (encode(grey), rgb),
        (saved(Image.fromarray(grey > 99)), np.where(rgb > 99, 255, 0)),
        (saved(palette), np.asarray(palette.convert("RGB"))),
        (saved(deep), rgb),
        (saved(deep, "TIFF"), rgb),
        (saved(Image.fromarray(clear)), np.full_like(rgb, 255)),
        (saved(Image.fromarray(np.dstack([colours, np.full_like(grey, 255)]))), colours),
        (saved(Image.fromarray(colours).convert("CMYK"), "TIFF"), colours),
    ):
        np.testing.assert_array_equal(decode("image", encoded), expected)


def test_a_photograph_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    upright = decode("image", saved(Image.fromarray(draw(1, 16)[0][:8]), exif=exif))
    np.testing.assert_array_equal(upright, np.rot90(draw(1, 16)[0][:8], -1))


@pytest.mark.parametrize(
    "encoded",
    [b"", b"RIFF", b"text", encode(PIXELS[0])[:-30], encode(draw(1, 40)[0], "JPEG")[:500]],
    ids=["empty", "magic only", "text", "cut PNG", "cut JPEG"],
)
def test_what_cannot_be_decoded_is_named(encoded: bytes) -> None:
    with pytest.raises(
        RequestError, match=r"here, row 3 cannot be decoded as an image .*; replace or remove it"
    ):
        decode("here, row 3", encoded)
    with pytest.raises(RequestError, match="no fixed range"):
        decode("here", saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))
