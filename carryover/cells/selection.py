"""Chooses options: trains candidates from a method's search space under one budget, compares them on
validation data, and freezes the choice before any test image is read.

    search?candidates=4&epochs=5

`candidates` limits how many are tried, `epochs` how often each may see the images of its task: candidates
x image passes is the budget, the same for every method. Replayed images are counted apart and do not
use it up. A candidate that diverges or exceeds its passes is recorded and never chosen. A choice is made
once, with the splits and draws of seed 0, kept in `choices/`, and used for every seed. It is written after
every candidate, so that a killed run continues with the next one. Cells that run at the same time and need
one choice (the seeds of a method, with --jobs) make it together: each tries a candidate that no other
process is trying.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from backbones.training import TrainingError
from benchmarks.errors import RequestError
from benchmarks.naming import canonical, parse, typed
from benchmarks.progress import Bar, Progress, Silent
from benchmarks.store import locked, try_locked, write_atomic
from carryover.protocols.work import NothingToChooseError, PredictionError, ValidationRun
from carryover.records.record import DEFAULT, MANUAL, SEARCH, Candidate, Option, Selection, show_option

DIVERGED = (TrainingError, PredictionError, FloatingPointError)
OVER = "over the budget"
TOLD = 4  # how many candidates an error names with their reasons
POLL = 0.2  # seconds between two checks of what another process is trying

Known = dict[tuple[str, bytes], Candidate]  # by validation run and options


@dataclass(frozen=True)
class Rule:
    """
    candidates: the most candidates of the search space that are tried; the first option varies fastest
    epochs: how often a candidate may see the images of its task; 0: as often as its Config says
    """

    candidates: int = 4
    epochs: int = 5

    def __post_init__(self) -> None:
        for name, least in (("candidates", 1), ("epochs", 0)):
            if getattr(self, name) < least:
                raise RequestError(f"{SEARCH}: {name}={getattr(self, name)} is below {least}")

    @classmethod
    def typed(cls, text: str) -> Rule | None:
        """The typed rule; None for "default"; RequestError for anything else."""
        name, parameters = parse(text)
        if name == DEFAULT and not parameters:
            return None
        if name != SEARCH:
            raise RequestError(f"unknown selection {text!r}; write default, or search?candidates=4&epochs=5")
        return typed(SEARCH, "parameter", cls, parameters)

    @property
    def name(self) -> str:
        """The canonical name, as it is typed."""
        return canonical(SEARCH, self)

    def describe(self, by_hand: bool = False) -> str:
        """The rule in words, for the contract; a title shows the part before the colon.

        by_hand: whether other options were typed.
        """
        epochs = f"{self.epochs} epochs" if self.epochs else "the epochs of their Config"
        said = f"{SEARCH}, up to {self.candidates} candidates x {epochs}: the best on validation data"
        return f"{said}; others {MANUAL}" if by_hand else said

    @classmethod
    def described(cls, text: str) -> Rule | None:
        """The rule that `describe` put in words; None for options that nothing was searched for."""
        found = re.match(rf"{SEARCH}, up to (\d+) candidates x (?:(\d+) epochs|the epochs of)", text)
        return cls(int(found[1]), int(found[2] or 0)) if found else None


class Choice(Struct, frozen=True, kw_only=True):
    """The candidates tried so far; complete if every validation run has all its candidates."""

    rule: str
    candidates: tuple[Candidate, ...] = ()


def candidates(config: Any, fixed: Mapping[str, Option], rule: Rule) -> list[tuple[dict[str, Option], Any]]:
    """(options, config) of each candidate; `fixed`: typed options, which are not searched.

    The product of the values in the search space, cut off after `rule.candidates`; the first option varies
    fastest.
    """
    names = [field.name for field in dataclasses.fields(config)]
    budget: dict[str, Option] = {"epochs": rule.epochs, "min_steps": 0} if rule.epochs else {}
    forced = {name: value for name, value in budget.items() if name in names and name not in fixed}
    space = {name: values for name, values in replace(config, **forced).space().items() if name not in fixed}
    grid = itertools.islice(itertools.product(*reversed(space.values())), rule.candidates)
    points = [dict(zip(space, reversed(point), strict=True)) for point in grid]
    return [(_as_read(point), replace(config, **forced | point)) for point in points]


def select(
    runs: Sequence[ValidationRun],
    config: Any,
    fixed: Mapping[str, Option],
    rule: Rule,
    path: Path,
    progress: Progress,
) -> tuple[dict[str, Any], Selection]:
    """The chosen config for each validation run by name, and the selection for the record.

    path: of the choice, named by its key; candidates in it are not tried again. A single candidate is trained
    as well, to check that it keeps its budget. NothingToChooseError if no candidate of a run can be chosen.
    """
    points = candidates(config, fixed, rule)
    search = _Search(runs, points, rule, path, progress)

    def said(chosen: dict[str, dict[str, Option]]) -> Selection:
        return Selection(
            rule=rule.describe(by_hand=bool(fixed)),
            budget=rule.epochs * len(points) * max(run.images for run in runs),
            choice=path.stem,
            chosen=chosen,
            candidates=tuple(made for run in runs for made, _ in search.pairs(run)),
        )

    try:
        with progress.bar("candidates", len(runs) * len(points), "candidate") as bar:
            # Candidates of other processes are waited for at the end: by then those are done, or dead.
            for wait in (False, True):
                search.go_through(bar, wait)
    except NothingToChooseError as error:
        error.selection = said({})
        raise
    best = {run.name: search.best(run) for run in runs}
    search.close()
    configs = {name: config for name, (_, config) in best.items()}
    return configs, said({name: made.options for name, (made, _) in best.items()})


class _Search:
    """The candidates of all validation runs, tried by this process and others that share `path`."""

    def __init__(
        self,
        runs: Sequence[ValidationRun],
        points: Sequence[tuple[dict[str, Option], Any]],
        rule: Rule,
        path: Path,
        progress: Progress,
    ) -> None:
        self.points, self.rule, self.path, self.progress = points, rule, path, progress
        self.places = [(run, options, config) for run in runs for options, config in points]
        self.claims = path.with_suffix(".claims")
        self.known: Known = {}
        self.waited = False

    def go_through(self, bar: Bar, wait: bool) -> None:
        """Try the candidates that are not known yet; wait: also for those that other processes are trying.

        NothingToChooseError as soon as all candidates of a run are known and none can be chosen.
        """
        for number, (run, options, config) in enumerate(self.places):
            before = len(self.known)
            if (run.name, _identity(options)) not in self.known:
                self._try(number, run, options, config, wait)
            bar.advance(len(self.known) - before)
            if len(self.pairs(run)) == len(self.points):
                self.best(run)

    def pairs(self, run: ValidationRun) -> list[tuple[Candidate, Any]]:
        """The known candidates of `run` in the order of the search, with their configs."""
        places = [((run.name, _identity(options)), config) for options, config in self.points]
        return [(self.known[place], config) for place, config in places if place in self.known]

    def best(self, run: ValidationRun) -> tuple[Candidate, Any]:
        """The chosen candidate of `run`, all of whose candidates are known."""
        return _best(run, self.pairs(run), self.path)

    def close(self) -> None:
        """Remove the claims, since every candidate is known."""
        with self._locked():
            shutil.rmtree(self.claims, ignore_errors=True)

    def _try(
        self, number: int, run: ValidationRun, options: dict[str, Option], config: Any, wait: bool
    ) -> None:
        place = run.name, _identity(options)
        with ExitStack() as held:
            while not self._claim(number, place, held) and place not in self.known:
                if not wait:
                    return
                self._say_that_it_waits()
                time.sleep(POLL)
            if place not in self.known:
                self._add(place, _tried(run, options, config, self.rule))

    def _claim(self, number: int, place: tuple[str, bytes], held: ExitStack) -> bool:
        """Read what is known; whether `place` is unknown and ours to try until `held` is closed."""
        with self._locked():
            self.known = _read(self.path, self.rule, self.progress)
            # Claim only after this look: the claims are removed, under the same lock, once all is known.
            return place not in self.known and held.enter_context(try_locked(self.claims / f"{number}.lock"))

    def _say_that_it_waits(self) -> None:
        if not self.waited:
            self.progress.warn(
                f"another process is trying a candidate of choice {self.path.stem}; waiting for it"
            )
        self.waited = True

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self.path.with_suffix(".lock"))

    def _add(self, place: tuple[str, bytes], made: Candidate) -> None:
        with self._locked():
            # Silent: the first look already warned about a broken file.
            found = {**_read(self.path, self.rule, Silent()), place: made}
            order = [(run.name, _identity(options)) for run, options, _ in self.places]
            self.known = {place: found[place] for place in order if place in found}
            _write(self.path, self.rule, self.known)


def _tried(run: ValidationRun, options: dict[str, Option], config: Any, rule: Rule) -> Candidate:
    try:
        score, passes = run.score(config)
    except DIVERGED as error:
        return Candidate(trial=run.name, options=options, reason=f"diverged: {error}")
    if not math.isfinite(score):
        raise NothingToChooseError(
            f"{run.name}: the score on validation data is {score}; give it validation images, or run with "
            "--selection default"
        )
    allowed, reason = rule.epochs * run.images, ""
    if rule.epochs and passes > allowed:
        reason = f"{OVER}: {passes} image passes of {allowed}"
    return Candidate(trial=run.name, options=options, score=score, passes=passes, reason=reason)


def _best(run: ValidationRun, pairs: Sequence[tuple[Candidate, Any]], path: Path) -> tuple[Candidate, Any]:
    """The best candidate; of equal scores the smaller learning rates (`lr` first), then the earlier one."""
    fit = [(made, config) for made, config in pairs if not made.reason]
    if not fit:
        said = "; ".join(f"{_named(made.options)}: {made.reason}" for made, _ in pairs[:TOLD])
        more = f"; {len(pairs) - TOLD} more in choices/{path.name}" if len(pairs) > TOLD else ""
        way = (
            f"; the method trains for longer than that: write --selection '{SEARCH}?epochs=0', which leaves "
            "the number of epochs to it"
            if all(made.reason.startswith(OVER) for made, _ in pairs)
            else ""
        )
        raise NothingToChooseError(f"{run.name}: no candidate can be chosen ({said}{more}){way}")

    def order(pair: tuple[Candidate, Any]) -> tuple[float, ...]:
        options = pair[0].options
        named = sorted((name for name in options if "lr" in name), key=lambda name: (name != "lr", name))
        rates = [options[name] for name in named]
        return (-(pair[0].score or 0.0), *(float(rate) for rate in rates if isinstance(rate, int | float)))

    return min(fit, key=order)


def _read(path: Path, rule: Rule, progress: Progress) -> Known:
    """The candidates tried so far; none, with a warning, if the file is broken."""
    try:
        choice = msgspec.json.decode(path.read_bytes(), type=Choice)
        if choice.rule != rule.name:
            raise msgspec.ValidationError(f"it is a choice by {choice.rule}")
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        progress.warn(f"{path} cannot be read ({error}); the choice is made again")
        return {}
    return {(made.trial, _identity(made.options)): made for made in choice.candidates}


def _write(path: Path, rule: Rule, known: Known) -> None:
    choice = Choice(rule=rule.name, candidates=tuple(known.values()))
    write_atomic(path, msgspec.json.format(msgspec.json.encode(choice), indent=1))


def _as_read(options: Mapping[str, Any]) -> dict[str, Option]:
    """The options as they are read from a file: tuples become lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def _identity(options: Mapping[str, Option]) -> bytes:
    """Bytes that are equal for equal options in any order."""
    return msgspec.json.encode(options, order="sorted")


def _named(options: Mapping[str, Option]) -> str:
    said = (f"{name}={show_option(value)}" for name, value in sorted(options.items()))
    return " ".join(said) or "the defaults"
