"""Cells in processes of their own on this machine: several at a time, or each stopped by the clock.

Each has its own log. A worker that dies takes no other with it; if the process that submitted is killed,
those that run go on by themselves and leave their records.
"""

from __future__ import annotations

import datetime
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.errors import RequestError
from carryover.cells.executors import process
from carryover.cells.executors.executor import Phase, Planned, Polled
from carryover.cells.executors.process import GRACE, Process
from carryover.cells.executors.submission import Handle, Submission, Submissions, SubmittedCell, new_id
from carryover.records.results import Results

# -P: a folder of the user's in the working directory must not shadow the house's rooms.
CARRYOVER = (sys.executable, "-P", "-m", "carryover")


@dataclass
class _Worker:
    cell: SubmittedCell
    device: str | None
    process: subprocess.Popen[bytes]
    started: float  # time.monotonic()


@dataclass
class _Own:
    """What this process submitted itself."""

    waiting: deque[tuple[SubmittedCell, Planned]]
    running: list[_Worker] = field(default_factory=list)


class LocalProcesses:
    """At most `jobs` processes at a time, each stopped after `timeout` seconds.

    devices: a cell gets the one with the fewest workers; program: what is given the words of a cell.
    """

    name = "local"
    pause = 0.05

    def __init__(
        self,
        results: Results,
        *,
        devices: Sequence[str] = (),
        jobs: int = 1,
        timeout: float | None = None,
        program: Sequence[str] = CARRYOVER,
    ) -> None:
        self.devices = devices
        self.jobs = jobs
        self.timeout = timeout
        self.program = program
        self._files = Submissions(results.root)
        self._own: dict[str, _Own] = {}

    def submit(self, cells: Sequence[Planned], command: str) -> Submission:
        """They start with the first poll: who is interrupted before it has nothing to stop."""
        name = new_id()
        logs = self._logs(cells, name)
        submission = Submission(
            id=name,
            executor=self.name,
            host=socket.gethostname(),
            handle=_handle(Process.of(os.getpid())),
            command=command,
            started=_now(),
            cells=[
                SubmittedCell(cell=one.cell, key=one.key, log=log, report=f"submissions/{name}/{number}.json")
                for number, (one, log) in enumerate(zip(cells, logs, strict=True))
            ],
        )
        self._files.write(submission)
        self._own[name] = _Own(deque(zip(submission.cells, cells, strict=True)))
        return submission

    def poll(self, submission: Submission) -> Polled:
        own = self._own.get(submission.id)
        if own is None:
            return self._seen(self._files.reread(submission))
        changed = self._watch(own.running)
        own.running = [worker for worker in own.running if worker.cell.ended is None]
        while own.waiting and len(own.running) < self.jobs:
            self._start(own)
            changed = True
        if changed:
            self._files.write(submission)
        phases: list[Phase] = [
            "ended" if cell.ended else "running" if cell.handle else "waiting" for cell in submission.cells
        ]
        return Polled(submission, tuple(phases), watched=True)

    def stop(self, submission: Submission) -> None:
        """Whoever submitted it is asked first, and stops its workers: else it would start others."""
        own = self._own.get(submission.id)
        if own is not None:
            for cell, _ in own.waiting:
                cell.ended, cell.how = _now(), "it was stopped before it was started"
            own.waiting.clear()
            process.stop([_process(worker.cell.handle) for worker in own.running])
            self.poll(submission)
            return
        if submission.host != socket.gethostname():
            raise RequestError(
                f"submission {submission.id} runs on {submission.host}, and this is {socket.gethostname()}; "
                "stop it there"
            )
        if (submitter := _process(submission.handle)) != Process.of(os.getpid()):
            process.stop([submitter], GRACE + 10)  # it gives its workers as long
        left = self._files.reread(submission)  # more may have been started meanwhile
        process.stop([_process(cell.handle) for cell in left.cells if cell.handle])

    def _start(self, own: _Own) -> None:
        cell, planned = own.waiting.popleft()
        busy = [worker.device for worker in own.running]
        device = min(self.devices, key=busy.count) if self.devices else None
        root = self._files.root
        log = root / cell.log
        log.parent.mkdir(parents=True, exist_ok=True)
        words = [*self.program, *planned.words(device), "--report", str(root / cell.report)]
        with open(log, "wb") as file:
            started = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        own.running.append(_Worker(cell, device, started, time.monotonic()))
        cell.handle, cell.started = _handle(Process.of(started.pid)), _now()
        cell.where = f"process {started.pid}" + (f" on {device}" if device else "")

    def _watch(self, workers: Sequence[_Worker]) -> bool:
        """Note which have ended, and stop those that are late; whether there was any."""
        changed = False
        for worker in workers:
            code, cell = worker.process.poll(), worker.cell
            lasted = time.monotonic() - worker.started
            if code is not None:
                cell.ended, changed = _now(), True
                cell.how = cell.how or _how(code)
            elif self.timeout is not None and lasted > self.timeout + GRACE:
                worker.process.kill()
            elif self.timeout is not None and lasted > self.timeout and not cell.late:
                cell.late, changed = True, True
                cell.how = f"stopped after {self.timeout:g} s"
                worker.process.terminate()
        return changed

    def _seen(self, submission: Submission) -> Polled:
        """As a process sees it that did not submit it."""
        here = submission.host == socket.gethostname()
        watched = here and _process(submission.handle).alive()

        def phase(cell: SubmittedCell) -> Phase:
            if cell.handle and here and _process(cell.handle).alive():
                return "running"
            if cell.ended or self._files.reported(cell):
                return "ended"
            if not here:
                return "unknown"
            if watched:  # its parent has yet to look
                return "ended" if cell.handle else "waiting"
            return "lost"

        return Polled(submission, tuple(map(phase, submission.cells)), watched)

    def _logs(self, cells: Sequence[Planned], name: str) -> list[str]:
        """A file for each cell; one that another worker writes to is left to it."""
        others = [self._seen(other) for other in self._files.all()[0] if other.executor == self.name]
        taken = {
            cell.log
            for other in others
            for cell, phase in zip(other.submission.cells, other.phases, strict=True)
            if phase not in ("ended", "lost")
        }
        logs = []
        for number, one in enumerate(cells):
            log = f"logs/{one.key}.log"
            logs.append(f"logs/{one.key}-{name}-{number}.log" if log in taken else log)
            taken.add(log)
        return logs


def _how(code: int) -> str:
    """In words, what the exit code of a process says."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"its process was killed by signal {-code}{hint}"


def _handle(found: Process) -> Handle:
    return {"pid": found.pid, "born": found.born}


def _process(handle: Handle) -> Process:
    """One that is not there, for a handle that says none."""
    pid = handle.get("pid")
    return Process(pid if isinstance(pid, int) else 0, str(handle.get("born", "")))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
