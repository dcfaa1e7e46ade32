"""The command `carryover check`: reads its arguments, prints the verdicts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from backbones.catalogue import backbone_names
from benchmarks.errors import RequestError, unknown
from benchmarks.naming import parse
from carryover.cells.request import option
from carryover.check.backbones import check_backbone
from carryover.check.streams import check_stream, named
from carryover.check.suite import check_method
from carryover.check.verdict import Verdict
from carryover.plugins import catalogue
from carryover.plugins.plugin import OURS, Plugin

OK, BROKEN = 0, 1


def run(name: str, options: Sequence[str], as_json: bool) -> int:
    """Check a plugin and print a line per promise; the exit code. RequestError if nothing can be tested."""
    started = time.monotonic()
    kind, origin, verdicts = _verdicts(name, dict(map(option, options)))
    if as_json:
        found = list(verdicts)
        seconds = time.monotonic() - started
        print(as_object(name, kind, origin, found, seconds))
    else:
        print(f"{kind} {name}, from {origin}", flush=True)
        found = list(_shown(verdicts))
        print(summary(found, time.monotonic() - started))
    return BROKEN if any(verdict.status == "failed" for verdict in found) else OK


def as_object(name: str, kind: str, origin: str, verdicts: Sequence[Verdict], seconds: float) -> str:
    """The verdicts as JSON."""
    count = {status: sum(v.status == status for v in verdicts) for status in ("passed", "failed")}
    whole = {
        "name": name,
        "kind": kind,
        "origin": origin,
        **count,
        "not_applicable": len(verdicts) - sum(count.values()),
        "seconds": round(seconds, 2),
        "promises": [asdict(verdict) for verdict in verdicts],
    }
    return json.dumps(whole, indent=2)


def lines(verdict: Verdict) -> list[str]:
    """One line for the promise; if it is broken, also what was expected, what was seen, and where."""
    head = f"  {verdict.status:<14}  {verdict.promise:<16}  "
    if verdict.status == "not applicable":
        return [head + verdict.reason]
    if verdict.status == "passed":
        return [head + verdict.says]
    indent = " " * len(head)
    told = [f"expected  {verdict.expected}", f"seen      {verdict.seen}", f"where     {verdict.place}"]
    return [head + verdict.says, *(indent + line for line in told if line.split(maxsplit=1)[1:])]


def summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    count = {s: sum(v.status == s for v in verdicts) for s in ("passed", "failed", "not applicable")}
    told = ", ".join(f"{number} {status}" for status, number in count.items() if number or status == "passed")
    return f"{len(verdicts)} promises: {told} ({seconds:.0f} s)"


def _shown(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Print each line as soon as its verdict is known."""
    for verdict in verdicts:
        print("\n".join(lines(verdict)), flush=True)
        yield verdict


def _verdicts(name: str, options: dict[str, str]) -> tuple[str, str, Iterator[Verdict]]:
    """(kind, where it comes from, verdicts)."""
    bare, own = parse(name)
    if bare in catalogue.streams():
        plugin = catalogue.stream_plugin(bare)
        return "stream", _origin(plugin), check_stream(name, lambda: named(name))
    if bare in backbone_names():
        return "backbone", OURS, check_backbone(name)
    try:
        plugin, found = catalogue.method_class(bare)
    except RequestError as error:
        if not str(error).startswith("unknown method"):
            raise
        known = [*catalogue.methods(), *catalogue.streams(), *backbone_names()]
        raise unknown("plugin", bare, known) from None
    return "method", _origin(plugin), check_method(bare, found, {**options, **own})


def _origin(plugin: Plugin) -> str:
    module = sys.modules.get(plugin.module)
    return f"{plugin.origin} ({getattr(module, '__file__', None) or plugin.module})"
