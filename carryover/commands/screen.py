"""Progress on the screen: live bars on a terminal, occasional lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from benchmarks.progress import Bar, Progress


def shown(quiet: bool = False) -> Progress:
    """Bars if standard error is a terminal, otherwise lines; only warnings with `quiet`."""
    if quiet:
        return Lines(every=float("inf"))
    return Bars() if sys.stderr.isatty() else Lines()


class _Rate(TextColumn):
    """The speed of a bar in units per second."""

    def __init__(self) -> None:
        super().__init__("{task.fields[rate]}", style="dim")


class Bars:
    """Nested live bars: the current work, its progress, speed and remaining time."""

    def __init__(self) -> None:
        self._live = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", style="dim"),
            console=Console(stderr=True),
            transient=True,
        )
        self._depth = 0

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "") -> Iterator[Bar]:
        if self._depth == 0:
            self._live.start()
        task = self._live.add_task("  " * self._depth + title, total=total, note="", rate="")
        self._depth += 1
        try:
            yield _RichBar(self._live, task, unit)
        finally:
            self._depth -= 1
            self._live.remove_task(task)
            if self._depth == 0:
                self._live.stop()

    def warn(self, message: str) -> None:
        self._live.console.print(f"[yellow]warning:[/yellow] {message}", highlight=False, soft_wrap=True)


class _RichBar:
    def __init__(self, live: RichProgress, task: TaskID, unit: str) -> None:
        self._live, self._task, self._unit = live, task, unit

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._live.update(self._task, advance=amount)
        speed = self._live.tasks[self._live.task_ids.index(self._task)].speed
        rate = f"{speed:.1f} {self._unit}/s" if speed and self._unit else ""
        self._live.update(self._task, rate=rate)
        if note:
            self._live.update(self._task, note=note)


class Lines:
    """At most one line every `every` seconds, for logs and pipes."""

    def __init__(self, every: float = 15.0) -> None:
        self._every = every
        self._said = time.monotonic()
        self._titles: list[str] = []

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "") -> Iterator[Bar]:
        self._titles.append(title)
        try:
            yield _Line(self, total, unit)
        finally:
            self._titles.pop()

    def warn(self, message: str) -> None:
        print(f"warning: {message}", file=sys.stderr, flush=True)

    def _say(self, text: str) -> None:
        if time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            print(f"{' > '.join(self._titles)}: {text}", file=sys.stderr, flush=True)


class _Line:
    def __init__(self, lines: Lines, total: int, unit: str) -> None:
        self._lines, self._total, self._unit = lines, total, unit
        self._done, self._since, self._base = 0, time.monotonic(), 0

    def advance(self, amount: int = 1, note: str = "") -> None:
        if self._done == 0:  # work done before a resume says nothing about the speed
            self._base, self._since = amount, time.monotonic()
        self._done += amount
        elapsed = time.monotonic() - self._since
        rate = (self._done - self._base) / elapsed if elapsed > 0 else 0.0
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
        self._lines._say(f"{self._done}/{self._total} {self._unit} ({rate:.1f}/s{left})  {note}".rstrip())
