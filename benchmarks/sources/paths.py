"""Sources that are typed as a folder, `folder:PATH`."""

from __future__ import annotations

from pathlib import Path

PREFIX = "folder:"


def folder_name(source: str) -> str | None:
    """The name of the folder at the end of `folder:PATH`, links resolved; None for any other source."""
    if not source.startswith(PREFIX):
        return None
    return Path(source.removeprefix(PREFIX)).expanduser().resolve().name
