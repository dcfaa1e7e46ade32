"""What exists: methods, streams and backbones, ours and foreign, found without importing torch.

Ours are files in the rooms' folders, read as syntax trees; foreign ones are entry points in
`carryover.methods`, `carryover.streams` and `carryover.backbones`, read as syntax trees too where their
source is found. A plugin is imported when it is asked for. One that cannot be had is listed with its
reason, which is also the error for whoever asks for it, and costs nobody else.
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
    """All streams by name; one class may stand behind several names."""
    return _joined("stream", _our_streams(), "carryover.streams")


def backbones() -> dict[str, Plugin]:
    """All backbones that have a name of their own; any of timm's is one besides."""
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
    """The plugin and the class of a method; RequestError for an unknown name or one that does not load.

    name: a listed one, `sklearn:` and a classifier's import path, or a file (`./mine.py`, `./mine.py:Mine`),
    whose code runs by this.
    """
    from methods.base import Method

    if file.is_path(name):
        return file.method_in(name)
    if name.startswith(SKLEARN):
        return _sklearn(name)
    way_out = (
        "A file in methods/ with a class of that name adds one (carryover new method NAME); ./FILE.py is one "
        "as it is, and so is sklearn:CLASS."
    )
    plugin = _known("method", name, methods(), way_out)
    found = importing.load("method", plugin)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise RequestError(f"method {name!r}: {plugin.module}:{plugin.attribute} is no subclass of Method")
    check_method(f"method {name!r}", found)
    return plugin, found


def stream_plugin(name: str) -> Plugin:
    """The plugin behind a stream's name without parameters, also where its class takes any `split:SOURCE`."""
    from benchmarks.stream import Stream

    known = streams()
    for plugin in known.values() if name not in known else ():
        if plugin.origin == OURS and not plugin.problem:
            found = importing.load("stream", plugin)
            if isinstance(found, type) and issubclass(found, Stream) and found.accepts(name):
                return plugin
    return _known("stream", name, known, "split:SOURCE makes one of any source.")


def stream_class(name: str) -> tuple[Plugin, type[Stream]]:
    """The plugin and the class of a stream, by its name without parameters; errors as for a method."""
    from benchmarks.stream import Stream

    plugin = stream_plugin(name)
    found = importing.load("stream", plugin)
    if not (isinstance(found, type) and issubclass(found, Stream)):
        raise RequestError(f"stream {name!r}: {plugin.module}:{plugin.attribute} is no subclass of Stream")
    check_options(f"stream {name!r}", found, "Parameters")
    return plugin, found


def backbone_plugin(name: str) -> Plugin:
    """Who brings a backbone, as typed; errors as for a method, but any name that is not ours is timm's."""

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
            f"backbone {bare!r}: {plugin.module}:{plugin.attribute} is a {type(recipe).__name__}, not "
            "a Recipe of `carryover`; make it one"
        )
    if recipe.name != bare:
        raise RequestError(
            f"backbone {bare!r}: the Recipe at {plugin.module}:{plugin.attribute} is named {recipe.name!r}; "
            "give both one name"
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
    """Ours and the entry points of `group`; a name that is taken twice is a problem that names both sides."""
    found: dict[str, Plugin] = {}
    for plugin in [*ours, *_foreign(group)]:
        other = found.get(plugin.name)
        same = other is not None and (other.module, other.attribute) == (plugin.module, plugin.attribute)
        if other is not None and not same:
            said = (
                f"two {kind}s are named {plugin.name!r}: one of {_whose(other)}, one of {_whose(plugin)}; "
                "uninstall or rename one"
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
    """Those of every distribution in the folders of the import path, read once as long as these stay."""
    return tuple(importlib.metadata.entry_points(group=group))


def _changed(path: Path) -> tuple[Path, int]:
    """The path, and when what lies there changed; 0 where nothing does."""
    try:
        return path, path.stat().st_mtime_ns
    except OSError:
        return path, 0


def _our_streams() -> Iterator[Plugin]:
    """Of every module in the streams' folder; streams import no torch, so they are imported."""
    from benchmarks.stream import Stream

    for path in sorted((HOUSE / "benchmarks" / "streams").glob("[!_]*.py")):
        module = f"benchmarks.streams.{path.stem}"
        try:
            loaded = importlib.import_module(module)
        except Exception as error:  # someone's unfinished file
            line = getattr(error, "lineno", None)
            where = f"{path}:{line}" if line else str(path)
            said = (
                f"{where}: {type(error).__name__}: {getattr(error, 'msg', error)}; mend or remove that file"
            )
            yield Plugin(path.stem, "", OURS, module, path.stem, problem=said)
            continue
        for attribute, value in vars(loaded).items():
            if isinstance(value, type) and issubclass(value, Stream) and value.__module__ == module:
                for name, summary in value.catalogue.items():
                    yield Plugin(name, summary, OURS, module, attribute)


def _classes_in(room: str) -> Iterator[Plugin]:
    """Classes with a `name = "..."`; the first line of a class or else of its file is the summary."""
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
    """A file is parsed once: a table asks for every method of every record."""
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
    """(what the source says of `attribute` in a line, what is wrong with it)."""
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
        raise RequestError(f"{path}:{error.lineno}: {error.msg}; mend or remove that file") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read as Python ({error}); mend or remove that file") from None


def _constants(node: ast.ClassDef) -> dict[str, object]:
    """Class attributes that are assigned a literal."""
    found: dict[str, object] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = statement.value.value
    return found
