"""`carryover pretrain`: reads the arguments, runs the pretraining, prints its card."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from backbones.numerics import choose
from backbones.pretraining.run import Plan, RunContext, pretrain
from backbones.pretraining.settings import DEFAULTS, Settings
from backbones.training import TrainingError
from benchmarks.errors import RequestError
from benchmarks.naming import parse, typed
from benchmarks.progress import Progress
from benchmarks.sources.local import LocalSource
from benchmarks.sources.lookup import may_mirror, open_source
from benchmarks.sources.reading import Reading
from benchmarks.sources.source import SourceData
from benchmarks.store import Store, locked
from carryover.cells.machine import said_commit
from carryover.cells.request import again, command
from carryover.commands.screen import shown
from carryover.protocols.journal import CellJournal
from carryover.records.results import slug

OK, FAILED, INTERRUPTED = 0, 1, 130
KEYS = (
    *("source", "objective", "out", "name", "size", "terms", "device", "threads"),
    *("probes", "options", "no_mirror", "quiet"),
)


def run(asked: Mapping[str, Any]) -> int:
    """Pretrain as asked on the command line; the exit code."""
    settings = _settings(asked["objective"], asked["options"])
    store, progress = Store.default(), shown(asked["quiet"])
    numerics = choose(asked["device"], store, asked["threads"])
    folder: Path = asked["out"]
    name = asked["name"] or f"{slug(parse(asked['backbone'])[0])}.{asked['objective']}"
    source = _opened(asked, store, progress)
    for note in source.notes:
        progress.warn(note)
    source = dataclasses.replace(source, terms=asked["terms"] or source.terms)
    mirror = may_mirror(asked["source"]) and not asked["no_mirror"]
    plan = Plan(name, asked["backbone"], asked["objective"], asked["source"], source, settings, mirror)
    probes = {probe: open_source(probe).load(store, progress) for probe in asked["probes"]}
    journal = CellJournal(folder / f"{name}.journal", interval=0)  # every epoch is kept
    context = RunContext(folder, numerics, store, journal, progress, said_commit())
    if not asked["quiet"]:
        print(f"pretraining {plan.backbone} on {numerics.describe()}", file=sys.stderr)
    try:
        with locked(folder / f"{name}.lock", lambda said: progress.warn(said)):
            card = pretrain(plan, context, probes)
    except KeyboardInterrupt:
        way_on = command(again("pretrain", asked["backbone"], asked, KEYS))
        print(f"\ninterrupted; finished epochs are kept. Continue with:\n  {way_on}", file=sys.stderr)
        return INTERRUPTED
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    journal.close()
    Console().print(Markdown(card.markdown().rpartition("\n![")[0]))
    joint = "&" if "?" in card.backbone else "?"
    print(f"\nuse it: --backbone '{card.backbone}{joint}weights={folder}/{name}.safetensors'")
    return OK


def _opened(asked: Mapping[str, Any], store: Store, progress: Progress) -> SourceData:
    """The images to pretrain on; bare ones too, where the objective needs no labels."""
    name, typed_parameters = parse(asked["source"])
    reading = typed(name, "parameter", Reading, typed_parameters)
    source = open_source(name, reading)
    if asked["objective"] != "supervised" and isinstance(source, LocalSource):
        bare = source.load_bare(store, progress, asked["size"])
        if bare is not None:
            return bare
    return source.load(store, progress, size=asked["size"])


def _settings(objective: str, options: tuple[str, ...]) -> Settings:
    """The typed settings, over the defaults of the objective."""
    values: dict[str, object] = dict(DEFAULTS[objective])
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise RequestError(f"option {option!r} has no value; write {option}=VALUE")
        values[key] = value
    return typed("pretrain", "setting", Settings, values)
