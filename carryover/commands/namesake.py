"""Detects another project's package `carryover`, which the package index has under that name.

This project is the distribution carryover-bench. Both install an import package and a command `carryover`,
so the one that is installed last overwrites files of the other.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from carryover import HOUSE

AUTHOR = "Author: The Carryover authors"  # of this project too, when it was installed under its old name


def namesake() -> str:
    """A warning if another project's distribution `carryover` is on the import path, or ""."""
    for version, folder in _installed():
        python = shlex.join([sys.executable, "-m", "pip"])
        clone = shlex.quote(str(HOUSE)) if (HOUSE / "pyproject.toml").exists() else "CLONE"
        return (
            f"the package carryover {version} in {folder} belongs to another project, with the import name "
            f"and command of this one (carryover-bench): type `{python} uninstall carryover`, then `{python} "
            f"install --no-deps -e {clone}`, which restores our files"
        )
    return ""


def _installed() -> Iterator[tuple[str, Path]]:
    """(version, folder) of each installed `carryover` that is not this project.

    Read by hand, since importing importlib.metadata would double the start-up time.
    """
    for folder in map(Path, sys.path):
        for info in sorted(folder.glob("carryover[.-]*-info")):
            file = info / ("METADATA" if info.suffix == ".dist-info" else "PKG-INFO")
            try:
                header = file.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
            except OSError:  # half of it was removed: nothing is installed
                continue
            if "Name: carryover" in header and AUTHOR not in header:
                versions = [line.removeprefix("Version: ") for line in header if line.startswith("Version: ")]
                yield (versions or ["of no version"])[0], folder
