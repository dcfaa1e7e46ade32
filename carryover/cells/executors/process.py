"""A process of this machine, known by more than its number: numbers are given out again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.errors import RequestError

GRACE = 30.0  # seconds that a process gets to journal what it has when it is asked to stop


@dataclass(frozen=True)
class Process:
    """born: when the operating system started it, in its own words; equal for one process alone."""

    pid: int
    born: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The one that has this number now; it is no longer there if it has ended."""
        return cls(pid, _born(pid) or "ended")

    def alive(self) -> bool:
        """Whether it still runs; one that has ended and only waits for its parent does not."""
        return _born(self.pid) == self.born

    def signal(self, number: signal.Signals) -> None:
        """Nothing if it has ended. RequestError if it is another user's."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:  # it has just ended
                pass
            except PermissionError as error:
                raise RequestError(
                    f"process {self.pid} belongs to another user, who alone can stop it"
                ) from error


def stop(processes: Sequence[Process], grace: float = GRACE) -> None:
    """Ask all politely, so that the journals are whole and the logs say so; then insist."""
    for process in processes:
        process.signal(signal.SIGTERM)  # not SIGINT: a job in the background is started with that ignored
    _wait(processes, grace)
    for process in processes:
        process.signal(signal.SIGKILL)
    _wait(processes, GRACE)


def _wait(processes: Sequence[Process], seconds: float) -> None:
    until = time.monotonic() + seconds
    while any(process.alive() for process in processes) and time.monotonic() < until:
        time.sleep(0.02)


def _born(pid: int) -> str | None:
    """None where no process of this number runs."""
    if not Path("/proc/self/stat").exists():  # not Linux
        return _born_by_ps(pid)
    try:
        # The name, in parentheses, may hold anything; state and start time are fields 3 and 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{_boot()}/{fields[19]}"


def _born_by_ps(pid: int) -> str | None:
    said = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True)
    state, _, started = said.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


@cache
def _boot() -> str:
    """Start times count from here."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
