"""How long-running work reports its progress, without knowing who shows it.

The command line passes in bars (`carryover/commands/screen.py`); a script or test that passes nothing gets
`Silent`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """The progress bar of one piece of work."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Report `amount` more units as done; `note` is shown beside the bar (loss, epoch)."""


class Progress(Protocol):
    """Shows progress bars and warnings."""

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "") -> Iterator[Bar]:
        """A bar of `total` units for the length of the with-block; bars nest."""
        ...

    def warn(self, message: str) -> None:
        """Show the user one sentence, now and in the record."""


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
