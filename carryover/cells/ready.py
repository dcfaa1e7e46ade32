"""A cell made ready: everything checked and known before the first one starts, and its key.

key = sha256 over what the result depends on: schema, the cell's names resolved to hashes, config,
the code it reaches, package versions, data and split, weights, dtype, device class, threads. Never in
it: worker counts, timeouts, paths, the accelerator's index, logging, the order of cells.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from backbones.backbone import Backbone, open_backbone
from backbones.catalogue import own_recipes
from backbones.numerics import Numerics
from benchmarks.errors import RequestError
from benchmarks.naming import parse, typed
from benchmarks.stream import Place, Stream
from carryover.cells.selection import DEFAULT, MANUAL, SEARCH, Rule, space_of
from carryover.metrics.continual import protocol_of
from carryover.plugins.catalogue import (
    SKLEARN,
    Plugin,
    backbone_plugin,
    method_class,
    methods,
    stream_class,
    stream_plugin,
)
from carryover.plugins.code import ROOMS, Reach, reach
from carryover.plugins.file import remembered
from carryover.protocols import continual, few_shot, transfer
from carryover.records.contract import Contract, contract_of
from carryover.records.record import SCHEMA, Cell, Option, Record
from methods.base import Method

PRESETS = "benchmarks.streams.presets"  # only lists, as the files of recipes do
PROTOCOLS = {"continual": continual, "few_shot": few_shot, "transfer": transfer}


@dataclass(frozen=True)
class Conditions:
    """How cells are run, where that may change a bit of the result.

    reuse: take over evaluations whose state did not change; eval_batch: images per prediction step;
    selection: how options are chosen, as typed; None: as the stream has it.
    """

    numerics: Numerics
    reuse: bool = True
    eval_batch: int = 256
    selection: str | None = None


@dataclass(frozen=True, eq=False)
class ReadyCell:
    """One cell whose parts exist and fit; `refusal` is the method's reason where it does not support them."""

    cell: Cell
    method: type[Method]
    config: Any
    stream: Stream
    backbone: Backbone
    conditions: Conditions
    plugins: dict[str, Plugin]
    refusal: str | None

    @cached_property
    def key_parts(self) -> dict[str, str]:
        """Named hashes of all that enters the key; a stale record says which of them changed."""
        info = self.stream.info
        code = self.code
        numerics, backbone = self.conditions.numerics, self.backbone
        parts: dict[str, object] = {
            "schema": SCHEMA.partition(".")[0],
            "method": self.cell.method,
            "stream": info.identity,
            # Of those alone that look at it: the others are the same cell whatever the pool.
            "pool": pool.fingerprint if (pool := self.stream.pool) is not None and self.prepares else None,
            "backbone": [backbone.identity, backbone.weights, backbone.preprocessing.describe()],
            "seed": self.cell.seed,
            # What was typed as well: a default that is typed is another cell, under another contract.
            "config": [config_dict(self.config), self.cell.options],
            "code": code.modules,
            "packages": code.packages,
            "numerics": [
                numerics.device.partition(":")[0],
                numerics.dtype,
                numerics.threads,
                numerics.fused_training,
            ],
            "evaluation": [self.conditions.reuse, self.conditions.eval_batch],
            "selection": None if self.rule is None else [self.rule.name, self.rule.describe(), self._space],
            "files": [content_of(path) for path in self.method.files(self.config, backbone)],
        }
        return {name: _sha256(value) for name, value in parts.items()}

    @cached_property
    def code(self) -> Reach:
        """The code that it reaches, and the packages of others."""
        return code_of(self.plugins, self.stream.info.protocol, searched=self.rule is not None)

    @property
    def typed(self) -> Cell:
        """The cell under names that can be typed: a method that is a file is found by its path."""
        method = self.plugins["method"]
        if method.path is None:
            return self.cell
        return msgspec.structs.replace(self.cell, method=f"{method.path}:{method.attribute}")

    @property
    def seeded_as(self) -> str:
        """What the method's own draws are named after: no file's hash, so that an edit draws the same."""
        return self.cell.method.partition("@")[0]

    @cached_property
    def rule(self) -> Rule | None:
        """How options are chosen; None where the Config's own values are used."""
        info = self.stream.info
        usual = SEARCH if info.protocol == "transfer" else DEFAULT
        return Rule.typed(self.conditions.selection or info.selection or usual)

    @property
    def prepares(self) -> bool:
        """Whether the method does something before its first task."""
        return self.method.prepare is not Method.prepare

    @property
    def _space(self) -> dict[str, list[Any]]:
        return {name: list(values) for name, values in space_of(self.config).items()}

    @cached_property
    def choice(self) -> str:
        """The key of the choice of options, which cells of all seeds share."""
        return _sha256({name: part for name, part in self.key_parts.items() if name != "seed"})

    @cached_property
    def key(self) -> str:
        return _sha256(self.key_parts)

    @cached_property
    def contract(self) -> Contract:
        info, backbone = self.stream.info, self.backbone
        preprocessing = backbone.preprocessing
        return contract_of(
            info,
            protocol=PROTOCOLS[info.protocol].VERSION,
            preprocessing=preprocessing.rule,
            backbone=f"{backbone.identity}, pooling {backbone.info.pooling}, {preprocessing.normalisation}",
            selection=self.selection,
        )

    @property
    def selection(self) -> str:
        """For the contract: default, manual, or the rule, with options typed by hand said beside it."""
        typed = bool(self.cell.options)
        if self.rule is None:
            return MANUAL if typed else DEFAULT
        return self.rule.describe(by_hand=typed)


