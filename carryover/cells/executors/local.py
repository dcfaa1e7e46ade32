"""Cells in processes of their own: several at a time, or one that may be stopped by the clock.

Each worker is the command line asked for one cell, so that there is one way to run a cell; it has its
own log and leaves its record in the results. A worker that dies takes no other with it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.progress import Progress
from carryover.cells.ready import ReadyCell, finished
from carryover.cells.run import ended
from carryover.records.record import Record
from carryover.records.results import Results

GRACE = 30.0  # seconds that a worker gets to journal what it has when it is asked to stop


@dataclass
class _Worker:
    ready: ReadyCell
    device: str
    process: subprocess.Popen[bytes]
    started: float
    log: Path
    late: bool = False

    def stop(self) -> None:
        """Ask politely, so that the journal is whole and the log says so; then insist."""
        self.process.terminate()  # not SIGINT: a job in the background is started with that ignored
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_apart(
    cells: Sequence[ReadyCell],
    words: Callable[[ReadyCell, str], Sequence[str]],
    results: Results,
    progress: Progress,
    *,
    devices: Sequence[str],
    jobs: int,
    timeout: float | None,
    report: Callable[[ReadyCell, Record], None],
) -> list[Record]:
    """The records of `cells`, at most `jobs` at a time, each stopped after `timeout` seconds.

    words(cell, device): the command line's words for one cell, which gets the device with the fewest
    workers. Ctrl-C stops all workers, whose journals stay.
    """
    waiting, running, records = deque(cells), list[_Worker](), list[Record]()
    try:
        with progress.bar("cells", len(cells), "cell") as bar:
            while waiting or running:
                while waiting and len(running) < jobs:
                    busy = [worker.device for worker in running]
                    running.append(_start(waiting.popleft(), min(devices, key=busy.count), words, results))
                time.sleep(0.05)
                for worker in [w for w in running if _over(w, timeout)]:
                    running.remove(worker)
                    record = _record(worker, results, timeout)
                    records.append(record)
                    report(worker.ready, record)
                    bar.advance(1)
    except BaseException:
        for worker in running:
            worker.stop()
        raise
    return records


def _start(
    ready: ReadyCell, device: str, words: Callable[[ReadyCell, str], Sequence[str]], results: Results
) -> _Worker:
    log = results.root / "logs" / f"{ready.key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # -P: a folder of the user's in the working directory must not shadow the house's rooms.
    command = [sys.executable, "-P", "-m", "carryover", *words(ready, device)]
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    return _Worker(ready, device, process, time.monotonic(), log)


def _over(worker: _Worker, timeout: float | None) -> bool:
    if worker.process.poll() is not None:
        return True
    if timeout is not None and time.monotonic() - worker.started > timeout:
        worker.late = True
        worker.stop()
        return True
    return False


def _record(worker: _Worker, results: Results, timeout: float | None) -> Record:
    """What the worker recorded, or a record of how it ended without one."""
    done = finished(worker.ready, results)
    if done is not None:
        return done
    if worker.late:
        reason = f"stopped after {timeout:g} s; its journal is kept, the same command goes on with it"
        return _written(ended(worker.ready, "timeout", reason), results)
    failed = [r for r in results.find(worker.ready.cell) if r.key == worker.ready.key]
    if worker.process.returncode == 1 and failed:
        return failed[0]
    code = worker.process.returncode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return _written(ended(worker.ready, "failed", f"its process {how}{hint}; see {worker.log}"), results)


def _written(record: Record, results: Results) -> Record:
    results.write(record)
    return record
