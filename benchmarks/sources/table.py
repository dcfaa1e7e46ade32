"""Encoded images -> one memory-mapped uint8 table in the store.

An entry of kind "images" holds `pixels.npy` (N, H, W, 3), `labels.npy` (N,), `digests.npy` (N,), a hash of
each image's pixels, and `about.json`. Its key is what the files look like from outside (path, size, times),
so opening it again reads no image; the fingerprint inside is of the decoded pixels and the same wherever the
files lie.

A table is decoded piece by piece. Each piece is written whole; an interrupted run continues after the last
piece, and the table has the same bytes as without interruption, with any number of workers. Images that
cannot be decoded are named together.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL
from numpy.typing import NDArray

from benchmarks.errors import DataError, RequestError
from benchmarks.images import Chunk, Digests, Inputs, Labelled, Pixels
from benchmarks.progress import Progress
from benchmarks.sources.source import Rows
from benchmarks.store import Store, write_atomic

if TYPE_CHECKING:
    from benchmarks.sources.decode import Resample

FORMAT = "table-2"
PIECE_ROWS = 2000
PIECE_BYTES = 64 * 2**20  # a piece is held in memory; large images come in pieces of fewer rows
RUN = 16  # images per hand-over to a worker

_UNWRITABLE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
)


NAMED = 20  # broken images that an error names


class BrokenImages(DataError):
    """Images of `title` that cannot be decoded, of `total`: where and why; at most NAMED are named."""

    def __init__(self, title: str, total: int, broken: Sequence[tuple[str, str]]) -> None:
        self.title, self.total, self.broken = title, total, list(broken)
        if len(broken) == 1:
            ((where, reason),) = broken
            super().__init__(f"{where} cannot be decoded as an image ({reason}); replace or remove it")
            return
        named = ", ".join(f"{where} ({reason})" for where, reason in broken[:NAMED])
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        super().__init__(
            f"{len(broken)} of {total} images of {title} cannot be decoded: {named}{more}; replace or remove "
            "them"
        )


@dataclass(frozen=True, eq=False)
class Table:
    """A split, decoded.

    bits: significant bits of its 16-bit grey images, 0 if it has none; notes: what a reader of a number must
    know of how its files were read.
    """

    images: Labelled
    bits: int
    notes: tuple[str, ...]


def stamp(paths: Iterable[str | Path]) -> str:
    """What the files look like from outside: path, size, and times of change of content and of inode.

    The inode's time cannot be set back, so content replaced under an old date is noticed. DataError for
    missing files, such as dangling links.
    """
    digest = hashlib.sha256()
    gone: list[tuple[str, str]] = []
    for path in map(str, paths):
        try:
            stat = os.stat(path)
        except OSError as error:
            gone.append((path, error.strerror or type(error).__name__))
            continue
        whole = path if path.startswith("/") else os.path.abspath(path)
        seen = f"\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0"
        digest.update((whole + seen).encode("utf-8", "surrogateescape"))
    if len(gone) == 1:
        ((lost, why),) = gone
        raise DataError(f"{lost} cannot be read ({why}); restore or remove it")
    if gone:
        named = ", ".join(f"{path} ({why})" for path, why in gone[:NAMED])
        more = f" and {len(gone) - NAMED} more" if len(gone) > NAMED else ""
        raise DataError(f"{len(gone)} files cannot be read: {named}{more}; restore or remove them")
    return digest.hexdigest()


def open_table(
    rows: Rows,
    store: Store,
    progress: Progress,
    size: int | None = None,
    workers: int | None = None,
    resample: Resample = "bicubic",
) -> Labelled:
    """The split as N labelled images; see `open_rows`."""
    return open_rows(rows, store, progress, size, workers, resample).images


def open_rows(
    rows: Rows,
    store: Store,
    progress: Progress,
    size: int | None = None,
    workers: int | None = None,
    resample: Resample = "bicubic",
    bits: int | None = None,
) -> Table:
    """The split as a table, decoded first if the store has none of it.

    size: as in `Source.load`, through the filter `resample`; workers: decoding threads, by default one per
    core and at most 8; bits: as in `decode`. BrokenImages for damaged images, DataError for a bad label,
    RequestError if the store cannot be written.
    """
    from benchmarks.sources import decode  # Pillow's plugins load only where something is decoded

    if size is not None and size < 1:
        raise RequestError(f"size={size} is no image size; give the side in pixels, for example size=64")
    identity = rows.identity()
    sized = str(size) if resample == "bicubic" else f"{size} {resample}"
    parts = (FORMAT, decode.RULE, PIL.__version__, identity, sized, *([f"{bits} bits"] if bits else ()))
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def make(folder: Path) -> None:
        pieces = store.workspace("images", key)
        try:
            _make(rows, folder, pieces, size, resample, bits, workers or _cores(), progress)
            if rows.identity() != identity:
                raise DataError(f"the files of {rows.title} changed while they were decoded; run again")
        except DataError:
            shutil.rmtree(pieces)  # the files have to change, and with them the key
            raise
        shutil.rmtree(pieces)

    try:
        folder = store.get("images", key, make)
        try:
            return _load(folder)
        except (OSError, ValueError, KeyError):  # damaged, or evicted by another process just now
            shutil.rmtree(folder, ignore_errors=True)
            return _load(store.get("images", key, make))
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise RequestError(
            f"the cache in {store.root} cannot be written ({error.strerror}); make room there, "
            "or point CARRYOVER_CACHE at another folder"
        ) from error


def _load(folder: Path) -> Table:
    about = json.loads((folder / "about.json").read_text())
    pixels = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    digests = np.load(folder / "digests.npy", allow_pickle=False)
    inputs = Inputs([Chunk(pixels, np.arange(len(pixels)), about["content"], digests)])
    return Table(Labelled(inputs, labels, tuple(about["class_names"])), about["bits"], tuple(about["notes"]))


def _make(
    rows: Rows,
    folder: Path,
    pieces: Path,
    size: int | None,
    resample: Resample,
    bits: int | None,
    workers: int,
    progress: Progress,
) -> None:
    from benchmarks.sources.decode import Undecodable, decode_and_describe

    labels, class_names = rows.labels()
    count = len(labels)
    if not count:
        raise DataError(f"{rows.title} holds no images; check that the files are the right ones")
    broken: dict[int, tuple[str, str]] = {}
    first, shape = _first(rows, size, resample, bits)
    step = min(PIECE_ROWS, max(1, PIECE_BYTES // int(np.prod(shape))))
    paths = [pieces / f"{start:09}.raw" for start in range(0, count, step)]
    done = 0
    while done < len(paths) and paths[done].is_file():
        done += 1

    def put(run: list[tuple[str, bytes | Path]], row: int, piece: _Piece, at: int) -> int:
        """Decode a run of images from row `row` on into `piece` from `at` on."""
        for place, (where, encoded) in enumerate(run, at):
            try:
                image, depth, digest = decode_and_describe(where, encoded, size, resample, bits)
            except Undecodable as error:
                broken[row + place - at] = error.where, error.reason
                continue
            if image.shape != shape:
                raise DataError(
                    f"{where} is {image.shape[0]}x{image.shape[1]} pixels, but {first} is "
                    f"{shape[0]}x{shape[1]}; add ?size={min(shape[:2])} to bring all images to one size"
                )
            piece.pixels[place] = image
            piece.digests[place] = digest
            piece.bits[place] = depth
        return len(run)

    with progress.bar(f"decode {rows.title}", count, "images") as bar:
        bar.advance(min(done * step, count))
        with ThreadPoolExecutor(workers) as pool:
            images = rows.images(done * step)
            for number in range(done, len(paths)):
                start = number * step
                piece = _Piece.empty(min(step, count - start), shape)
                pending: deque[Future[int]] = deque()
                try:
                    for at in range(0, len(piece.bits), RUN):
                        run = list(islice(images, min(RUN, len(piece.bits) - at)))
                        pending.append(pool.submit(put, run, start + at, piece, at))
                        # Few at a time, as the encoded images of photographs are larger than what becomes of
                        # them.
                        if len(pending) > 2 * workers:
                            bar.advance(pending.popleft().result())
                    while pending:
                        bar.advance(pending.popleft().result())
                finally:
                    for future in pending:
                        future.cancel()
                if not broken:  # what follows is decoded only to name all that is broken
                    write_atomic(paths[number], piece.bytes())
    if broken:
        raise BrokenImages(rows.title, count, [broken[row] for row in sorted(broken)])
    content, digests, depths = _assemble(paths, folder / "pixels.npy", (count, *shape))
    np.save(folder / "labels.npy", labels.astype("<i8"))
    np.save(folder / "digests.npy", digests)
    about = {
        "title": rows.title,
        "content": content,
        "class_names": class_names,
        "bits": _one_depth(rows, depths),
        "notes": list(rows.notes),
    }
    (folder / "about.json").write_text(json.dumps(about))


def _first(
    rows: Rows, size: int | None, resample: Resample, bits: int | None
) -> tuple[str, tuple[int, int, int]]:
    """Where the first image that can be decoded is, and its shape."""
    from benchmarks.sources.decode import Undecodable, decode

    if size is not None:
        return rows.title, (size, size, 3)
    broken: list[tuple[str, str]] = []
    for where, encoded in rows.images(0):
        try:
            height, width, channels = decode(where, encoded, bits=bits).shape
        except Undecodable as error:
            broken.append((error.where, error.reason))
            continue
        return where, (height, width, channels)
    raise BrokenImages(rows.title, len(broken), broken)


def _one_depth(rows: Rows, depths: NDArray[np.uint8]) -> int:
    """The significant bits of the 16-bit images, 0 without any; DataError if they differ."""
    found = [int(depth) for depth in np.unique(depths) if depth]
    if len(found) > 1:
        examples = {int(np.flatnonzero(depths == depth)[0]): depth for depth in found}
        named = ", ".join(
            f"{depth} bits in {next(iter(rows.images(row)))[0]}" for row, depth in examples.items()
        )
        raise DataError(
            f"{rows.title} has 16-bit images whose values need {named}: which range is black to white cannot "
            f"be told; add bits={found[-1]}, or bits=16 for the full range"
        )
    return found[0] if found else 0


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some rows of a table: pixels (n, H, W, 3), digests (n,), bits (n,)."""

    pixels: Pixels
    digests: Digests
    bits: NDArray[np.uint8]

    @staticmethod
    def empty(count: int, shape: tuple[int, ...]) -> _Piece:
        return _Piece(np.zeros((count, *shape), np.uint8), np.zeros(count, "<u8"), np.zeros(count, np.uint8))

    def bytes(self) -> bytes:
        return self.pixels.tobytes() + self.digests.tobytes() + self.bits.tobytes()


def _assemble(
    paths: list[Path], target: Path, shape: tuple[int, ...]
) -> tuple[str, Digests, NDArray[np.uint8]]:
    """Join the pieces into one .npy file; the fingerprint of shape and pixels, digests and bits of rows."""
    digest = hashlib.sha256(repr(shape).encode())
    digests, bits, each = [], [], int(np.prod(shape[1:]))
    with open(target, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for path in paths:
            piece = path.read_bytes()
            count = len(piece) // (each + 9)
            pixels = memoryview(piece)[: count * each]
            digest.update(pixels)
            file.write(pixels)
            digests.append(np.frombuffer(piece, "<u8", count, count * each))
            bits.append(np.frombuffer(piece, np.uint8, count, count * (each + 8)))
    return digest.hexdigest(), np.concatenate(digests), np.concatenate(bits)


def _cores() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
