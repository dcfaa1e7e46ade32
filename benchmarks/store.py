"""A content-addressed store on disk: atomic, locked, limited in size.

`Store` holds what can be made again: decoded tables, cached features, measurements of the machine.
An entry is a folder `<root>/<kind>/<key>`, whole or absent. `write_atomic` writes every file of Carryover
that must not be lost or half-written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs

from benchmarks.errors import RequestError

DEFAULT_LIMIT = 50 * 2**30  # bytes; CARRYOVER_CACHE_LIMIT (GiB) changes it
ABANDONED = 7 * 24 * 3600  # seconds
GONE = ".gone"  # ends the name of an entry that is being removed


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a crash at any moment, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk shows where only a descriptor is known
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path`; wait if another process holds it, and tell `waiting` so once.

    The lock is the operating system's, so it ends with the process that holds it, however that ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if waiting is not None:
            waiting(f"another process is at work on {path.stem}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` unless another process does; yields whether it is held, and never waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@dataclass(frozen=True)
class Entry:
    """One entry of the store, for showing: size in bytes, last use in seconds since the epoch."""

    kind: str
    key: str
    path: Path
    bytes: int
    used: float


class Store:
    """Entries under `root`; beyond `limit` bytes, the least recently used are removed."""

    def __init__(
        self, root: Path, limit: int = DEFAULT_LIMIT, waiting: Callable[[str], None] | None = None
    ) -> None:
        """waiting: called with a message while another process is making the wanted entry."""
        self.root = root
        self.limit = limit
        self.waiting = waiting

    @classmethod
    def default(cls) -> Store:
        """The user's cache: $CARRYOVER_CACHE or the platform's cache folder."""
        root = os.environ.get("CARRYOVER_CACHE") or platformdirs.user_cache_path("carryover")
        size = os.environ.get("CARRYOVER_CACHE_LIMIT")
        try:
            limit = int(float(size) * 2**30) if size else DEFAULT_LIMIT
        except ValueError:
            raise RequestError(
                f"CARRYOVER_CACHE_LIMIT={size!r} is no number of GiB; write one, for example 50"
            ) from None
        return cls(Path(root), limit)

    def get(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """The folder of an entry, made by `make(folder)` first if it is missing.

        `make` fills a temporary folder that is renamed when it returns; if it raises, nothing is left.
        Two processes that want one entry: the second waits and finds it made. A process that uses an
        entry while another evicts it keeps reading the files it has open or mapped.
        """
        final = self.root / kind / key
        if self._touch(final):
            return final
        with locked(self.root / kind / f"{key}.lock", self.waiting):
            if self._touch(final):
                return final
            partial = self.root / kind / f"{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed process; the lock is ours
            partial.mkdir(parents=True)
            try:
                make(partial)
                for path in partial.rglob("*"):
                    _sync(path)
                os.replace(partial, final)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            sync_folder(final.parent)
        self.prune(keep=final)
        return final

    def workspace(self, kind: str, key: str) -> Path:
        """A folder that survives an interruption, to make a long entry in resumable pieces.

        The maker removes it when the entry is done. Take it only inside `get`'s `make`, which holds the lock.
        """
        folder = self.root / kind / f"{key}.pieces"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def entries(self) -> list[Entry]:
        """What is stored, most recently used first."""
        found = []
        for path in self.root.glob("*/*"):
            if path.is_dir() and path.suffix not in (".partial", ".pieces", GONE):
                try:
                    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                    found.append(Entry(path.parent.name, path.name, path, size, path.stat().st_mtime))
                except FileNotFoundError:  # another process has just evicted it
                    continue
        return sorted(found, key=lambda entry: -entry.used)

    def prune(self, keep: Path | None = None, limit: int | None = None) -> int:
        """Remove the least recently used entries beyond `limit` bytes (the store's own by default).

        Returns the bytes freed; `keep` stays. An entry that another process is still making does not count.
        Also removes the pieces of interrupted entries that nobody has resumed for a week.
        """
        for pieces in self.root.glob("*/*.pieces"):
            if pieces.stat().st_mtime < time.time() - ABANDONED:
                shutil.rmtree(pieces, ignore_errors=True)
        for gone in self.root.glob(f"*/*{GONE}"):  # whoever was at it may have been killed
            shutil.rmtree(gone, ignore_errors=True)
        allowed = self.limit if limit is None else limit
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        freed = 0
        for entry in reversed(entries):
            if total - freed <= allowed:
                break
            if entry.path != keep:
                # At once, so that nobody finds half of it.
                gone = entry.path.with_name(f"{entry.key}.{os.getpid()}{GONE}")
                with suppress(OSError):
                    os.replace(entry.path, gone)
                shutil.rmtree(gone, ignore_errors=True)
                freed += entry.bytes
        return freed

    @staticmethod
    def _touch(path: Path) -> bool:
        try:
            os.utime(path, (time.time(), time.time()))
        except FileNotFoundError:
            return False
        except OSError:  # a cache that cannot be written can be read
            return path.is_dir()
        return True


def _sync(path: Path) -> None:
    if path.is_file():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
