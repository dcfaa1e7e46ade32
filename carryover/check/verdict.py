"""What became of a promise: kept, broken, or nothing to be kept here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn

Status = Literal["passed", "failed", "not applicable"]


class BrokenError(Exception):
    """A promise is broken: what was expected, and what was seen instead."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen


class NotApplicableError(Exception):
    """There is nothing that this promise could be tried on; the message says why."""


def expect(kept: bool, expected: str, seen: str) -> None:
    """BrokenError unless `kept`."""
    if not kept:
        raise BrokenError(expected, seen)


def not_applicable(why: str) -> NoReturn:
    raise NotApplicableError(why)


@dataclass(frozen=True)
class Verdict:
    """Of one promise, over all places where it was tried.

    place: of the first failure; reason: why it is not applicable; places: on how many it was kept.
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
