"""Writes a plugin as an installable package: its file, pyproject.toml with the entry point, test, README."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carryover.new import Wanted

GROUP = {"method": "carryover.methods", "stream": "carryover.streams", "backbone": "carryover.backbones"}

PYPROJECT = """\
[build-system]
requires = ["setuptools>=69"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "0.1.0"
description = "The {kind} {name} for Carryover"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["carryover-bench"]

# Carryover finds it by this entry point: the name that users type, and the class.
[project.entry-points."{group}"]
{name} = "{module}:{attribute}"

[tool.setuptools]
py-modules = ["{module}"]

[tool.ruff]
line-length = 110

[tool.ruff.lint.isort]
known-first-party = ["carryover"]
"""

README = """\
# {name}

A {kind} for Carryover; say here what it is and whose idea.

It needs `carryover-bench`, the package name of Carryover. No package index has it, so install into the
environment of a clone of Carryover (its first `make` builds `CLONE/.venv`); elsewhere pip finds no
`carryover-bench`.

```sh
source CLONE/.venv/bin/activate
python -m pip install -e .
carryover ls {kind}s
{run}
```

`{module}.py` holds the whole {kind}. Each record names this package with its version, and a change of the
source makes its records stale.
"""

TEST = """\
from __future__ import annotations

from pathlib import Path

import pytest

from carryover.commands.cli import cli


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRYOVER_CACHE", str(tmp_path / "cache"))
    cell = "{cell}"
    more = "--device cpu{options}"
    assert cli(["run", *cell.split(), *more.split(), "--results", str(tmp_path)]) == 0
"""


def package_files(wanted: Wanted) -> dict[str, str]:
    """The files of the package: source by path within its folder."""
    module = f"carryover_{wanted.name}"
    trains = wanted.kind == "method" and wanted.start == "gradient"
    words = {
        "kind": wanted.kind,
        "name": wanted.name,
        "distribution": module.replace("_", "-"),
        "module": module,
        "attribute": "RECIPE" if wanted.kind == "backbone" else wanted.class_name,
        "group": GROUP[wanted.kind],
        "run": run_line(wanted),
        "cell": _cell(wanted),
        "options": " -o epochs=1 -o min_steps=0" if trains else "",
    }
    return {
        f"{module}.py": wanted.source(),
        "pyproject.toml": PYPROJECT.format(**words),
        "README.md": README.format(**words),
        f"test_{wanted.name}.py": TEST.format(**words),
    }


def run_line(wanted: Wanted) -> str:
    """A command that runs the plugin."""
    if wanted.kind == "method":
        return f"carryover run --method {wanted.name}"
    return f"carryover run --method ncm --{wanted.kind} {wanted.name}"


def _cell(wanted: Wanted) -> str:
    """The command-line options of a cell that runs in a second."""
    chosen = {"method": "ncm", "stream": "split-digits?per_class=10", "backbone": "tiny_vit"}
    chosen[wanted.kind] = wanted.name
    return " ".join(f"--{kind} {name}" for kind, name in chosen.items())
