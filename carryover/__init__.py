"""Carryover: what a vision model carries over from one task to the next.

The roof of the house (`benchmarks`, `backbones`, `methods` below it): protocols, cells, records,
metrics, tables and the command line. A plugin imports from here alone:

    from carryover import GradientMethod, Backbone, Task

The names are loaded when they are used, so that the command line stays light.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbones.backbone import Backbone as Backbone
    from backbones.backbone import BackboneInfo as BackboneInfo
    from backbones.training import ParameterGroup as ParameterGroup
    from benchmarks.errors import RequestError as RequestError
    from benchmarks.images import Inputs as Inputs
    from benchmarks.images import Labelled as Labelled
    from benchmarks.stream import Exam as Exam
    from benchmarks.stream import Place as Place
    from benchmarks.stream import Stream as Stream
    from benchmarks.stream import StreamInfo as StreamInfo
    from benchmarks.stream import Task as Task
    from methods.base import Context as Context
    from methods.base import Footprint as Footprint
    from methods.base import GradientMethod as GradientMethod
    from methods.base import Method as Method

__version__ = "0.1.0"

_HOME = {
    "Backbone": "backbones.backbone",
    "BackboneInfo": "backbones.backbone",
    "Context": "methods.base",
    "Exam": "benchmarks.stream",
    "Footprint": "methods.base",
    "GradientMethod": "methods.base",
    "Inputs": "benchmarks.images",
    "Labelled": "benchmarks.images",
    "Method": "methods.base",
    "ParameterGroup": "backbones.training",
    "Place": "benchmarks.stream",
    "RequestError": "benchmarks.errors",
    "Stream": "benchmarks.stream",
    "StreamInfo": "benchmarks.stream",
    "Task": "benchmarks.stream",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'carryover' has no attribute {name!r}; it exports {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _check_rooms() -> None:
    """The rooms' names are common words: say so at once if something else is found under one of them."""
    house = Path(__file__).resolve().parent.parent
    for room in ("benchmarks", "backbones", "methods"):
        spec = importlib.util.find_spec(room)
        found = [Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
        if house / room not in found:
            where = found[0] if found else (spec.origin if spec else "nothing")
            raise ImportError(
                f"Carryover's package {room!r} is shadowed by {where}: rename that, or take its folder off "
                f"the import path (PYTHONPATH, or start with the `carryover` command rather than `python -m`)"
            )


_check_rooms()
