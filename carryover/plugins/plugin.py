"""A plugin: a name that a user may type, and where its class is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path

OURS = "carryover"
SKLEARN = "sklearn:"


@dataclass(frozen=True)
class Plugin:
    """A name that a user may type.

    origin: "carryover", or the package and version that brings it, or the file; module and attribute:
    where its class is; reference: it declares itself a row that every table should have; problem: why it
    cannot be had, ""; path: of a method that is a file and not installed; named: modules that count as
    imported by it, whatever its source says.
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
        """The version of the package that brings it, by name; nothing for ours and for files."""
        dist = self.entry.dist if self.entry else None
        return {dist.name: dist.version} if dist else {}
