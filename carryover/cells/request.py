"""The request on the command line: a matrix of cells, and how to run it."""

from __future__ import annotations

import itertools
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import RequestError
from benchmarks.naming import parse
from benchmarks.sources.paths import escaped, parts_of
from carryover.records.record import Cell, Option, show_option

ALL = "all"


@dataclass(frozen=True)
class Request:
    """A matrix of cells, and how to run it.

    methods: may carry options of their own (`lora?rank=4`), which override `options`, those of all methods;
    orders: of classes, as typed; empty for the usual one of each stream; devices: empty to choose
    automatically; report: where a worker says which record it wrote.
    """

    methods: tuple[str, ...]
    streams: tuple[str, ...]
    backbones: tuple[str, ...]
    seeds: tuple[int, ...]
    options: Mapping[str, Option]
    orders: tuple[str, ...] = ()
    results: Path | None = None
    devices: tuple[str, ...] = ()
    threads: int | None = None
    eval_batch: int = 256
    reuse: bool = True
    selection: str | None = None
    jobs: int = 1
    workers: int = 2
    timeout: float | None = None
    save_states: bool = False
    wandb: str | None = None
    quiet: bool = False
    report: Path | None = None

    @classmethod
    def typed(cls, asked: Mapping[str, Any]) -> Request:
        """From the values of the command line; RequestError for a malformed seed or option."""
        return cls(
            methods=_methods(asked["method"]),
            streams=_names("stream", asked["stream"]),
            backbones=_names("backbone", asked["backbone"]),
            seeds=tuple(_seed(text) for text in _names("seed", asked["seed"])),
            options=dict(option(text) for text in asked["options"]),
            orders=_names("order", order) if (order := asked.get("order")) else (),
            devices=_names("device", device) if (device := asked.get("device")) else (),
            reuse=not asked["no_reuse"],
            **{
                name: asked[name]
                for name in (
                    "results",
                    "threads",
                    "eval_batch",
                    "jobs",
                    "workers",
                    "timeout",
                    "selection",
                )
                if name in asked
            },
            save_states=asked.get("save_states", False),
            wandb=asked.get("wandb"),
            quiet=asked.get("quiet", False),
            report=asked.get("report"),
        )

    def cells(self) -> list[Cell]:
        """The matrix, methods outermost; RequestError for malformed options."""
        variants = [(name, {**self.options, **own}) for name, own in map(parse, self.methods)]
        return [
            Cell(method=method, stream=stream, backbone=backbone, order=order, seed=seed, options=options)
            for (method, options), stream, backbone, order, seed in itertools.product(
                variants, self.streams, self.backbones, self.orders or (None,), self.seeds
            )
        ]

    def words(
        self, cell: Cell | None = None, method: str | None = None, device: str | None = None
    ) -> list[str]:
        """The command line of this request, of one of its cells, or of another method in that place."""
        words = ["run", "--method", method or _listed([cell.method] if cell else self.methods)]
        words += ["--stream", _listed([cell.stream] if cell else self.streams)]
        words += ["--backbone", _listed([cell.backbone] if cell else self.backbones)]
        own = self.orders if cell is None or method else [cell.order] if cell.order else []
        words += ["--order", _listed(own)] if own else []
        words += ["--seed", ",".join(map(str, [cell.seed] if cell and not method else self.seeds))]
        if method is None:
            options = cell.options if cell else self.options
            words += [
                word for name, value in options.items() for word in ("-o", f"{name}={show_option(value)}")
            ]
        devices = device or ",".join(self.devices) or None
        given = [("--results", self.results), ("--device", devices), ("--threads", self.threads)]
        words += [word for name, value in given if value is not None for word in (name, str(value))]
        words += [] if self.eval_batch == 256 else ["--eval-batch", str(self.eval_batch)]
        words += [] if self.reuse else ["--no-reuse"]
        words += [] if self.selection is None else ["--selection", self.selection]
        words += ["--save-states"] if self.save_states else []
        if cell is None:  # these options concern all cells, not one of them
            how: list[tuple[str, object, object]] = [
                ("--jobs", self.jobs, 1),
                ("--workers", self.workers, 2),
                ("--timeout", self.timeout, None),
                ("--wandb", self.wandb, None),
            ]
            words += [word for name, said, usual in how if said != usual for word in (name, str(said))]
            words += ["--quiet"] if self.quiet else []
        return words


def command(words: Sequence[str]) -> str:
    """The line to type for `words`; it names the path of `carryover` if that is not the one on PATH."""
    started, found = sys.argv[0], shutil.which("carryover")
    hidden = found is None or Path(found).resolve() != Path(started).resolve()
    ours = Path(started).name == "carryover"
    return shlex.join([started if ours and hidden else "carryover", *words])


# The flags of values that may be given more than once.
_REPEATED = {"options": "-o", "probes": "--probe"}


def again(name: str, argument: str, asked: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """The command line that repeats this command, with its argument and those of `keys` that were given."""
    words = [name, argument]
    for key in keys:
        value, flag = asked[key], _REPEATED.get(key, f"--{key.replace('_', '-')}")
        if isinstance(value, bool):
            words += [flag] * value
        elif value is not None:
            words += [word for one in (value if key in _REPEATED else [value]) for word in (flag, str(one))]
    return words


def option(text: str) -> tuple[str, str]:
    """(name, value) of `KEY=VALUE`; RequestError for anything else."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise RequestError(f"the option {text!r} is not of the form KEY=VALUE; write -o KEY=VALUE")
    return name, value


def _names(kind: str, text: str) -> tuple[str, ...]:
    """The names between commas; a comma before a number belongs to a parameter (`?mean=0.4,0.4,0.4`), and one
    within the path of a folder or file to the path."""
    names: list[str] = []
    for part in filter(None, (part.strip() for part in parts_of(text, ","))):
        if names and "?" in names[-1] and _is_number(part.partition("&")[0]):
            names[-1] += f",{part}"
        else:
            names.append(part)
    if not names:
        raise RequestError(f"{text!r} names no {kind}; write --{kind} NAME")
    return tuple(dict.fromkeys(names))


def _listed(names: Sequence[str]) -> str:
    """`names` as they are typed: a comma that belongs to a path is marked."""
    return ",".join(escaped(name) if "/" in name else name for name in names)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _methods(text: str) -> tuple[str, ...]:
    """The named methods; "all" stands for those that `carryover ls` lists without a problem."""
    names = _names("method", text)
    if ALL not in names:
        return names
    from carryover.plugins import catalogue

    every = [name for name, plugin in catalogue.methods().items() if not plugin.problem]
    return tuple(dict.fromkeys(one for name in names for one in (every if name == ALL else [name])))


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise RequestError(f"the seed {text!r} is not a whole number from 0; write --seed 0,1,2")
    return int(text)
