"""What a record says about the machine and the clone."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from carryover import HOUSE
from carryover.records.record import Code


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], float]]:
    """Peak memory within the block in MiB: of the accelerator if there is one, else of the process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device) / 2**20
        return
    # Linux can reset the high-water mark; elsewhere it is that of the whole process.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    yield high_water


def high_water() -> float:
    """The process's peak in MiB. On Linux its own: `ru_maxrss` of a child starts at its parent's."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def commit() -> Code:
    """The git commit of this clone, and whether files changed; empty outside a clone."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(HOUSE), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    if not (HOUSE / ".git").exists():
        return Code()
    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return Code(git=git("rev-parse", "HEAD"), dirty=bool(changed))
    except (OSError, subprocess.CalledProcessError):
        return Code()


def said_commit() -> str:
    """The commit as a card shows it: its first digits, and whether files changed."""
    code = commit()
    return f"{(code.git or '')[:12]}{' with changes' if code.dirty else ''}"


def processor(device: torch.device) -> str:
    """The name of the accelerator, or of the CPU with its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return platform.processor() or platform.machine()
