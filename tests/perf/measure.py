"""Two pieces of work against each other: interleaved pairs, ratios, medians."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Pairs:
    """Seconds of `ours` and `theirs`, pair by pair; `cpu` holds both in seconds of processor time."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    cpu: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    def ratios(self) -> list[float]:
        """How many times faster ours is, for each pair."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def cpu_ratio(self) -> float:
        """The same of processor time: what is left to read where other programs took turns."""
        return statistics.median(theirs / ours for ours, theirs in zip(*self.cpu, strict=True))


@dataclass(frozen=True)
class Row:
    """One line of the table.

    compared: what against what; ours, theirs: medians in `unit`; ratio: the median of the pairs' ratios;
    spread: its quartiles; bound: in words, "" without one; met: None without a bound; samples: all
    that was measured, by name.
    """

    name: str
    compared: str
    unit: str
    ours: float
    theirs: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    cpu_ratio: float | None = None
    bound: str = ""
    met: bool | None = None
    note: str = ""
    samples: dict[str, list[float]] = field(default_factory=dict)


def interleave(ours: Work, theirs: Work, count: int, device: str = "cpu") -> Pairs:
    """Time both `count` times, in turns that change places (A B, B A, ...); one run of each goes before."""
    ours()
    theirs()
    found = Pairs()
    for number in range(count):
        turns = [(ours, found.ours, found.cpu[0]), (theirs, found.theirs, found.cpu[1])]
        for work, kept, processor in turns if number % 2 == 0 else reversed(turns):
            seconds, cpu = timed(work, device)
            kept.append(seconds)
            processor.append(cpu)
    return found


def timed(work: Work, device: str = "cpu") -> tuple[float, float]:
    """Seconds on the clock, and of processor time, children included; an accelerator is waited for."""
    cpu, started = _processor_time(), time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, _processor_time() - cpu


def _processor_time() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def rates(
    name: str, compared: str, images: int, pairs: Pairs, *, at_least: float | None = None, note: str = ""
) -> Row:
    """A row of images per second; `at_least` bounds the ratio from below."""
    ratio = statistics.median(pairs.ratios())
    return Row(
        name=name,
        compared=compared,
        unit="images/s",
        ours=images / statistics.median(pairs.ours),
        theirs=images / statistics.median(pairs.theirs),
        ratio=ratio,
        spread=quartiles(pairs.ratios()),
        cpu_ratio=pairs.cpu_ratio(),
        bound="" if at_least is None else f">= {at_least:g}",
        met=None if at_least is None else ratio >= at_least,
        note=note,
        samples={"ours_s": pairs.ours, "theirs_s": pairs.theirs},
    )


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third
