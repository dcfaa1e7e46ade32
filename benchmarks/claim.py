"""Marks a folder's files as those of one run, so that no other run overwrites them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.errors import RequestError
from benchmarks.store import write_atomic


def claim(path: Path, said: Mapping[str, object]) -> None:
    """Write `said` to `path`; RequestError if a run with other values has written there."""
    if path.exists() and (found := json.loads(path.read_text())) != said:
        other = [key for key in said if found.get(key) != said[key]]
        raise RequestError(
            f"{path} belongs to another run (it differs in {', '.join(other)}); give another --out, or "
            "remove that file and its journal to start over"
        )
    write_atomic(path, (json.dumps(said, indent=2) + "\n").encode())
