"""Which code a cell reaches, as hashes: part of its key, so that a changed method is a changed result.

Modules are hashed as syntax trees without docstrings and comments, so that rewording costs nothing.
The walk follows import statements, also those inside functions, through the rooms of the house and
through a plugin's own package; everything else counts by its installed version.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOMS = ("benchmarks", "backbones", "methods", "carryover")


@dataclass(frozen=True)
class Reach:
    """modules: syntax hash per module of ours; packages: version per foreign distribution."""

    modules: dict[str, str]
    packages: dict[str, str]


def reach(roots: Iterable[str], own: Iterable[str] = ROOMS) -> Reach:
    """All that the modules `roots` import, directly or not.

    own: top-level packages that are followed and hashed (the house's rooms and a plugin's package).
    """
    followed = tuple(own)
    modules: dict[str, str] = {}
    foreign: set[str] = set()
    waiting = [name for root in roots for name in _with_parents(root)]
    while waiting:
        name = waiting.pop()
        if name in modules:
            continue
        path = _path(name)
        if path is None:
            continue
        digest, imports = _read(path, path.stat().st_mtime_ns, name)
        modules[name] = digest
        for imported in imports:
            top = imported.partition(".")[0]
            if top in followed:
                waiting.extend(_with_parents(imported))
            elif top not in sys.stdlib_module_names:
                foreign.add(top)
    return Reach(dict(sorted(modules.items())), _versions(foreign))


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


@cache
def _path(name: str) -> Path | None:
    """The source file of a module, or None where the name is no module (a class imported from one)."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not spec.submodule_search_locations:
        return Path(spec.origin) if spec.origin and not rest else None
    folder = Path(next(iter(spec.submodule_search_locations))).joinpath(*rest)
    for path in (folder / "__init__.py", folder.with_suffix(".py")):
        if path.is_file():
            return path
    return None


@cache
def _read(path: Path, changed: int, name: str) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_bytes())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports = tuple(dict.fromkeys(_imports(tree, package)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            # `from room import module` names a module; `_path` drops what is a class or function.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _versions(tops: Iterable[str]) -> dict[str, str]:
    owners = _distributions()
    names = {owner for top in tops for owner in owners.get(top, ())}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
