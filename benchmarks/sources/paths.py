"""A source that is typed as a folder, `folder:PATH`."""

from __future__ import annotations

from pathlib import Path

PREFIX = "folder:"


def folder_name(source: str) -> str | None:
    """The last part of the path that is typed, whatever way it leads there; None for a source with a name."""
    if not source.startswith(PREFIX):
        return None
    return Path(source.removeprefix(PREFIX)).expanduser().resolve().name
