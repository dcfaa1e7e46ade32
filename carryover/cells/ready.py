"""Opens and checks every cell of a request before the first one starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import torch

from backbones import numerics
from backbones.backbone import Backbone, open_backbone
from backbones.numerics import Numerics
from benchmarks.errors import RequestError
from benchmarks.naming import parse, typed
from benchmarks.progress import Progress
from benchmarks.store import Store
from benchmarks.stream import Place, Stream, StreamInfo
from carryover.cells.key import code_of, content_of, protocol_module, sha256_of
from carryover.cells.request import Request
from carryover.cells.selection import Rule
from carryover.metrics.kinds import kind_of
from carryover.plugins.catalogue import backbone_plugin, method_class, stream_class
from carryover.plugins.code import Reach
from carryover.plugins.plugin import Plugin
from carryover.protocols.work import Protocol
from carryover.records.contract import Contract, contract_of
from carryover.records.record import DEFAULT, MANUAL, SCHEMA, Cell, Option, Record
from carryover.records.results import Results
from methods.base import Method

ASKED = {"numerics", "evaluation"}  # key parts that a user chooses apart from the cell


@dataclass(frozen=True)
class Conditions:
    """The settings of a run that may change a bit of the result.

    reuse: reuse evaluations whose state did not change; eval_batch: images per prediction step;
    selection: how options are chosen, as typed; None: the default of the stream.
    """

    numerics: Numerics
    reuse: bool = True
    eval_batch: int = 256
    selection: str | None = None


@dataclass(frozen=True, eq=False)
class ReadyCell:
    """A cell whose parts exist and fit; `refusal`: the reason if the method does not support them."""

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
        """The named hashes that enter the key; a stale record says which of them changed."""
        info = self.stream.info
        code = self.code
        numerics, backbone = self.conditions.numerics, self.backbone
        parts: dict[str, object] = {
            "schema": SCHEMA.partition(".")[0],
            "method": self.cell.method,
            "stream": info.identity,
            # Only for methods that use the pool: for the others, the cell is the same with any pool.
            "pool": pool.fingerprint if (pool := self.stream.pool) is not None and self.prepares else None,
            "backbone": [backbone.identity, backbone.weights, backbone.preprocessing.describe()],
            "seed": self.cell.seed,
            # With the typed options: a typed default is another cell, under another contract.
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
        return {name: sha256_of(value) for name, value in parts.items()}

    @cached_property
    def code(self) -> Reach:
        """The code that the cell reaches, and the versions of other packages."""
        return code_of(self.plugins, self.stream.info.protocol, searched=self.rule is not None)

    @property
    def typed(self) -> Cell:
        """The cell with names that can be typed: the path of a method in a file, the list of an order."""
        method, order = self.plugins["method"], self.stream.info.order
        name = self.cell.method if method.path is None else f"{method.path}:{method.attribute}"
        asked = order.typed if order is not None else None
        return msgspec.structs.replace(self.cell, method=name, order=asked)

    @cached_property
    def rule(self) -> Rule | None:
        """The rule that chooses options; None if the values of the Config are used."""
        info = self.stream.info
        usual = kind_of(info.protocol).selection
        return Rule.typed(self.conditions.selection or info.selection or usual)

    @property
    def protocol(self) -> Protocol:
        """The module of the stream's protocol."""
        return protocol_module(self.stream.info.protocol)

    @property
    def prepares(self) -> bool:
        """Whether the method prepares something before its first task."""
        return self.method.prepare is not Method.prepare

    @property
    def _space(self) -> dict[str, list[Any]]:
        return {name: list(values) for name, values in self.config.space().items()}

    @cached_property
    def choice(self) -> str:
        """The key of the choice of options, shared by the cells of all seeds."""
        return sha256_of({name: part for name, part in self.key_parts.items() if name != "seed"})

    @cached_property
    def key(self) -> str:
        return sha256_of(self.key_parts)

    @cached_property
    def contract(self) -> Contract:
        info, backbone = self.stream.info, self.backbone
        preprocessing = backbone.preprocessing
        return contract_of(
            info,
            protocol=self.protocol.VERSION,
            scenario=self.protocol.scenario(info),
            preprocessing=preprocessing.rule,
            backbone=f"{backbone.identity}, {backbone.info.pools}, {preprocessing.normalisation}",
            selection=self.selection,
        )

    @property
    def selection(self) -> str:
        """The selection for the contract: default, manual, or the rule, and whether options were typed."""
        typed = bool(self.cell.options)
        if self.rule is None:
            return MANUAL if typed else DEFAULT
        return self.rule.describe(by_hand=typed)


