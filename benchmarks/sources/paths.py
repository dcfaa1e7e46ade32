"""Sources that are typed as a path, `folder:PATH` and `list:FILE`, and several sources in one name."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.errors import RequestError

FOLDER, LIST = "folder:", "list:"


def folder_name(source: str) -> str | None:
    """The name of the folder or list at the end of a path, links resolved; None for any other source."""
    for prefix in (FOLDER, LIST):
        if source.startswith(prefix):
            path = Path(source.removeprefix(prefix)).expanduser().resolve()
            return path.name if prefix == FOLDER else path.stem
    return None


def parts_of(text: str, sign: str) -> list[str]:
    """The parts of `text` between `sign` ("+" or ","), none of them empty.

    A sign within the path of a folder or file is part of the path: where the path is there with it and not
    without, and where a backslash stands before it. RequestError where both paths are there.
    """
    pieces = [""]
    for at, character in enumerate(text):
        if character == sign and not text[:at].endswith("\\"):
            pieces.append("")
        else:
            pieces[-1] += character
    pieces = [piece.replace(f"\\{sign}", sign) for piece in pieces]
    found = []
    while pieces:
        length = _length(pieces, sign)
        found.append(sign.join(pieces[:length]))
        pieces = pieces[length:]
    return [part for part in found if part]


def escaped(name: str, sign: str = ",") -> str:
    """`name` as it is typed in a list of names."""
    return name.replace(sign, f"\\{sign}")


def _length(pieces: list[str], sign: str) -> int:
    """How many of `pieces` make the first name."""
    first = _path_of(pieces[0])
    if first is None:
        return 1
    there = {first: 1} if _is_there(first) else {}
    for end in range(2, len(pieces) + 1):
        whole = _path_of(sign.join(pieces[:end]))
        if whole is not None and whole not in there and _is_there(whole):
            there[whole] = end
    if len(there) > 1:
        raise RequestError(
            f"{sign.join(pieces)!r} may name one path or several, as {' and '.join(there)} are there; write "
            f"\\{sign} for a {sign} within a path"
        )
    return next(iter(there.values()), 1)


def _path_of(text: str) -> str | None:
    """The path that a name holds: after folder: or list:, after a parameter's "=", or the name itself."""
    bare, _, parameters = text.partition("?")
    value = parameters.rpartition("=")[2]
    if value.startswith(_PATHS):
        return os.path.expanduser(value)
    for prefix in (FOLDER, LIST):
        if prefix in bare:
            return os.path.expanduser(bare.partition(prefix)[2])
    return os.path.expanduser(bare) if bare.startswith(_PATHS) else None


_PATHS = ("/", "~", "./", "../")


def _is_there(path: str) -> bool:
    """A method's file may be followed by the name of its class."""
    return os.path.exists(path) or os.path.isfile(path.rpartition(":")[0])
