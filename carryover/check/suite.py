"""All promises of a method, tested on tiny backbones and streams of every protocol."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from backbones.backbone import Backbone, open_backbone
from backbones.numerics import Numerics
from benchmarks.errors import RequestError
from carryover.check.options import quick
from carryover.check.pictures import KINDS, WORDS, Kind, Pictures
from carryover.check.promises import PROMISES, Promise
from carryover.check.subject import Subject
from carryover.check.verdict import BrokenError, NotApplicableError, Verdict, told
from carryover.plugins.options import check_method as check_method_options
from methods.base import Method

BACKBONES = ("tiny_vit", "tiny_swin", "tiny_convnet", "tiny_external_attention")
BROKEN = "broken"


def check_method(
    name: str,
    cls: type[Method],
    options: dict[str, str] | None = None,
    *,
    backbones: Sequence[str] = BACKBONES,
    kinds: Sequence[Kind] = KINDS,
) -> Iterator[Verdict]:
    """A verdict for each promise; RequestError if the class cannot be tested at all."""
    check_method_options(f"method {name!r}", cls)
    config = quick(cls, options or {})
    subjects = [_subject(name, cls, config, b, kind) for b in backbones for kind in kinds]
    failed: dict[Subject, set[str]] = {subject: set() for subject in subjects}
    home: list[Subject] | None = None
    for promise in PROMISES:
        if promise.everywhere:
            places = subjects
        else:
            home = home or _home(subjects, failed, promise)
            places = home[:1] if promise.once else home
        yield _verdict(promise, places, failed)
        if promise.name == "supports":
            home = None  # from here on it is known where the method runs


def _verdict(promise: Promise, places: Sequence[Subject], failed: dict[Subject, set[str]]) -> Verdict:
    """One verdict over all places: failed if it fails at one, not applicable if it applies at none."""
    started = time.monotonic()
    broken: list[tuple[Subject, BrokenError]] = []
    reasons: list[str] = []
    gated: list[str] = []
    kept = 0
    for subject in places:
        missing = [name for name in promise.after if name in failed[subject]]
        if missing:
            failed[subject].add(promise.name)
            gated.append(f"not tested, since {missing[0]!r} is broken")
            continue
        outcome = tried(promise, subject)
        if isinstance(outcome, BrokenError):
            failed[subject].add(promise.name)
            broken.append((subject, outcome))
        elif isinstance(outcome, NotApplicableError):
            reasons.append(str(outcome))
            if promise.name == "supports":
                failed[subject].add(promise.name)
        else:
            kept += 1
    seconds = time.monotonic() - started
    if broken:
        first, error = broken[0]
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        return Verdict(
            promise.name,
            promise.says,
            "failed",
            error.expected,
            error.seen,
            first.place + more,
            seconds=seconds,
        )
    if kept:
        return Verdict(promise.name, promise.says, "passed", places=kept, seconds=seconds)
    reason = "; ".join(list(dict.fromkeys(reasons or gated))[:2]) or "the method runs nowhere"
    return Verdict(promise.name, promise.says, "not applicable", reason=reason, seconds=seconds)


def tried(promise: Promise, subject: Subject) -> BrokenError | NotApplicableError | None:
    """None if the promise is kept; an unexpected exception of the method breaks it."""
    try:
        promise.check(subject)
    except (BrokenError, NotApplicableError) as error:
        return error
    except RequestError as error:
        return NotApplicableError(f"refused: {error}")
    except Exception as error:
        return BrokenError("no error", told(error))
    return None


def _home(subjects: Sequence[Subject], failed: dict[Subject, set[str]], promise: Promise) -> list[Subject]:
    """Every stream on the first backbone that it runs on, and one stream on each other backbone."""
    running = [s for s in subjects if "supports" not in failed[s]]
    first = running[0].backbone if running else None
    chosen: dict[str, list[Subject]] = {}
    for subject in running:
        chosen.setdefault(subject.backbone.name, []).append(subject)
    return [s for found in chosen.values() for s in (found if found[0].backbone is first else found[:1])]


def _subject(name: str, cls: type[Method], config: Any, backbone: str, kind: Kind) -> Subject:
    place = f"{backbone}, {WORDS[kind]}"
    return Subject(name, cls, config, _opened(backbone), _stream(kind), place)


@cache
def _opened(name: str) -> Backbone:
    """The backbone without a store, so that every feature is computed."""
    return open_backbone(name, numerics=Numerics())


@cache
def _stream(kind: Kind) -> Pictures:
    return Pictures(kind)