class Workshop:
    """Opens methods, streams and backbones once for all cells of a request."""

    def __init__(self, place: Place, conditions: Conditions) -> None:
        self.place = place
        self.conditions = conditions
        self._streams: dict[tuple[str, str | None], tuple[Plugin, Stream]] = {}
        self._backbones: dict[str, tuple[Plugin, Backbone]] = {}

    def ready(self, cell: Cell) -> ReadyCell:
        """The opened cell; RequestError for unknown names or options, missing data, broken weights."""
        method_plugin, method = method_class(cell.method)
        config = typed(cell.method, "option", method.Config, cell.options)
        check_config(cell.method, config)
        stream_plugin, stream = self._stream(cell.stream, cell.order)
        backbone_plugin, backbone = self._backbone(cell.backbone)
        refusal = method.supports(config, stream.info, backbone.info) or self._unchosen(stream)
        plugins = {"method": method_plugin, "stream": stream_plugin, "backbone": backbone_plugin}
        options = {name: config_dict(config)[name] for name in cell.options}
        named = Cell(
            method=method_plugin.name,
            stream=stream.info.name,
            backbone=backbone.name,
            seed=cell.seed,
            order=order.name if (order := stream.info.order) is not None else None,
            options=options,
        )
        ready = ReadyCell(named, method, config, stream, backbone, self.conditions, plugins, refusal)
        _check_budget(ready)
        return ready

    def _unchosen(self, stream: Stream) -> str | None:
        """Why the requested search is impossible on this stream; None if it is possible or not requested."""
        asked = self.conditions.selection
        if asked is None or Rule.typed(asked) is None:
            return None
        return protocol_module(stream.info.protocol).unchosen(stream)

    def _stream(self, name: str, order: str | None) -> tuple[Plugin, Stream]:
        """The stream in an order: the one beside its name, the one in its name, or its usual one."""
        if (name, order) not in self._streams:
            bare, parameters = parse(name)
            plugin, found = stream_class(bare)
            if order is not None:
                if "order" not in {field.name for field in dataclasses.fields(found.Parameters)}:
                    raise RequestError(f"{bare} has no order of classes to choose; leave out order {order}")
                if parameters.setdefault("order", order) != order:
                    raise RequestError(f"{name} is asked for in the order {order} as well; name one order")
            chosen = typed(bare, "parameter", found.Parameters, parameters)
            stream = found(bare, chosen, self.place)
            check_classes(stream.info)
            self._streams[name, order] = plugin, stream
        return self._streams[name, order]

    def _backbone(self, name: str) -> tuple[Plugin, Backbone]:
        if name not in self._backbones:
            plugin = backbone_plugin(name)
            opened = open_backbone(name, store=self.place.store, numerics=self.conditions.numerics)
            self._backbones[name] = plugin, opened
        return self._backbones[name]


def ready_cells(request: Request, progress: Progress) -> list[ReadyCell]:
    """The cells of a request, opened and checked; RequestError if one cannot be opened."""
    store = Store.default()
    store.waiting = progress.warn
    place = Place(store, progress, request.workers)
    found = numerics_of(request, store)[0]
    workshop = Workshop(place, Conditions(found, request.reuse, request.eval_batch, request.selection))
    return [workshop.ready(cell) for cell in request.cells()]


def finished(ready: ReadyCell, results: Results) -> Record | None:
    """The successful record with this key; None if there is none."""
    found = (r for r in results.find(ready.cell) if r.key == ready.key and r.status == "ok")
    return next(found, None)


def outdated(ready: ReadyCell, results: Results) -> list[str] | None:
    """The key parts that changed since the newest successful record of this cell; None if none is stale.

    Records under another contract, or made with other numerics or evaluation settings, do not count.
    """
    for record in results.find(ready.cell):
        if record.status == "ok" and record.key != ready.key and record.contract == ready.contract:
            parts = [n for n, digest in ready.key_parts.items() if record.key_parts.get(n) != digest]
            if not set(parts) & ASKED:
                return parts
    return None


def numerics_of(request: Request, store: Store) -> list[Numerics]:
    """The numerics of each device that runs cells: the named ones, else all GPUs that `jobs` can use.

    They are equal except for the device number, so a record does not depend on which device it was.
    RequestError for a missing device, and for named devices that compute differently.
    """
    named = [
        numerics.choose(name, store, request.threads) for name in request.devices or _devices(request.jobs)
    ]
    for other in named[1:]:
        if _alike(other) != _alike(named[0]):
            raise RequestError(
                f"{named[0].describe()} and {other.describe()} compute differently; name one of them"
            )
    return named


def _devices(jobs: int) -> Sequence[str | None]:
    """All GPUs of the model of the first one, at most `jobs`; None: the device of a single cell."""
    if jobs == 1 or torch.cuda.device_count() < 2:
        return [None]
    models = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [f"cuda:{number}" for number, model in enumerate(models) if model == models[0]][:jobs]


def _alike(found: Numerics) -> Numerics:
    """The numerics without the parts that are in no key."""
    return replace(found, device=found.device.partition(":")[0], device_name="")


def config_dict(config: Any) -> dict[str, Option]:
    """All options of a config with their values."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    # As a record gives them back.
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def check_config(method: str, config: Any) -> None:
    """RequestError for option values that no method can train with."""
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
            raise RequestError(f"{method}: the option {name}={value} is negative; take 0 or more")


def check_classes(info: StreamInfo) -> None:
    """RequestError where there is nothing to tell apart: every method would be right."""
    if info.protocol == "few_shot":
        return
    if len(info.class_names) < 2:
        raise RequestError(
            f"{info.name} has one class, {info.class_names[0]!r}, so that every method is right; check that "
            "the folders of its source are the classes"
        )
    alone = info.of_one_class
    if alone and info.protocol == "transfer":
        name = info.task_names[alone[0]] if info.task_names else f"task {alone[0]}"
        raise RequestError(
            f"{info.name}: {name} has one class, {info.class_names[info.classes[alone[0]][0]]!r}, so that "
            "every method is right; check that the folders of its source are the classes, or leave it out"
        )


def _check_budget(ready: ReadyCell) -> None:
    """RequestError if more epochs were typed than the rule allows, since no candidate could be chosen."""
    rule, epochs = ready.rule, ready.cell.options.get("epochs")
    if rule is not None and rule.epochs and isinstance(epochs, int) and epochs > rule.epochs:
        raise RequestError(
            f"{ready.cell.method}: epochs={epochs} was typed, but a candidate of {rule.name} may train for "
            f"{rule.epochs}; leave epochs out, or write --selection '{replace(rule, epochs=epochs).name}'"
        )