def code_of(plugins: Mapping[str, Plugin], protocol: str, *, searched: bool) -> Reach:
    """The code that a cell of these plugins (by kind: method, stream, backbone) reaches.

    searched: whether its options were chosen by a rule. Of the files that list the backbones of the house,
    only the recipe of its own counts, and of those that list streams nothing: another that is added makes no
    record stale.
    """
    recipes, backbone = own_recipes(), plugins.get("backbone")
    house = ["backbones.backbone", PROTOCOLS[protocol].__name__, *["carryover.cells.selection"] * searched]
    own = {*ROOMS, *(plugin.package for plugin in plugins.values() if plugin.entry or plugin.path)}
    ours = [plugin for plugin in plugins.values() if plugin.package in own]
    found = reach(
        [*(plugin.module for plugin in ours), *house],
        own,
        named=[module for plugin in plugins.values() for module in plugin.named],
        files={plugin.module: plugin.path for plugin in plugins.values() if plugin.path},
        without={PRESETS, *(module for module, _ in recipes)},
    )
    used = {
        f"recipe {recipe.name}": _sha256([dict(recipe.arguments), recipe.statistics, recipe.network])
        for _, recipe in recipes
        if backbone is not None and recipe.name == backbone.name
    }
    brought = {name: version for plugin in ours for name, version in plugin.distribution.items()}
    packages = dict(sorted((found.packages | brought).items()))
    return replace(found, modules=found.modules | used, packages=packages)


def content_of(path: Path) -> str:
    """sha256 of a file; RequestError where it cannot be read."""
    try:
        return hashlib.sha256(path.expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); name a file that is there") from error


def is_stale(record: Record) -> bool:
    """Whether the code that made `record` has changed since; True where its plugins are gone."""
    try:
        plugins = {
            "method": _recorded_method(record),
            "stream": stream_plugin(parse(record.cell.stream)[0]),
            "backbone": backbone_plugin(record.cell.backbone),
        }
    except (KeyError, RequestError):
        return True
    protocol = protocol_of(record.contract).replace("-", "_")
    searched = record.contract.get("selection", DEFAULT).startswith(SEARCH)
    code = code_of(plugins, protocol, searched=searched)
    return record.key_parts.get("code") != _sha256(code.modules)


