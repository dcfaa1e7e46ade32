"""Promises about the Config of a method, and the Config that a check uses."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import msgspec

from backbones.training import TrainingError
from benchmarks.errors import RequestError
from benchmarks.naming import typed
from carryover.cells.ready import check_config, config_dict
from carryover.check.subject import Subject
from carryover.check.verdict import BrokenError, expect, told
from carryover.plugins.options import where
from methods.base import Method

# Options for a short training; meta-training and pre-tuning are short even where the defaults are tested.
PREPARING = {"updates": 2, "pretune_epochs": 1}
QUICK = {"epochs": 2, "batch_size": 16, "min_steps": 0, "steps": 5, **PREPARING}


def quick(cls: type[Method], options: dict[str, str], short: dict[str, int] | None = None) -> Any:
    """The Config of a method with `options`, and with a short training if it has such options."""
    short = QUICK if short is None else short
    known = {field.name for field in dataclasses.fields(cls.Config)}
    values = {name: value for name, value in short.items() if name in known}
    config = typed(cls.name, "option", cls.Config, {**values, **options})
    check_config(cls.name, config)
    return config


def documented(subject: Subject) -> None:
    """Config is frozen, typed and documented; defaults and search space have the right types."""
    cls = subject.cls
    config = cls.Config
    frozen = vars(config)["__dataclass_params__"].frozen
    expect(
        frozen,
        "a frozen dataclass: @dataclass(frozen=True)",
        f"a mutable Config, {where(config)}",
    )
    said = " ".join(filter(None, map(_doc, config.__mro__)))
    for field in dataclasses.fields(config):
        told_of = re.search(rf"\b{re.escape(field.name)}\b", said)
        expect(bool(told_of), f"the option {field.name} in Config's docstring", "no mention of it")
    defaults = config()
    again = msgspec.json.decode(msgspec.json.encode(config_dict(defaults)))
    for name, value in config_dict(defaults).items():
        _fits(cls, name, again[name], f"the default {name}={value!r}")
    for name, values in config.search.items():
        known = name in config_dict(defaults)
        expect(known, f"a search space of options: {', '.join(config_dict(defaults))}", f"{name!r} in it")
        for value in values:
            _fits(cls, name, value, f"{name}={value!r} in the search space")


def defaults_run(subject: Subject) -> None:
    """The defaults run: a task is learnt and predicted with them."""
    config = quick(subject.cls, {}, PREPARING)
    if subject.cls.supports(config, subject.stream.info, subject.backbone.info) is not None:
        config = subject.config  # only the typed options are supported here
    task = subject.lesson.tasks[0]
    try:
        method = subject.prepared(config=config)
        method.learn(task)
        method.predict(subject.lesson.exam.inputs(task.id), subject.lesson.known(task.id))
    except RequestError:
        raise
    except (TrainingError, Exception) as error:
        raise BrokenError("a task learnt with the defaults of Config", told(error)) from error


def _fits(cls: type[Method], name: str, value: object, what: str) -> None:
    try:
        typed(cls.name, "option", cls.Config, {name: value})
    except RequestError as error:
        raise BrokenError(f"{what} of the option's type", str(error)) from None


def _doc(layer: type) -> str:
    """The docstring of the class itself; a dataclass without one has its signature instead."""
    said = layer.__dict__.get("__doc__") or ""
    return "" if said.startswith(f"{layer.__name__}(") else said
