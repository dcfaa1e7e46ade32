"""The key of a cell: hashes of all that its result depends on.

key = sha256 over: schema, the names of the cell resolved to hashes, config, the code it reaches, package
versions, data and split, weights, dtype, device class, threads. Not in the key: code that only reads records
(metrics, statistics, tables, commands), worker counts, timeouts, paths, the accelerator index, logging, the
order of cells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from backbones.catalogue import own_recipes
from benchmarks.errors import RequestError
from benchmarks.naming import parse
from carryover.metrics.kinds import PROTOCOLS, known_protocol, protocol_of
from carryover.metrics.line import Standing
from carryover.plugins.catalogue import backbone_plugin, method_class, methods, stream_plugin
from carryover.plugins.code import ROOMS, Reach, reach
from carryover.plugins.file import remembered
from carryover.plugins.plugin import SKLEARN, Plugin
from carryover.records.record import DEFAULT, SEARCH, Record

if TYPE_CHECKING:
    from carryover.protocols.work import Protocol

LEARN, SELECTION = "carryover.cells.learn", "carryover.cells.selection"
PRESETS = "benchmarks.streams.presets"  # a list only, like the files of recipes
# Modules that carry bytes and never compute them: files, locks, bars, messages, the shape of records. A test
# changes every constant in them and finds equal rows.
CARRIERS = frozenset(
    {
        "benchmarks.claim",
        "benchmarks.errors",
        "benchmarks.progress",
        "benchmarks.store",
        "carryover",
        "carryover.records.record",
    }
)


def protocol_module(name: str) -> Protocol:
    """The module of a protocol; RequestError if this checkout lacks it."""
    return cast("Protocol", import_module(f"carryover.protocols.{known_protocol(name)}"))


def code_of(plugins: Mapping[str, Plugin], protocol: str, *, searched: bool) -> Reach:
    """The code that computes the numbers of a cell with these plugins (by kind: method, stream, backbone).

    searched: whether a rule chose its options. Of the files that list our backbones, only the recipe of its
    own backbone counts, and of those that list streams nothing, so that adding one makes no record stale.
    CARRIERS do not count.
    """
    recipes, backbone = own_recipes(), plugins.get("backbone")
    house = ["backbones.backbone", f"carryover.protocols.{protocol}", LEARN]
    own = {*ROOMS, *(plugin.package for plugin in plugins.values() if plugin.entry or plugin.path)}
    ours = [plugin for plugin in plugins.values() if plugin.package in own]
    listed = {PRESETS, *(module for module, _ in recipes)}
    found = reach(
        [*(plugin.module for plugin in ours), *house],
        own,
        named=[module for plugin in plugins.values() for module in plugin.named],
        files={plugin.module: plugin.path for plugin in plugins.values() if plugin.path},
        without={*listed, *CARRIERS, *(() if searched else (SELECTION,))},
    )
    used = {
        f"recipe {recipe.name}": sha256_of([dict(recipe.arguments), recipe.statistics, recipe.network])
        for _, recipe in recipes
        if backbone is not None and recipe.name == backbone.name
    }
    brought = {name: version for plugin in ours for name, version in plugin.distribution.items()}
    packages = dict(sorted((found.packages | brought).items()))
    return replace(found, modules=found.modules | used, packages=packages)


def content_of(path: Path) -> str:
    """The sha256 of a file; RequestError if it cannot be read."""
    try:
        return hashlib.sha256(path.expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); name an existing file") from error


def standing(record: Record) -> Standing:
    """Whether this checkout has the code that made `record`, other code, or lacks a plugin or protocol."""
    protocol = protocol_of(record.contract)
    if protocol not in PROTOCOLS:
        return "gone"
    try:
        plugins = {
            "method": _recorded_method(record),
            "stream": stream_plugin(parse(record.cell.stream)[0]),
            "backbone": backbone_plugin(record.cell.backbone),
        }
    except (KeyError, RequestError):
        return "gone"
    searched = record.contract.get("selection", DEFAULT).startswith(SEARCH)
    code = code_of(plugins, protocol, searched=searched)
    return "current" if record.key_parts.get("code") == sha256_of(code.modules) else "stale"


def sha256_of(value: object) -> str:
    """The hash of a plain value; equal for equal values in any order of keys."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


def _recorded_method(record: Record) -> Plugin:
    """The method of a record, found without running code; KeyError or RequestError if it is gone."""
    name = record.cell.method
    if name.startswith(SKLEARN):
        return method_class(name)[0]
    file = remembered(name, record.plugin.get("method", "")) if "@" in name else None
    return file or methods()[name]
