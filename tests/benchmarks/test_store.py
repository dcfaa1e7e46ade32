"""What is on disk is whole or absent, whoever is killed, and two who want one thing wait for each other."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.errors import RequestError
from benchmarks.store import ABANDONED, Store, locked, write_atomic


def fill(size: int = 10):
    def make(folder: Path) -> None:
        (folder / "data").write_bytes(bytes(size))

    return make


def never(folder: Path) -> None:
    raise AssertionError("the entry is there and must not be made again")


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.get("kind", "key", fill())
    assert (folder / "data").stat().st_size == 10
    assert store.get("kind", "key", never) == folder


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def broken(folder: Path) -> None:
        fill()(folder)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.get("kind", "key", broken)
    assert store.entries() == []
    assert [path.name for path in (tmp_path / "kind").iterdir() if path.is_dir()] == []


def test_what_a_killed_maker_left_is_no_entry(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from benchmarks.store import Store
def make(folder):
    (folder / "data").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
Store(Path(sys.argv[1])).get("kind", "key", make)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    store = Store(tmp_path)
    assert store.entries() == []
    folder = store.get("kind", "key", fill(3))
    assert [path.name for path in folder.iterdir()] == ["data"]
    assert (folder / "data").stat().st_size == 3


def test_two_who_want_one_entry_make_it_once(tmp_path: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.2)
        fill()(folder)

    def want() -> None:
        Store(tmp_path).get("kind", "key", make)

    threads = [threading.Thread(target=want) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = Store(tmp_path, limit=25)
    for number, key in enumerate(("old", "older", "new")):
        folder = store.get("kind", key, fill()) if key != "new" else None
        if folder:
            os.utime(folder, (1000 - number, 1000 - number))
    store.get("kind", "old", never)  # used again
    store.get("kind", "new", fill())
    assert {entry.key for entry in store.entries()} == {"old", "new"}


def test_what_was_just_made_stays_even_beyond_the_limit(tmp_path: Path) -> None:
    store = Store(tmp_path, limit=5)
    assert store.get("kind", "key", fill(10)).is_dir()


def test_processes_that_evict_each_others_entries_do_not_fail(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from benchmarks.store import Store
store, end, number = Store(Path(sys.argv[1]), limit=20_000), time.monotonic() + 2, 0
def make(folder):
    for part in range(20):
        (folder / str(part)).write_bytes(bytes(200))
while time.monotonic() < end:
    number += 1
    store.get("kind", f"{sys.argv[2]}-{number % 9}", make)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    racing = [subprocess.Popen([*command, str(n)], stderr=subprocess.PIPE, text=True) for n in range(3)]
    said = [process.communicate(timeout=60)[1] for process in racing]
    assert [process.returncode for process in racing] == [0, 0, 0], said
    Store(tmp_path).prune()
    assert not list(tmp_path.glob("*/*.gone"))


def test_clearing_frees_what_it_says(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.get("a", "x", fill(10))
    store.get("b", "y", fill(20))
    assert store.prune(limit=0) == 30
    assert store.entries() == []


def test_pieces_survive_an_interruption_and_are_dropped_after_a_week(tmp_path: Path) -> None:
    store = Store(tmp_path)
    pieces = store.workspace("kind", "key")
    (pieces / "0").write_text("done")
    store.prune(limit=0)
    assert (store.workspace("kind", "key") / "0").exists()
    os.utime(pieces, (time.time() - ABANDONED - 1,) * 2)
    store.prune()
    assert not pieces.exists()


def test_a_cache_that_cannot_be_written_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Store(tmp_path).get("kind", "key", fill())

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    assert Store(tmp_path).get("kind", "key", never) == folder


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRYOVER_CACHE", str(tmp_path))
    monkeypatch.setenv("CARRYOVER_CACHE_LIMIT", "0.5")
    assert (Store.default().root, Store.default().limit) == (tmp_path, 2**29)
    monkeypatch.setenv("CARRYOVER_CACHE_LIMIT", "lots")
    with pytest.raises(RequestError, match="CARRYOVER_CACHE_LIMIT='lots' is no number of GiB"):
        Store.default()


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    write_atomic(path, b"first and longer")
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_keeps_the_old_file_and_names_it(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left") as failed:
        write_atomic(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    # The system says which disk is full only where it is told a name; a write goes to a number.
    assert failed.value.filename == str(path)


def test_a_write_killed_half_way_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    code = """
import os, signal, sys
from pathlib import Path
from benchmarks import store
store.os.fsync = lambda fd: (os.ftruncate(fd, 1), os.kill(os.getpid(), signal.SIGKILL))
store.write_atomic(Path(sys.argv[1]), b"new")
"""
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_a_lock_is_waited_for_and_the_wait_is_told_once(tmp_path: Path) -> None:
    path, told, held = tmp_path / "locks" / "cell.lock", [], threading.Event()

    def hold() -> None:
        with locked(path):
            held.set()
            time.sleep(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with locked(path, waiting=told.append):
        assert not thread.is_alive() or told
    thread.join()
    assert told == ["another process is at work on cell; waiting for it"]


def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    path, told = tmp_path / "cell.lock", []
    code = """
import os, signal, sys
from pathlib import Path
from benchmarks.store import locked
with locked(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    with locked(path, waiting=told.append):
        assert told == []