def _recorded_method(record: Record) -> Plugin:
    """KeyError or RequestError for one that is gone; nothing is run to know."""
    name = record.cell.method
    if name.startswith(SKLEARN):
        return method_class(name)[0]
    file = remembered(name, record.plugin.get("method", "")) if "@" in name else None
    return file or methods()[name]


class Workshop:
    """Opens methods, streams and backbones once for all cells of a request."""

    def __init__(self, place: Place, conditions: Conditions) -> None:
        self.place = place
        self.conditions = conditions
        self._streams: dict[str, tuple[Plugin, Stream]] = {}
        self._backbones: dict[str, tuple[Plugin, Backbone]] = {}

    def ready(self, cell: Cell) -> ReadyCell:
        """RequestError for whatever cannot be: unknown names, options, missing data, broken weights."""
        method_plugin, method = method_class(cell.method)
        config = typed(cell.method, "option", method.Config, cell.options)
        check_config(cell.method, config)
        stream_plugin, stream = self._stream(cell.stream)
        backbone_plugin, backbone = self._backbone(cell.backbone)
        refusal = method.supports(config, stream.info, backbone.info) or self._unchosen(stream)
        plugins = {"method": method_plugin, "stream": stream_plugin, "backbone": backbone_plugin}
        options = {name: config_dict(config)[name] for name in cell.options}
        named = Cell(
            method=method_plugin.name,
            stream=stream.info.name,
            backbone=backbone.name,
            seed=cell.seed,
            options=options,
        )
        ready = ReadyCell(named, method, config, stream, backbone, self.conditions, plugins, refusal)
        _check_budget(ready)
        return ready

    def _unchosen(self, stream: Stream) -> str | None:
        """Why options cannot be chosen as asked: a few-shot stream may have nothing to choose them on."""
        asked = self.conditions.selection
        if stream.info.protocol != "few_shot" or asked is None or Rule.typed(asked) is None:
            return None
        if stream.pool is not None and stream.pool.validation is not None:
            return None
        return f"{stream.info.name} has no validation classes to choose options on; take --selection default"

    def _stream(self, name: str) -> tuple[Plugin, Stream]:
        if name not in self._streams:
            bare, parameters = parse(name)
            plugin, found = stream_class(bare)
            chosen = typed(bare, "parameter", found.Parameters, parameters)
            self._streams[name] = plugin, found(bare, chosen, self.place)
        return self._streams[name]

    def _backbone(self, name: str) -> tuple[Plugin, Backbone]:
        if name not in self._backbones:
            plugin = backbone_plugin(name)
            opened = open_backbone(name, store=self.place.store, numerics=self.conditions.numerics)
            self._backbones[name] = plugin, opened
        return self._backbones[name]


def config_dict(config: Any) -> dict[str, Option]:
    """All options of a config with their values."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def check_config(method: str, config: Any) -> None:
    """RequestError for values that no method can train with."""
    limits: dict[str, tuple[float, float]] = {
        "epochs": (1, 10**6),
        "batch_size": (1, 10**6),
        "min_steps": (0, 10**9),
        "dropout": (0, 0.99),
        "label_smoothing": (0, 0.99),
    }
    for name, value in config_dict(config).items():
        low, high = limits.get(name, (float("-inf"), float("inf")))
        if isinstance(value, int | float) and not low <= value <= high:
            raise RequestError(f"{method}: the option {name}={value} lies outside {low} to {high}")
        if (name.endswith("lr") or name == "weight_decay") and isinstance(value, int | float) and value < 0:
            raise RequestError(f"{method}: the option {name}={value} is negative")


def _check_budget(ready: ReadyCell) -> None:
    """RequestError where the typed epochs are more than the rule allows: no candidate could be chosen."""
    rule, epochs = ready.rule, ready.cell.options.get("epochs")
    if rule is not None and rule.epochs and isinstance(epochs, int) and epochs > rule.epochs:
        raise RequestError(
            f"{ready.cell.method}: epochs={epochs} was typed, and a candidate of {rule.name} may train for "
            f"{rule.epochs}; leave epochs out, or take --selection '{replace(rule, epochs=epochs).name}'"
        )


def _sha256(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
