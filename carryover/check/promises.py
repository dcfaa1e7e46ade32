"""The promises of a method, in the order in which they are tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from carryover.check import answers, edges, network, options, predicting, running, storing
from carryover.check.subject import Subject


@dataclass(frozen=True)
class Promise:
    """
    check(subject): BrokenError if the promise is broken, NotApplicableError if it cannot be tested; the first
        line of its docstring is the promise
    after: promises that this one depends on; if one of them is broken, this one is not tested, so that a
        fault is reported once
    everywhere: tested on every tiny backbone and stream, not only on some; once: tested on a single one
    """

    name: str
    check: Callable[[Subject], None]
    after: tuple[str, ...] = ("supports",)
    everywhere: bool = False
    once: bool = False

    @property
    def says(self) -> str:
        return (self.check.__doc__ or "").strip().partition("\n")[0].rstrip(".")


PROMISES = (
    Promise("config", options.documented, (), once=True),
    Promise("supports", running.supported, (), everywhere=True),
    Promise("columns", predicting.columns, everywhere=True),
    Promise("learns", predicting.learns, ("supports", "columns")),
    Promise("defaults", options.defaults_run, ("config", "columns"), once=True),
    Promise("identity at init", network.identity_at_init, everywhere=True),
    Promise("frozen", network.frozen_stays, everywhere=True),
    Promise("state", storing.held_by_safetensors, everywhere=True),
    Promise("predict", predicting.nothing_changes, ("supports", "state"), everywhere=True),
    Promise("restore", storing.restored, ("predict",)),
    Promise("tensor order", storing.in_any_order, ("restore",)),
    Promise("image alone", predicting.image_alone, ("restore",)),
    Promise("state_for", storing.state_for_tells, ("predict",), everywhere=True),
    Promise("cell", running.a_cell, ("columns", "predict")),
    Promise("again", running.again, ("cell", "state_for")),
    Promise("generators", running.own_generators, ("again",)),
    Promise("goes on", storing.goes_on, ("restore", "again", "generators")),
    Promise("forgetting", storing.forgets_nothing, ("state_for",), everywhere=True),
    Promise("footprint", storing.footprint, ("state",), everywhere=True),
    Promise("trainable", storing.trainable, ("state",), everywhere=True),
    Promise("passes", storing.passes, everywhere=True),
    Promise("answers", answers.no_reach),
    Promise("NaN", edges.loss_not_a_number, ("state",)),
    Promise("one class", edges.one_class, ("columns",)),
    Promise("one image", edges.one_image, ("columns",)),
    Promise("unknown task", predicting.unknown_task, ("predict",)),
    Promise("episodes", predicting.in_batches, ("predict",)),
)
