"""Errors that a user can act on: one sentence that names the thing, the value and the way out."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Iterable


class RequestError(Exception):
    """A request that cannot be run; raised before any work is done (exit code 2)."""


class DataError(RequestError):
    """A data set is missing, empty or damaged; names the file and, where there is one, the row."""


def pip_install(*packages: str) -> str:
    """The command that brings optional packages into the environment that runs, for a sentence.

    Not an extra of ours by name: Carryover is on no package index. A clone's own environment has them all.
    """
    return f"`{shlex.join([sys.executable, '-m', 'pip', 'install', *packages])}`"


def unknown(kind: str, name: str, valid: Iterable[str], way_out: str = "") -> RequestError:
    """The error for a name that does not exist: nearest match, the valid list, and where to add one.

    >>> str(unknown("method", "maet", ["meat", "ncm"]))
    "unknown method 'maet'; did you mean 'meat'? Valid: meat, ncm."
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    listed = f" Valid: {', '.join(names)}." if names else f" There is no {kind} to choose from."
    return RequestError(f"unknown {kind} {name!r}{guess}{listed}" + (f" {way_out}" if way_out else ""))
