"""Where cells are computed: an executor takes them, and a file in the results says where they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from carryover.cells.executors.executor import Executor
from carryover.cells.executors.local import LocalProcesses
from carryover.records.results import Results

# By the name that a submission gives; each can poll and stop what another process submitted.
EXECUTORS: Mapping[str, Callable[[Results], Executor]] = {"local": LocalProcesses}
