"""What was handed to an executor, as a file in the results: any process reads there where it stands.

<results>/submissions/<id>.json   removed when everything ended and was collected
<results>/submissions/<id>/       what the workers report: under which key each cell was recorded
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
import shutil
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.errors import RequestError
from benchmarks.store import write_atomic
from carryover.records.record import Cell, Key, Moment, Record, Status
from carryover.records.results import Broken

SCHEMA = "1.0"

Handle = dict[str, str | int]  # what an executor finds its own by: a process, a job of a cluster


class SubmittedCell(Struct, kw_only=True, omit_defaults=True):
    """One cell of a submission.

    key: the one expected of it; log, report: files below the results; where: what computes it, in words;
    handle: empty until it is started; ended: when its executor saw that; late: it was stopped for taking
    too long; how: how it ended, for one that left no record.
    """

    cell: Cell
    key: Key
    log: str
    report: str
    where: str = ""
    handle: Handle = {}
    started: Moment | None = None
    ended: Moment | None = None
    late: bool = False
    how: str = ""


class Submission(Struct, kw_only=True):
    """Cells handed to an executor at once.

    executor: its name; host: the machine that submitted them; handle: of the whole, for the executor;
    command: what to type to go on with what is left of it. Schema: as for records.
    """

    schema: str = SCHEMA
    id: str
    executor: str
    host: str
    handle: Handle
    command: str
    started: Moment
    cells: list[SubmittedCell]


class _Version(Struct):
    schema: str


class Reported(Struct, frozen=True, kw_only=True):
    """What a worker says of its cell: the record that it wrote, or found."""

    cell: Cell
    key: Key
    status: Status


class Submissions:
    """The files of submissions below `root`, the folder of the results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "submissions"

    def path(self, submission: Submission) -> Path:
        return self.folder / f"{submission.id}.json"

    def all(self) -> tuple[list[Submission], list[Broken]]:
        """Every submission, the oldest first; and the files that are none, or a newer version's."""
        found, broken = [], []
        for path in sorted(self.folder.glob("*.json")):
            try:
                submission = _decode(path.read_bytes())
                if submission.id != path.stem:  # what is removed later goes by it
                    raise ValueError(f"it says that it is submission {submission.id!r}")
                found.append(submission)
            except FileNotFoundError:  # everything of it has just ended
                continue
            except (OSError, ValueError) as error:
                broken.append(Broken(path, str(error)))
        return found, broken

    def write(self, submission: Submission) -> None:
        """RequestError if the folder cannot be written."""
        text = msgspec.json.format(msgspec.json.encode(submission), indent=1)
        _write(self.path(submission), text + b"\n")

    def reread(self, submission: Submission) -> Submission:
        """As it stands in its file now; as it is given where that is gone."""
        with contextlib.suppress(OSError, ValueError):
            return _decode(self.path(submission).read_bytes())
        return submission

    def remove(self, submission: Submission) -> None:
        """Forget it, with what its workers reported."""
        shutil.rmtree(self.folder / submission.id, ignore_errors=True)
        self.path(submission).unlink(missing_ok=True)

    def reported(self, submitted: SubmittedCell) -> Reported | None:
        """What the cell's worker reported; None where it did not come to that."""
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode((self.root / submitted.report).read_bytes(), type=Reported)
        return None


def report_record(path: Path, record: Record) -> None:
    """Say in `path` under which key a cell was recorded: it is the one that computes who knows.

    RequestError if the file cannot be written.
    """
    _write(path, msgspec.json.encode(Reported(cell=record.cell, key=record.key, status=record.status)))


def new_id() -> str:
    """Sorts by time, and is short enough to be typed."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _decode(data: bytes) -> Submission:
    """ValueError with a reason: broken, another major schema, or no submission."""
    try:
        version = msgspec.json.decode(data, type=_Version).schema
        if version.partition(".")[0] != SCHEMA.partition(".")[0]:
            raise ValueError(
                f"it has schema {version}, and this version of carryover reads {SCHEMA.partition('.')[0]}.x"
            )
        return msgspec.json.decode(data, type=Submission)
    except msgspec.ValidationError as error:
        raise ValueError(f"it is no submission: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"its JSON is broken: {error}") from error


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, data)
    except OSError as error:
        raise RequestError(
            f"{path} cannot be written ({error.strerror or error}); choose another folder with --results DIR"
        ) from error
