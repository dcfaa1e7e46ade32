"""The outcome of testing a promise: passed, failed, or not applicable."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from benchmarks.errors import RequestError

Status = Literal["passed", "failed", "not applicable"]


class BrokenError(Exception):
    """A promise is broken: what was expected, and what was seen instead."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen


class NotApplicableError(Exception):
    """This promise cannot be tested here; the message says why."""


def expect(kept: bool, expected: str, seen: str) -> None:
    """Raise BrokenError unless `kept`."""
    if not kept:
        raise BrokenError(expected, seen)


def not_applicable(why: str) -> NoReturn:
    """Raise NotApplicableError."""
    raise NotApplicableError(why)


@dataclass(frozen=True)
class Verdict:
    """The outcome for one promise, over all places where it was tested.

    place: where it failed first; reason: why it is not applicable; places: at how many it passed.
    """

    promise: str
    says: str
    status: Status
    expected: str = ""
    seen: str = ""
    place: str = ""
    reason: str = ""
    places: int = 0
    seconds: float = 0.0


def told(error: BaseException) -> str:
    """An error in one line, with the line of the plugin (or the last one) that raised it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:300]} ({place.filename}:{place.lineno})"


def each(name: str, checks: Sequence[tuple[str, Callable[[], None]]]) -> Iterator[Verdict]:
    """A verdict for each (promise, check); the docstring of a check is the promise."""
    for promise, check in checks:
        started = time.monotonic()
        says = (check.__doc__ or "").strip().rstrip(".")
        try:
            check()
        except NotApplicableError as error:
            yield Verdict(promise, says, "not applicable", reason=str(error))
        except (BrokenError, Exception) as error:
            broken = error if isinstance(error, BrokenError) else BrokenError("no error", told(error))
            if isinstance(error, RequestError):
                raise
            seconds = time.monotonic() - started
            yield Verdict(promise, says, "failed", broken.expected, broken.seen, name, seconds=seconds)
        else:
            yield Verdict(promise, says, "passed", places=1, seconds=time.monotonic() - started)
