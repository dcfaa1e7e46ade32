"""How long the command line takes to say something, in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from measure import Row, interleave, quartiles
from workload import Setup

COMMAND = Path(sys.executable).with_name("carryover")
BARE = (sys.executable, "-c", "pass")


def commands(setup: Setup) -> Iterator[Row]:
    """Wall time from start to exit; beside it, that of a Python that does nothing."""
    timed = (
        ("carryover --help", (str(COMMAND), "--help"), 0.3),
        ("carryover ls", (str(COMMAND), "ls"), 0.6),
        ("import carryover", (sys.executable, "-c", "import carryover"), None),
    )
    for name, words, limit in timed:
        pairs = interleave(lambda: _run(words), lambda: _run(BARE), setup.pairs)  # noqa: B023
        seconds = statistics.median(pairs.ours)
        low, high = quartiles(pairs.ours)
        yield Row(
            name="commands",
            compared=f"{name} / python -c pass: start to exit, fresh processes",
            unit="s",
            ours=seconds,
            theirs=statistics.median(pairs.theirs),
            bound="" if limit is None else f"< {limit:g} s",
            met=None if limit is None else seconds < limit,
            note=f"quartiles {low:.3f} to {high:.3f} s, {statistics.median(pairs.cpu[0]):.3f} s of CPU time",
            samples={"ours_s": pairs.ours, "theirs_s": pairs.theirs},
        )


def _run(words: tuple[str, ...]) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
