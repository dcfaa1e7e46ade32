"""Encoded images -> one memory-mapped uint8 table in the store.

An entry of kind "images" holds `pixels.npy` (N, H, W, 3), `labels.npy` (N,) and `about.json`. Its key
is what the files look like from outside (path, size, times), so opening it again reads no image; the
fingerprint inside is of the decoded pixels and the same wherever the files lie.

A table is decoded piece by piece. Each piece is written whole; an interrupted run continues after the last
piece, and the table has the same bytes as without interruption, with any number of workers.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL

from benchmarks.errors import DataError, RequestError
from benchmarks.images import Chunk, Inputs, Labelled, Pixels
from benchmarks.progress import Progress
from benchmarks.sources.source import Rows
from benchmarks.store import Store, write_atomic

if TYPE_CHECKING:
    from benchmarks.sources.decode import Resample

FORMAT = "table-1"
PIECE_ROWS = 2000
PIECE_BYTES = 64 * 2**20  # a piece is held in memory; large images come in pieces of fewer rows
RUN = 16  # images per hand-over to a worker

_UNWRITABLE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
)


def stamp(paths: Iterable[Path]) -> str:
    """What the files look like from outside: path, size, and times of change of content and of inode.

    The inode's time cannot be set back, so content replaced under an old date is noticed. DataError for a
    missing file, such as a dangling link.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); restore or remove it") from error
        digest.update(os.fsencode(path.absolute()))
        digest.update(f"\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0".encode())
    return digest.hexdigest()


def open_table(
    rows: Rows,
    store: Store,
    progress: Progress,
    size: int | None = None,
    workers: int | None = None,
    resample: Resample = "bicubic",
) -> Labelled:
    """The split as N labelled images, decoded first if the store has no table of it.

    size: as in `Source.load`, through the filter `resample`; workers: decoding threads, by default one per
    core and at most 8. DataError for a damaged image or label, RequestError if the store cannot be written.
    """
    from benchmarks.sources import decode  # Pillow's plugins load only where something is decoded

    if size is not None and size < 1:
        raise RequestError(f"size={size} is no image size; give the side in pixels, for example size=64")
    identity = rows.identity()
    sized = str(size) if resample == "bicubic" else f"{size} {resample}"
    parts = (FORMAT, decode.RULE, PIL.__version__, identity, sized)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def make(folder: Path) -> None:
        pieces = store.workspace("images", key)
        try:
            _make(rows, folder, pieces, size, resample, workers or _cores(), progress)
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


def _load(folder: Path) -> Labelled:
    about = json.loads((folder / "about.json").read_text())
    pixels = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    inputs = Inputs([Chunk(pixels, np.arange(len(pixels)), about["content"])])
    return Labelled(inputs, labels, tuple(about["class_names"]))


def _make(
    rows: Rows,
    folder: Path,
    pieces: Path,
    size: int | None,
    resample: Resample,
    workers: int,
    progress: Progress,
) -> None:
    from benchmarks.sources.decode import decode

    labels, class_names = rows.labels()
    count = len(labels)
    if not count:
        raise DataError(f"{rows.title} holds no images; check that the files are the right ones")
    first, encoded = next(rows.images(0))
    shape = decode(first, encoded, size, resample).shape
    step = min(PIECE_ROWS, max(1, PIECE_BYTES // int(np.prod(shape))))
    paths = [pieces / f"{start:09}.raw" for start in range(0, count, step)]
    done = 0
    while done < len(paths) and paths[done].is_file():
        done += 1

    def put(run: list[tuple[str, bytes | Path]], out: Pixels) -> int:
        for (where, encoded), place in zip(run, out, strict=True):
            image = decode(where, encoded, size, resample)
            if image.shape != shape:
                raise DataError(
                    f"{where} is {image.shape[0]}x{image.shape[1]} pixels, but {first} is "
                    f"{shape[0]}x{shape[1]}; add ?size={min(shape[:2])} to bring all images to one size"
                )
            place[...] = image
        return len(run)

    with progress.bar(f"decode {rows.title}", count, "images") as bar:
        bar.advance(min(done * step, count))
        with ThreadPoolExecutor(workers) as pool:
            images = rows.images(done * step)
            for number in range(done, len(paths)):
                out = np.empty((min(step, count - number * step), *shape), dtype=np.uint8)
                pending: deque[Future[int]] = deque()
                try:
                    for at in range(0, len(out), RUN):
                        run = list(islice(images, min(RUN, len(out) - at)))
                        pending.append(pool.submit(put, run, out[at : at + RUN]))
                        # In order, so that the first bad row is the one that is named; few at a time, as
                        # the encoded images of photographs are larger than what becomes of them.
                        if len(pending) > 2 * workers:
                            bar.advance(pending.popleft().result())
                    while pending:
                        bar.advance(pending.popleft().result())
                finally:
                    for future in pending:
                        future.cancel()
                write_atomic(paths[number], out.tobytes())
    content = _assemble(paths, folder / "pixels.npy", (count, *shape))
    np.save(folder / "labels.npy", labels.astype("<i8"))
    about = {"title": rows.title, "content": content, "class_names": class_names}
    (folder / "about.json").write_text(json.dumps(about))


def _assemble(paths: list[Path], target: Path, shape: tuple[int, ...]) -> str:
    """Join the pieces into one .npy file; returns the fingerprint of shape and pixels."""
    digest = hashlib.sha256(repr(shape).encode())
    with open(target, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for path in paths:
            piece = path.read_bytes()
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _cores() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
