"""The results folder: records as files, those of the user and the committed reference.

    <root>/records/<stream>/<backbone>/<method>/<order>-<seed>-<key8>.json
                                                <order>-<seed>-<key8>.predictions.npz
    <root>/journal/<key>/       a run that has not finished
    <root>/choices/<key>.json   candidates and their scores, shared by seeds
    <root>/submissions/         cells at work in other processes (`cells/executors`)
    <root>/locks/<key>.lock     held by the process that works on it

without <order>- where a stream has no order to choose.

The reference is a read-only folder of the same layout. Which records count:

- A record in the user's folder overrides the reference's record with the same key.
- A failure never replaces a success with the same key; it is written beside it.
- Of several records of one cell under one contract, the newest successful one counts (`current`).
  If none succeeded, none counts, and the newest one is shown as a failure.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import RequestError
from benchmarks.store import write_atomic
from carryover import HOUSE
from carryover.records.record import Cell, Record, Status, decode, encode

PROBE = 2**20  # bytes really written by `check_writable`; quotas do not show in the free space
Predictions = Mapping[tuple[int, int], NDArray[np.int64]]


@dataclass(frozen=True)
class Broken:
    """A file among the records that cannot be read; it is left in place."""

    path: Path
    reason: str


class Results:
    """The records under `root` (read and written) and `reference` (only read)."""

    def __init__(self, root: Path, reference: Path | None = None) -> None:
        self.root = root
        self.reference = reference

    @classmethod
    def default(cls, root: Path | None = None) -> Results:
        """The first of `root`, $CARRYOVER_RESULTS, results/ of the clone, ./results; with the reference."""
        inside = HOUSE if (HOUSE / "pyproject.toml").exists() else Path.cwd()  # not site-packages
        root = root or Path(os.environ.get("CARRYOVER_RESULTS") or inside / "results")
        reference = HOUSE / "results" / "reference"
        return cls(root.expanduser(), reference if reference.is_dir() else None)

    def check_writable(self, needed_bytes: int = PROBE) -> None:
        """RequestError if the root is the reference, not a writable folder, or short of `needed_bytes`."""
        if self.reference is not None and self._inside_reference():
            raise RequestError(
                f"{self.root} holds the committed reference, which runs never change; "
                "choose another folder with --results DIR or CARRYOVER_RESULTS."
            )
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root, prefix=".probe") as probe:
                probe.write(bytes(min(needed_bytes, PROBE)))
                probe.flush()
                os.fsync(probe.fileno())
            free = shutil.disk_usage(self.root).free
        except OSError as error:
            raise self._unwritable(error) from error
        if free < needed_bytes:
            raise RequestError(
                f"{self.root} has {free / 2**20:.0f} MiB free, but a run needs {needed_bytes / 2**20:.0f}; "
                "make room or choose another folder with --results DIR or CARRYOVER_RESULTS."
            )

    def path(self, record: Record) -> Path:
        """The path for a record of this cell and key."""
        return self.root / _place(record)

    def write(self, record: Record, predictions: Predictions | None = None) -> Path:
        """Write the predicted classes, then the record; returns the path of the record.

        predictions: global class ids (n,) by (step, task). RequestError if the folder cannot be written.
        """
        path = self.path(record)
        beside = path.with_name(f"{path.stem}.{record.status}.json")
        if record.status != "ok" and _status(path) == "ok":
            path = beside
        try:
            if predictions is not None:
                write_atomic(path.with_suffix(".predictions.npz"), _pack_predictions(predictions))
            if path.exists() and _status(path) is None:  # keep what cannot be read
                os.replace(path, path.with_name(f"{path.name}.broken"))
            write_atomic(path, encode(record))
        except OSError as error:
            raise self._unwritable(error) from error
        return path

    def predictions(self, record: Record) -> dict[tuple[int, int], NDArray[np.int64]] | None:
        """The predicted classes of a record, by (step, task); None if there are none."""
        for root in self._roots():
            found = self.predictions_at((root / _place(record)).with_suffix(".predictions.npz"))
            if found is not None:
                return found
        return None

    @staticmethod
    def predictions_at(path: Path) -> dict[tuple[int, int], NDArray[np.int64]] | None:
        """As `predictions`, of the file beside a record; None if there is none."""
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as file:
            return {_place_of(name): file[name].astype(np.int64) for name in file.files}

    def find(self, cell: Cell) -> list[Record]:
        """The records of a cell, newest first."""
        folder = _folder(cell)
        records, _ = self._read(f"{folder}/*.json")
        return sorted((record for record in records if record.cell == cell), key=recency, reverse=True)

    def all(self) -> tuple[list[Record], list[Broken]]:
        """Every record in the order of the paths, superseded ones too; and the files that are no records."""
        return self._read("records/*/*/*/*.json")

    def journal(self, key: str) -> Path:
        """The journal folder of the run of `key`."""
        return self.root / "journal" / key

    def choice(self, key: str) -> Path:
        """The file of a choice of options, complete or not."""
        return self.root / "choices" / f"{key}.json"

    def lock(self, key: str) -> Path:
        """The lock file of `key`, outside its journal, which is removed when the run ends."""
        return self.root / "locks" / f"{key}.lock"

    def _read(self, pattern: str) -> tuple[list[Record], list[Broken]]:
        records: dict[tuple[bytes, str, bool], Record] = {}
        broken = []
        for root in self._roots():
            for path in sorted(root.glob(pattern)):
                try:
                    record = decode(path.read_bytes())
                except (ValueError, OSError) as error:
                    broken.append(Broken(path, str(error)))
                    continue
                records.setdefault((identity(record.cell), record.key, record.status == "ok"), record)
        return list(records.values()), broken

    def _roots(self) -> list[Path]:
        same = self.reference is None or self.reference.resolve() == self.root.resolve()
        return [self.root] if same or self.reference is None else [self.root, self.reference]

    def _inside_reference(self) -> bool:
        assert self.reference is not None
        return self.root.resolve().is_relative_to(self.reference.resolve())

    def _unwritable(self, error: OSError) -> RequestError:
        return RequestError(
            f"the results folder {self.root} cannot be written ({error.strerror or error}); "
            "choose another with --results DIR or CARRYOVER_RESULTS."
        )


def current(records: Iterable[Record], rank: Callable[[Record], int] = lambda record: 0) -> list[Record]:
    """The records that count: for each cell and contract the newest successful one.

    rank: a record of higher rank counts before newer ones of lower rank (for this run's, or fresh ones).
    """
    latest = {}
    for record in sorted(records, key=lambda record: (rank(record), *recency(record))):
        if record.status == "ok":
            latest[identity(record.cell), tuple(sorted(record.contract.items()))] = record
    return list(latest.values())


def failures(records: Iterable[Record]) -> list[Record]:
    """The newest record of each cell whose newest record is not successful."""
    newest = {}
    for record in sorted(records, key=recency):
        newest[identity(record.cell)] = record
    return [record for record in newest.values() if record.status != "ok"]


def recency(record: Record) -> tuple[float, str]:
    """A sort key from the oldest record to the newest, unique for equal times too."""
    return record.ended.timestamp(), record.key


def identity(cell: Cell) -> bytes:
    """Bytes that are equal for equal cells, in any order of their options."""
    return msgspec.json.encode(cell, order="deterministic")


def slug(name: str) -> str:
    """A folder name for `name`: itself if it is safe, otherwise a readable form, "~" and a short hash.

    Two names never share a slug, since a safe name has no "~".
    """
    readable = re.sub(r"[^a-z0-9._=-]+", "-", name.lower())[:80].strip("-.")
    if readable == name:
        return name
    return f"{readable}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _folder(cell: Cell) -> Path:
    return Path("records") / slug(cell.stream) / slug(cell.backbone) / slug(cell.method)


def _place(record: Record) -> Path:
    cell = record.cell
    order = "" if cell.order is None else f"{slug(cell.order)}-"
    return _folder(cell) / f"{order}{cell.seed}-{record.key[:8]}.json"


def _status(path: Path) -> Status | None:
    """The status of the record in `path`; None if there is no readable record."""
    with contextlib.suppress(OSError, ValueError):
        return decode(path.read_bytes()).status
    return None


def _pack_predictions(predictions: Predictions) -> bytes:
    file = io.BytesIO()
    arrays = {f"{step}/{task}": np.asarray(ids, np.int32) for (step, task), ids in predictions.items()}
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _place_of(name: str) -> tuple[int, int]:
    step, task = name.split("/")
    return int(step), int(task)
