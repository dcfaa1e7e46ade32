"""The catalogue of methods, streams and backbones, ours and foreign, made without importing torch.

Ours are files in the packages' folders, read as syntax trees; foreign ones are entry points in
`carryover.methods`, `carryover.streams` and `carryover.backbones`, read as syntax trees too if their
source is found. A plugin is imported when it is requested. One that cannot be loaded is listed with the
reason, which is also the error when it is requested; it affects no other plugin.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

from backbones import catalogue
from backbones.recipe import Recipe
from benchmarks.errors import RequestError, unknown
from carryover import HOUSE
from carryover.plugins import file, importing
from carryover.plugins.code import source_of
from carryover.plugins.options import check_method, check_options
from carryover.plugins.plugin import OURS, SKLEARN, Plugin

if TYPE_CHECKING:
    from benchmarks.stream import Stream
    from methods.base import Method


def methods() -> dict[str, Plugin]:
    """All methods by name."""
    return _joined("method", _classes_in("methods"), "carryover.methods")


def streams() -> dict[str, Plugin]:
    """All streams by name; one class may have several names."""
    return _joined("stream", _our_streams(), "carryover.streams")


def backbones() -> dict[str, Plugin]:
    """All backbones with a name of their own; any model of timm is a backbone as well."""
    ours = [
        Plugin(recipe.name, catalogue.summary_of(recipe), OURS, module, "RECIPES", named=_network(recipe))
        for module, recipe in catalogue.own_recipes()
    ]
    for path in catalogue.recipe_files():
        module = f"{catalogue.FOLDER}.{path.stem}"
        summary, problem = _summary(path, "RECIPE")
        ours.append(Plugin(path.stem, summary, OURS, module, "RECIPE", problem=problem))
    return _joined("backbone", ours, "carryover.backbones")


def method_class(name: str) -> tuple[Plugin, type[Method]]:
    """The plugin and the class of a method; RequestError if it is unknown or cannot be loaded.

    name: a listed one, `sklearn:` and a classifier's import path, or a file (`./mine.py`, `./mine.py:Mine`),
    whose code this runs.
    """
    from methods.base import Method

    if file.is_path(name):
        return file.method_in(name)
    if name.startswith(SKLEARN):
        return _sklearn(name)
    way_out = (
        "`carryover new method NAME` writes one in methods/; ./FILE.py runs a file, and sklearn:CLASS a "
        "classifier of scikit-learn."
    )
    plugin = _known("method", name, methods(), way_out)
    found = importing.load("method", plugin)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise RequestError(
            f"method {name!r}: {plugin.module}:{plugin.attribute} is not a subclass of Method; make it one"
        )
    check_method(f"method {name!r}", found)
    return plugin, found


def stream_plugin(name: str) -> Plugin:
    """The plugin of a stream, by its name without parameters; `split:SOURCE` works too."""
    from benchmarks.stream import Stream

    known = streams()
    for plugin in known.values() if name not in known else ():
        if plugin.origin == OURS and not plugin.problem:
            found = importing.load("stream", plugin)
            if isinstance(found, type) and issubclass(found, Stream) and found.accepts(name):
                return plugin
    return _known("stream", name, known, "split:SOURCE makes a stream of any source.")


def stream_class(name: str) -> tuple[Plugin, type[Stream]]:
    """The plugin and the class of a stream, by its name without parameters; errors as for a method."""
    from benchmarks.stream import Stream

    plugin = stream_plugin(name)
    found = importing.load("stream", plugin)
    if not (isinstance(found, type) and issubclass(found, Stream)):
        raise RequestError(
            f"stream {name!r}: {plugin.module}:{plugin.attribute} is not a subclass of Stream; make it one"
        )
    check_options(f"stream {name!r}", found, "Parameters")
    return plugin, found


def backbone_plugin(name: str) -> Plugin:
    """The plugin of a backbone, as typed; errors as for a method. Names that are not ours belong to timm."""
    bare = name.strip().partition("?")[0].partition(".")[0]
    plugin = backbones().get(bare)
    if plugin is None:
        return Plugin(bare, "", f"timm {importlib.metadata.version('timm')}", "timm", bare)
    if plugin.problem:
        raise RequestError(plugin.problem)
    if plugin.attribute == "RECIPES":
        return plugin
    recipe = importing.load("backbone", plugin)
    if not isinstance(recipe, Recipe):
        raise RequestError(
            f"backbone {bare!r}: {plugin.module}:{plugin.attribute} is a {type(recipe).__name__}; "
            "make it a Recipe of `carryover`"
        )
    if recipe.name != bare:
        raise RequestError(
            f"backbone {bare!r}: the Recipe at {plugin.module}:{plugin.attribute} is named {recipe.name!r}; "
            "give both the same name"
        )
    return replace(plugin, named=_network(recipe))


def _network(recipe: Recipe) -> tuple[str, ...]:
    return (recipe.network.partition(":")[0],)


def _sklearn(name: str) -> tuple[Plugin, type[Method]]:
    from methods.sklearn_classifier import classifier_method

    path = name.removeprefix(SKLEARN)
    found = classifier_method(path)
    summary = f"{path} on the frozen features"
    named = (path.rpartition(".")[0],)
    return Plugin(name, summary, OURS, "methods.sklearn_classifier", path, named=named), found


def _known(kind: str, name: str, plugins: dict[str, Plugin], way_out: str) -> Plugin:
    if name not in plugins:
        raise unknown(kind, name, plugins, way_out)
    if plugins[name].problem:
        raise RequestError(plugins[name].problem)
    return plugins[name]


def _joined(kind: str, ours: Iterable[Plugin], group: str) -> dict[str, Plugin]:
    """Ours and the entry points of `group`; a name that is taken twice is a problem naming both sides."""
    found: dict[str, Plugin] = {}
    for plugin in [*ours, *_foreign(group)]:
        other = found.get(plugin.name)
        same = other is not None and (other.module, other.attribute) == (plugin.module, plugin.attribute)
        if other is not None and not same:
            said = (
                f"two {kind}s are named {plugin.name!r}: one from {_whose(other)}, one from {_whose(plugin)};"
                " uninstall or rename one"
            )
            plugin = replace(other, problem=said)
        found[plugin.name] = plugin
    return dict(sorted(found.items()))


def _whose(plugin: Plugin) -> str:
    return plugin.origin if plugin.entry else f"{plugin.origin} ({plugin.module})"


def _foreign(group: str) -> Iterator[Plugin]:
    for entry in _entry_points(group, tuple(map(_changed, map(Path, sys.path)))):
        owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
        path = source_of(entry.module)
        summary, problem = _summary(path, entry.attr) if path else ("", "")
        if problem:
            problem = f"{entry.name!r} of {owner}: {problem}"
        yield Plugin(entry.name, summary, owner, entry.module, entry.attr, problem=problem, entry=entry)


@cache
def _entry_points(group: str, folders: tuple[tuple[Path, int], ...]) -> tuple[EntryPoint, ...]:
    """The entry points of all distributions on the import path, read again only if its folders change."""
    return tuple(importlib.metadata.entry_points(group=group))


def _changed(path: Path) -> tuple[Path, int]:
    """The path and its modification time; 0 if it does not exist."""
    try:
        return path, path.stat().st_mtime_ns
    except OSError:
        return path, 0


def _our_streams() -> Iterator[Plugin]:
    """The streams of every module in the streams' folder, which are imported since they need no torch."""
    from benchmarks.stream import Stream

    for path in sorted((HOUSE / "benchmarks" / "streams").glob("[!_]*.py")):
        module = f"benchmarks.streams.{path.stem}"
        try:
            loaded = importlib.import_module(module)
        except Exception as error:  # someone's unfinished file
            line = getattr(error, "lineno", None)
            where = f"{path}:{line}" if line else str(path)
            said = f"{where}: {type(error).__name__}: {getattr(error, 'msg', error)}; fix or remove that file"
            yield Plugin(path.stem, "", OURS, module, path.stem, problem=said)
            continue
        for attribute, value in vars(loaded).items():
            if isinstance(value, type) and issubclass(value, Stream) and value.__module__ == module:
                for name, summary in value.catalogue.items():
                    yield Plugin(name, summary, OURS, module, attribute)


