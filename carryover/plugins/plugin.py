"""A plugin: a name that a user can type, and the location of its class."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path

OURS = "carryover"
SKLEARN = "sklearn:"


@dataclass(frozen=True)
class Plugin:
    """A name that a user can type.

    origin: "carryover", or the package and version that provides it, or the file; module and attribute: the
    location of its class; reference: whether every table should have a row of it; problem: why it cannot be
    loaded, or ""; path: of a method in a file that is not installed; named: modules that count as imported
    by it, in addition to the imports in its source.
    """

    name: str
    summary: str
    origin: str
    module: str
    attribute: str
    reference: bool = False
    problem: str = ""
    entry: EntryPoint | None = field(default=None, compare=False)
    path: Path | None = field(default=None, compare=False)
    named: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The top-level package whose source belongs to the plugin."""
        return self.module.partition(".")[0]

    @property
    def distribution(self) -> dict[str, str]:
        """The version of the package that provides it, by name; empty for ours and for files."""
        dist = self.entry.dist if self.entry else None
        return {dist.name: dist.version} if dist else {}
