"""How options are chosen: candidates from a method's search space, fitted under one budget, compared on
validation data, the choice frozen before any test image is read.

    search?candidates=4&epochs=5

`candidates` bounds how many are tried, `epochs` how often each may see its training images: candidates
x image passes is the budget, the same for every method. A candidate that diverges or trains on more
than its passes is recorded and never chosen. A choice is made once, with the splits and draws of seed
0, kept in `choices/`, and used by the cells of every seed; it is written after every candidate, so that
a killed run goes on with the next.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from backbones.training import TrainingError
from benchmarks.errors import RequestError
from benchmarks.naming import canonical, parse, typed
from benchmarks.progress import Progress
from benchmarks.store import locked, write_atomic
from carryover.protocols.work import PredictionError, Trial
from carryover.record import Candidate, Option, Selection

SEARCH, DEFAULT, MANUAL = "search", "default", "manual"
DIVERGED = (TrainingError, PredictionError, FloatingPointError)


class NothingToChooseError(RuntimeError):
    """Every candidate of a trial diverged or was over its budget."""


@dataclass(frozen=True)
class Rule:
    """
    candidates: how many of a method's search space are tried at most, the first option varying fastest
    epochs: how often a candidate may see its training images; 0: as often as its Config says
    """

    candidates: int = 4
    epochs: int = 5

    def __post_init__(self) -> None:
        for name, least in (("candidates", 1), ("epochs", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} is below {least}")

    @classmethod
    def typed(cls, text: str) -> Rule | None:
        """None for "default"; RequestError for a rule that is none."""
        name, parameters = parse(text)
        if name == DEFAULT and not parameters:
            return None
        if name != SEARCH:
            raise RequestError(
                f"there is no selection {text!r}; take default, or search?candidates=4&epochs=5"
            )
        return typed(SEARCH, "parameter", cls, parameters)

    @property
    def name(self) -> str:
        """Canonical, as it is typed."""
        return canonical(SEARCH, self)

    def describe(self) -> str:
        """In words, for the contract."""
        passes = f"at most {self.epochs}" if self.epochs else "their Config's"
        return (
            f"{SEARCH}: the best on validation data of at most {self.candidates} candidates, {passes} epochs"
        )


class Choice(Struct, frozen=True, kw_only=True):
    """What was tried so far. Complete when every trial has all its candidates."""

    rule: str
    candidates: tuple[Candidate, ...] = ()


def candidates(config: Any, fixed: Mapping[str, Option], rule: Rule) -> list[tuple[dict[str, Option], Any]]:
    """(options, config) of each candidate; `fixed` are options typed by hand, which are not searched.

    The product of the search space's values, in which the option named first varies fastest, cut off
    after `rule.candidates`.
    """
    names = [field.name for field in dataclasses.fields(config)]
    budget: dict[str, Option] = {"epochs": rule.epochs, "min_steps": 0} if rule.epochs else {}
    forced = {name: value for name, value in budget.items() if name in names and name not in fixed}
    space = {name: values for name, values in type(config).search.items() if name not in fixed}
    grid = itertools.islice(itertools.product(*reversed(space.values())), rule.candidates)
    points = [dict(zip(space, reversed(point), strict=True)) for point in grid]
    return [(point, dataclasses.replace(config, **forced | point)) for point in points]


def select(
    trials: Sequence[Trial],
    config: Any,
    fixed: Mapping[str, Option],
    rule: Rule,
    path: Path,
    progress: Progress,
) -> tuple[dict[str, Any], Selection]:
    """The config for each trial by name, and what the record says of it.

    path: of the choice, named by its key; it is taken over as far as it is there. NothingToChooseError
    where no candidate of a trial can be chosen.
    """
    points = candidates(config, fixed, rule)
    with locked(path.with_suffix(".lock"), waiting=progress.warn):
        choice = _read(path, rule)
        known = {(made.trial, _named(made.options)): made for made in choice.candidates}
        with progress.bar("candidates", len(trials) * len(points), "candidate") as bar:
            for trial, (options, candidate) in itertools.product(trials, points):
                place = trial.name, _named(options)
                if place not in known:
                    # With nothing to choose from, nothing is fitted to choose by.
                    known[place] = (
                        _tried(trial, options, candidate, rule)
                        if len(points) > 1
                        else Candidate(trial=trial.name, options=options)
                    )
                    choice = Choice(rule=rule.name, candidates=tuple(known.values()))
                    write_atomic(path, msgspec.json.format(msgspec.json.encode(choice), indent=1))
                bar.advance(1)
    configs, chosen = {}, {}
    for trial in trials:
        tried = [(known[trial.name, _named(options)], made) for options, made in points]
        best, configs[trial.name] = _best(trial, tried)
        chosen[trial.name] = best.options
    return configs, Selection(
        rule=rule.describe(),
        budget=rule.epochs * len(points) * max(trial.images for trial in trials),
        choice=path.stem,
        chosen=chosen,
        candidates=tuple(known[trial.name, _named(o)] for trial in trials for o, _ in points),
    )


def _tried(trial: Trial, options: dict[str, Option], config: Any, rule: Rule) -> Candidate:
    try:
        score, passes = trial.score(config)
    except DIVERGED as error:
        return Candidate(trial=trial.name, options=options, reason=f"diverged: {error}")
    allowed = rule.epochs * trial.images
    if rule.epochs and passes > allowed:
        reason = f"over the budget: {passes} image passes of {allowed}"
        return Candidate(trial=trial.name, options=options, score=score, passes=passes, reason=reason)
    return Candidate(trial=trial.name, options=options, score=score, passes=passes)


def _best(trial: Trial, tried: Sequence[tuple[Candidate, Any]]) -> tuple[Candidate, Any]:
    """The highest score; of equal ones the smaller learning rates, then the earlier candidate."""
    fit = [(made, config) for made, config in tried if not made.reason]
    if not fit:
        said = "; ".join(f"{_named(made.options)}: {made.reason}" for made, _ in tried)
        raise NothingToChooseError(f"{trial.name}: no candidate can be chosen ({said})")

    def order(pair: tuple[Candidate, Any]) -> tuple[float, ...]:
        rates = (float(v) for n, v in pair[0].options.items() if "lr" in n and isinstance(v, int | float))
        return (-(pair[0].score or 0.0), *rates)

    return min(fit, key=order)


def _read(path: Path, rule: Rule) -> Choice:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Choice)
    except (FileNotFoundError, msgspec.DecodeError):
        return Choice(rule=rule.name)


def _named(options: Mapping[str, Option]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(options.items())) or "the defaults"
