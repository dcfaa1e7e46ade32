"""The journal of one running cell: what it needs to continue after being killed at any moment.

    journal/<key>/progress.json        rows so far, times, and which state file they belong to
    journal/<key>/state-<n>.safetensors  the method after n tasks
    journal/<key>/stage-<hash>.safetensors  a training of the task in progress, from its last journaled epoch

Every file is written whole or not at all, and the state before the progress that names it, so a journal is
always consistent. It is removed when the record is written.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

import msgspec
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from benchmarks.store import write_atomic
from carryover.records.row import Row

SECONDS = "seconds"  # spent on a stage, beside its tensors, whose names have a "/"


class Done(msgspec.Struct, kw_only=True):
    """The progress of a cell: tasks learnt, rows scored, seconds spent, numbers observed.

    predicted: global class ids by "step/task", as little-endian int64; digests: of the state with which
    each task was last evaluated; passes: images of the stream trained on, counted in every pass; replayed:
    exemplars trained on beside them; macs: multiply-adds of one prediction; footprints: of each task, if
    every task has an instance of its own.
    """

    learnt: int = 0
    rows: list[Row] = []
    predicted: dict[str, bytes] = {}
    digests: dict[int, str] = {}
    train_s: float = 0.0
    eval_s: float = 0.0
    prepare_s: float = 0.0
    passes: int = 0
    replayed: int = 0
    macs: int | None = None
    observations: list[dict[str, float]] = []
    footprints: list[dict[str, int]] = []
    notes: list[str] = []


class CellJournal:
    """Reads and writes one journal folder.

    interval: seconds between saves of a long stage; states: folder in which the method's state after
    every task stays, or None.
    """

    def __init__(self, folder: Path, interval: float = 20.0, states: Path | None = None) -> None:
        self.folder = folder
        self.interval = interval
        self.states = states
        self.notes: list[str] = []  # warnings of this process; `Done.notes` has those before it too
        self._saved = self._begun = time.monotonic()
        self._earlier = 0.0

    # Used by the protocol.

    def begin(self) -> None:
        """Start a piece of work whose training may be resumed; `spent` counts from here."""
        self._begun, self._earlier = time.monotonic(), 0.0

    def spent(self) -> float:
        """Seconds of this piece of work, including those of killed processes up to their last save."""
        return self._earlier + time.monotonic() - self._begun

    def resume(self) -> tuple[Done, dict[str, Tensor] | None]:
        """The progress and the method's state to start from; empty ones without a usable journal."""
        try:
            done = msgspec.json.decode((self.folder / "progress.json").read_bytes(), type=Done)
            state = self._read(f"state-{done.learnt}.safetensors") if done.learnt else None
        except (FileNotFoundError, msgspec.DecodeError, SafetensorError):
            # No journal, or one by another version: the cell starts over, with the same result.
            return Done(), None
        return done, state

    def commit(self, done: Done, state: dict[str, Tensor] | None = None) -> None:
        """Save `done`, with the method's state if it learnt another task."""
        done.notes = list(dict.fromkeys([*done.notes, *self.notes]))
        if state is not None:
            self._write(f"state-{done.learnt}.safetensors", state)
            if self.states is not None:
                write_atomic(self.states / f"state-{done.learnt}.safetensors", serialise(state))
        write_atomic(self.folder / "progress.json", msgspec.json.encode(done))
        self._saved = time.monotonic()
        if state is not None:
            for old in self.folder.glob("state-*.safetensors"):
                if old.name != f"state-{done.learnt}.safetensors":
                    old.unlink()
            for stage in self.folder.glob("stage-*.safetensors"):
                stage.unlink()

    def close(self) -> None:
        """Remove the journal, since the record is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # Used by a training in progress (backbones.training.Journal).

    def due(self) -> bool:
        return time.monotonic() - self._saved >= self.interval

    def load(self, stage: str) -> dict[str, Tensor] | None:
        try:
            tensors = self._read(_stage_file(stage))
        except (FileNotFoundError, SafetensorError):
            return None
        prefix = f"{stage}/"
        found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        if found:
            self._begun, self._earlier = time.monotonic(), float(tensors.get(SECONDS, 0.0))
        return found or None

    def save(self, stage: str, tensors: dict[str, Tensor]) -> None:
        kept = {f"{stage}/{name}": tensor for name, tensor in tensors.items()}
        spent = torch.tensor(self.spent(), dtype=torch.float64)
        self._write(_stage_file(stage), kept | {SECONDS: spent})
        self._saved = time.monotonic()

    def _read(self, name: str) -> dict[str, Tensor]:
        return safetensors.torch.load((self.folder / name).read_bytes())

    def _write(self, name: str, tensors: dict[str, Tensor]) -> None:
        write_atomic(self.folder / name, serialise(tensors))


def _stage_file(stage: str) -> str:
    return f"stage-{hashlib.sha256(stage.encode()).hexdigest()[:16]}.safetensors"


def serialise(tensors: dict[str, Tensor]) -> bytes:
    """The tensors as safetensors bytes; views and shared storage become plain copies."""
    return safetensors.torch.save(
        {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    )
