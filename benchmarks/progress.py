"""How work below the roof tells that it goes on, without knowing who shows it.

The command line hands in bars (`carryover/commands/screen.py`); a script or a test that hands in nothing
gets `Silent`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """One running piece of work."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """`amount` more units are done; `note` is shown beside the bar (loss, epoch)."""


class Progress(Protocol):
    """Somebody who shows bars and warnings."""

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "") -> Iterator[Bar]:
        """A bar of `total` units for the length of the with-block; bars nest."""
        ...

    def warn(self, message: str) -> None:
        """One sentence that the user should see, now and in the record."""


class _SilentBar:
    def advance(self, amount: int = 1, note: str = "") -> None:
        pass


class Silent:
    """Shows nothing and keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "") -> Iterator[Bar]:
        yield _SilentBar()

    def warn(self, message: str) -> None:
        self.warnings.append(message)
