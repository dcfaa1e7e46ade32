"""What exists: methods, streams and backbones, ours and foreign, found without importing torch.

Ours are files in the rooms' folders, read as syntax trees; foreign ones are entry points in
`carryover.methods`, `carryover.streams` and `carryover.backbones`. A plugin that cannot be loaded is
named with its reason when it is asked for, and costs nobody else.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import RequestError, unknown

if TYPE_CHECKING:
    from benchmarks.stream import Stream
    from methods.base import Method

HOUSE = Path(__file__).resolve().parent.parent
OURS = "carryover"


@dataclass(frozen=True)
class Plugin:
    """A name that a user may type.

    origin: "carryover", or the package and version that brings it; module and attribute: where its
    class is; reference: it declares itself a row that every table should have.
    """

    name: str
    summary: str
    origin: str
    module: str
    attribute: str
    reference: bool = False
    entry: EntryPoint | None = field(default=None, compare=False)

    @property
    def package(self) -> str:
        """The top-level package whose source belongs to the plugin."""
        return self.module.partition(".")[0]


def methods() -> dict[str, Plugin]:
    """All methods by name."""
    found = {plugin.name: plugin for plugin in _classes_in("methods")}
    return _joined("method", found, "carryover.methods")


def streams() -> dict[str, Plugin]:
    """All streams by name; one class may stand behind several names."""
    found = {}
    for path in sorted((HOUSE / "benchmarks" / "streams").glob("[!_]*.py")):
        module = f"benchmarks.streams.{path.stem}"
        for name, attribute, summary in _catalogue(module):
            found[name] = Plugin(name, summary, OURS, module, attribute)
    return _joined("stream", found, "carryover.streams")


def method_class(name: str) -> tuple[Plugin, type[Method]]:
    """The plugin and the class of a method; RequestError for an unknown name or one that does not load."""
    from methods.base import Method

    plugin = _known("method", name, methods(), "A file in methods/ with a class of that name adds one.")
    found = _load("method", plugin)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise RequestError(f"method {name!r}: {plugin.module}:{plugin.attribute} is no subclass of Method")
    return plugin, found


def stream_plugin(name: str) -> Plugin:
    """The plugin behind a stream's name without parameters, also where its class takes any `split:SOURCE`."""
    from benchmarks.stream import Stream

    known = streams()
    for plugin in known.values() if name not in known else ():
        if plugin.origin == OURS:
            found = _load("stream", plugin)
            if isinstance(found, type) and issubclass(found, Stream) and found.accepts(name):
                return plugin
    return _known("stream", name, known, "split:SOURCE makes one of any source.")


def stream_class(name: str) -> tuple[Plugin, type[Stream]]:
    """The plugin and the class of a stream, by its name without parameters; errors as for a method."""
    from benchmarks.stream import Stream

    plugin = stream_plugin(name)
    found = _load("stream", plugin)
    if not (isinstance(found, type) and issubclass(found, Stream)):
        raise RequestError(f"stream {name!r}: {plugin.module}:{plugin.attribute} is no subclass of Stream")
    return plugin, found


def _known(kind: str, name: str, plugins: dict[str, Plugin], way_out: str) -> Plugin:
    if name not in plugins:
        raise unknown(kind, name, plugins, way_out)
    return plugins[name]


def _load(kind: str, plugin: Plugin) -> object:
    try:
        return getattr(importlib.import_module(plugin.module), plugin.attribute)
    except Exception as error:  # a plugin may raise anything while it is imported
        reason = f"{type(error).__name__}: {error}"
        raise RequestError(
            f"{kind} {plugin.name!r} of {plugin.origin} cannot be loaded from {plugin.module}: {reason}"
        ) from error


def _joined(kind: str, ours: dict[str, Plugin], group: str) -> dict[str, Plugin]:
    """Ours and the entry points of `group`; RequestError names both sides of a name that is taken."""
    found = dict(ours)
    for entry in importlib.metadata.entry_points(group=group):
        owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
        if entry.name in found and found[entry.name].module != entry.module:
            raise RequestError(
                f"two {kind}s are named {entry.name!r}: one of {found[entry.name].origin}, one of {owner}; "
                "uninstall or rename one"
            )
        found[entry.name] = Plugin(entry.name, "", owner, entry.module, entry.attr, entry=entry)
    return dict(sorted(found.items()))


def _classes_in(room: str) -> Iterator[Plugin]:
    """Classes with a `name = "..."`; the first line of a class or else of its file is the summary."""
    folder = HOUSE / room
    for path in sorted([*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")]):
        module = f"{room}.{path.stem if path.name != '__init__.py' else path.parent.name}"
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError as error:
            raise RequestError(f"{path}:{error.lineno}: {error.msg}; mend or remove that file") from None
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                values = _constants(node)
                if isinstance(values.get("name"), str):
                    said = ast.get_docstring(node) or ast.get_docstring(tree) or ""
                    summary = said.partition("\n")[0]
                    reference = values.get("reference") is True
                    yield Plugin(str(values["name"]), summary, OURS, module, node.name, reference)


def _constants(node: ast.ClassDef) -> dict[str, object]:
    """Class attributes that are assigned a literal."""
    found: dict[str, object] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = statement.value.value
    return found


def _catalogue(module: str) -> Iterator[tuple[str, str, str]]:
    """(name, class, summary) of every stream in a module; streams import no torch, so they are imported."""
    from benchmarks.stream import Stream

    loaded = importlib.import_module(module)
    for attribute, value in vars(loaded).items():
        if isinstance(value, type) and issubclass(value, Stream) and value.__module__ == module:
            for name, summary in value.catalogue.items():
                yield name, attribute, summary