def _classes_in(room: str) -> Iterator[Plugin]:
    """Classes with a `name = "..."`; the summary is the first line of the class, or else of its file."""
    folder = HOUSE / room
    for path in sorted([*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")]):
        stem = path.stem if path.name != "__init__.py" else path.parent.name
        module = f"{room}.{stem}"
        try:
            yield from _declared(*_changed(path), module)
        except RequestError as error:
            yield Plugin(stem, "", OURS, module, stem, problem=str(error))


@cache
def _declared(path: Path, changed: int, module: str) -> tuple[Plugin, ...]:
    """The methods that a file declares; parsed once, since a table looks up the method of every record."""
    tree = _tree(path)
    found = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            values = _constants(node)
            if isinstance(values.get("name"), str):
                reference = values.get("reference") is True
                name, summary = str(values["name"]), _first_line(tree, node)
                found.append(Plugin(name, summary, OURS, module, node.name, reference))
    return tuple(found)


def _summary(path: Path, attribute: str) -> tuple[str, str]:
    """(summary of `attribute` in a line, problem with its source)."""
    try:
        tree = _tree(path)
    except RequestError as error:
        return "", str(error)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute]
    return _first_line(tree, *classes), ""


def _first_line(tree: ast.Module, *nodes: ast.ClassDef) -> str:
    said = [*map(ast.get_docstring, nodes), ast.get_docstring(tree)]
    return next(filter(None, said), "").partition("\n")[0]


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise RequestError(f"{path}:{error.lineno}: {error.msg}; fix or remove that file") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read as Python ({error}); fix or remove that file") from None


def _constants(node: ast.ClassDef) -> dict[str, object]:
    """The class attributes with a literal value."""
    found: dict[str, object] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = statement.value.value
    return found
