"""Hashes the code that a cell reaches: part of its key, so that changed code makes its records stale.

Modules are hashed as syntax trees without docstrings and comments, so that rewording costs nothing.
Import statements are followed, also inside functions, through our packages and the plugin's own; other
installed packages count by their version, and modules of no package (on PYTHONPATH) are followed too.
Imports for type checkers do not count, and a name from `carryover` counts as the module that defines it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from carryover import HOMES

ROOMS = ("benchmarks", "backbones", "methods", "carryover")


@dataclass(frozen=True)
class Reach:
    """The code of a cell. modules: syntax hash per followed module; packages: version per distribution."""

    modules: dict[str, str]
    packages: dict[str, str]


def reach(
    roots: Iterable[str],
    own: Iterable[str] = ROOMS,
    *,
    named: Iterable[str] = (),
    files: Mapping[str, Path] | None = None,
    without: Collection[str] = (),
) -> Reach:
    """Everything that the modules `roots` import, directly or indirectly.

    own: top-level packages that are followed and hashed (ours and the package of a plugin); named: modules
    that count as imported; files: sources of modules that no import finds; without: modules that do not
    count.
    """
    followed, outside = tuple(own), files or {}
    modules: dict[str, str] = {}
    foreign: set[str] = set()

    def names(imported: str) -> list[str]:
        top = imported.partition(".")[0]
        if top not in followed and top in sys.stdlib_module_names:
            return []
        if top in followed or top not in _distributions():
            return _with_parents(imported)
        foreign.add(top)
        return []

    waiting = [name for root in roots for name in _with_parents(root)]
    waiting += [name for module in named for name in names(module)]
    while waiting:
        name = waiting.pop()
        if name in modules or name in without:
            continue
        path = outside.get(name) or source_of(name)
        if path is None:
            continue
        modules[name], imports = _read(path, path.stat().st_mtime_ns, name)
        waiting.extend(part for imported in imports for part in names(imported))
    return Reach(dict(sorted(modules.items())), _versions(foreign))


def source_digest(source: bytes) -> str:
    """The sha256 of Python source as a syntax tree without docstrings and comments; may raise SyntaxError."""
    return _digest(ast.parse(source))


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


@cache
def source_of(name: str) -> Path | None:
    """The source file of a module; None if the name is not a module (but a class imported from one)."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not spec.submodule_search_locations:
        path = Path(spec.origin) if spec.origin and not rest else None
        return path if path and path.suffix == ".py" and path.is_file() else None
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
    return _digest(tree), imports


def _digest(tree: ast.Module) -> str:
    """The hash of `tree`, after removing its docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return hashlib.sha256(_said(tree).encode()).hexdigest()


def _said(node: object) -> str:
    """A syntax tree as text that is equal in every version of Python, unlike `ast.dump` (empty fields)."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12.1 ends some format specifications with no text
        parts = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        return f"JoinedStr{_said(parts)}"
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={_said(value)}"
            for name, value in ast.iter_fields(node)
            if name not in ("kind", "type_comment") and value is not None and value != []
        ]
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_said, node))}]"
    return ascii(node)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in _running(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
                yield from HOMES.values() if alias.name == "carryover" else ()
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            for alias in node.names:
                # `from package import module` names a module; `source_of` drops classes and functions.
                home = HOMES.get(alias.name) if base == "carryover" else None
                yield home or f"{base}.{alias.name}"


def _running(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node except those under `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _versions(tops: Iterable[str]) -> dict[str, str]:
    owners = _distributions()
    names = {owner for top in tops for owner in owners.get(top, ())}
    return {name: _version(name) for name in sorted(names)}


@cache
def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
