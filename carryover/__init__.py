"""Carryover: what a vision model carries over from one task to the next.

The harness: protocols, cells, records, metrics, tables and the command line, on top of the packages
`benchmarks`, `backbones` and `methods`. A plugin imports from here only:

    from carryover import GradientMethod, Backbone, Task

The names are loaded when they are used, so that the command line starts fast.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbones.backbone import Backbone as Backbone
    from backbones.backbone import BackboneInfo as BackboneInfo
    from backbones.recipe import Recipe as Recipe
    from backbones.sites import Site as Site
    from backbones.training import ParameterGroup as ParameterGroup
    from benchmarks.errors import DataError as DataError
    from benchmarks.errors import RequestError as RequestError
    from benchmarks.images import Chunk as Chunk
    from benchmarks.images import Inputs as Inputs
    from benchmarks.images import Labelled as Labelled
    from benchmarks.naming import canonical as canonical
    from benchmarks.orders import Order as Order
    from benchmarks.orders import order_of as order_of
    from benchmarks.seeds import Seeds as Seeds
    from benchmarks.seeds import generator as generator
    from benchmarks.sources.lookup import open_source as open_source
    from benchmarks.stream import Episode as Episode
    from benchmarks.stream import Exam as Exam
    from benchmarks.stream import Place as Place
    from benchmarks.stream import Pool as Pool
    from benchmarks.stream import Stream as Stream
    from benchmarks.stream import StreamInfo as StreamInfo
    from benchmarks.stream import Task as Task
    from methods.base import Context as Context
    from methods.base import Footprint as Footprint
    from methods.base import GradientMethod as GradientMethod
    from methods.base import Heads as Heads
    from methods.base import Memory as Memory
    from methods.base import Method as Method
    from methods.base import ParameterEfficient as ParameterEfficient
    from methods.base import Stage as Stage
    from methods.base import Step as Step
    from methods.base.efficient import insert as insert
    from methods.base.method import below as below
    from methods.base.method import learnt_tensor as learnt_tensor
    from methods.base.method import stored_bits as stored_bits

__version__ = "0.1.0"

# The folder of the clone, or of the installation.
HOUSE = Path(__file__).resolve().parent.parent

# The module that defines each name.
HOMES = {
    "Backbone": "backbones.backbone",
    "BackboneInfo": "backbones.backbone",
    "Chunk": "benchmarks.images",
    "Context": "methods.base",
    "DataError": "benchmarks.errors",
    "Episode": "benchmarks.stream",
    "Exam": "benchmarks.stream",
    "Footprint": "methods.base",
    "GradientMethod": "methods.base",
    "Heads": "methods.base",
    "Inputs": "benchmarks.images",
    "Labelled": "benchmarks.images",
    "Memory": "methods.base",
    "Method": "methods.base",
    "Order": "benchmarks.orders",
    "ParameterEfficient": "methods.base",
    "ParameterGroup": "backbones.training",
    "Place": "benchmarks.stream",
    "Pool": "benchmarks.stream",
    "Recipe": "backbones.recipe",
    "RequestError": "benchmarks.errors",
    "Seeds": "benchmarks.seeds",
    "Site": "backbones.sites",
    "Stream": "benchmarks.stream",
    "StreamInfo": "benchmarks.stream",
    "Stage": "methods.base",
    "Step": "methods.base",
    "Task": "benchmarks.stream",
    "below": "methods.base.method",
    "canonical": "benchmarks.naming",
    "generator": "benchmarks.seeds",
    "insert": "methods.base.efficient",
    "learnt_tensor": "methods.base.method",
    "open_source": "benchmarks.sources.lookup",
    "order_of": "benchmarks.orders",
    "stored_bits": "methods.base.method",
}
__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'carryover' has no attribute {name!r}; it exports {', '.join(__all__)}")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _check_rooms() -> None:
    """ImportError if another package hides one of ours, whose names are common words."""
    for room in ("benchmarks", "backbones", "methods"):
        spec = importlib.util.find_spec(room)
        found = [Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
        if HOUSE / room not in found:
            where = found[0] if found else (spec.origin if spec else "nothing")
            raise ImportError(
                f"Carryover's package {room!r} is shadowed by {where}: rename it, or remove its folder from "
                f"the import path (PYTHONPATH; or start the `carryover` command instead of `python -m`)"
            )


_check_rooms()
