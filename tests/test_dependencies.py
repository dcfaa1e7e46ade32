"""What the rooms import is declared in pyproject.toml; what is declared is pinned in requirements.lock."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
ROOMS = ("benchmarks", "backbones", "methods", "carryover")
PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text())
# Packages whose import name is not their own name with _ for -.
NAMED = {"PIL": "pillow", "sklearn": "scikit-learn"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", text)[0].lower() for text in requirements}


CORE = names(PROJECT["project"]["dependencies"])
EXTRAS = set[str]().union(*map(names, PROJECT["project"]["optional-dependencies"].values()))
DEVELOPMENT = names(PROJECT["dependency-groups"]["dev"])


def imported(node: ast.AST, runs: bool = True) -> Iterator[tuple[str, bool]]:
    """(package, whether loading the file imports it): not within a function nor for type checkers alone."""
    found: list[str] = []
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        found = [node.module]
    for name in found:
        top = name.partition(".")[0]
        if top not in ROOMS and top not in sys.stdlib_module_names:
            yield NAMED.get(top, top.replace("_", "-")), runs
    runs &= not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    runs &= not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    for child in ast.iter_child_nodes(node):
        yield from imported(child, runs)


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_imports_is_declared(room: str) -> None:
    """The core runs with the core's dependencies alone: an extra is imported where it is used."""
    seen: set[str] = set()
    for path in sorted((HOUSE / room).rglob("*.py")):
        for package, runs in imported(ast.parse(path.read_bytes())):
            declared = CORE if runs else CORE | EXTRAS
            assert package in declared, (
                f"{path.relative_to(HOUSE)} imports {package}, which pyproject.toml declares in no "
                f"{'dependency' if runs else 'dependency or extra'}"
            )
            seen.add(package)
    assert "numpy" in seen  # the walk saw something


def test_imports_are_told_apart() -> None:
    source = """
import numpy
if TYPE_CHECKING:
    from peft import PeftConfig
class Loads:
    from PIL import Image
    def later(self):
        import sklearn.svm, os
        from .near import here
"""
    expected = {("numpy", True), ("peft", False), ("pillow", True), ("scikit-learn", False)}
    assert set(imported(ast.parse(source))) == expected


def test_what_is_declared_is_pinned() -> None:
    lock = (HOUSE / "requirements.lock").read_text()
    pinned = set(re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE))
    missing = (CORE | EXTRAS | DEVELOPMENT) - pinned
    assert not missing
