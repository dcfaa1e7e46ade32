"""What `carryover ls` and `carryover cache` print; without torch, so that listing is fast."""

from __future__ import annotations

import json
from collections.abc import Iterator

from benchmarks.errors import RequestError
from benchmarks.store import Store
from carryover.plugins import catalogue
from carryover.plugins.plugin import OURS, Plugin

Rows = dict[str, dict[str, str]]

# Further plugins, of which there are too many names to list.
BESIDES = {
    "methods": (
        "any scikit-learn classifier on the frozen features, such as sklearn:sklearn.svm.LinearSVC",
        "any file with a method, such as ./my_method.py (its code is run)",
    ),
    "backbones": (
        "any network of timm whose features and patches can be read, such as vit_small_patch16_dinov3",
    ),
}


def listed(kind: str) -> dict[str, Rows]:
    """{kind: {name: {summary, origin}}} for one kind or "all"; with `problem` if one cannot be loaded."""
    found: dict[str, Rows] = {}
    if kind in ("methods", "all"):
        found["methods"] = _rows(catalogue.methods())
    if kind in ("streams", "all"):
        found["streams"] = _rows(catalogue.streams())
    if kind in ("backbones", "all"):
        found["backbones"] = _rows(catalogue.backbones())
    return found


def as_json(kind: str) -> str:
    """The catalogue as JSON."""
    return json.dumps(listed(kind), indent=2)


def as_text(kind: str) -> str:
    """The catalogue as aligned lines."""
    lines: list[str] = []
    for title, rows in listed(kind).items():
        lines += [f"{title}:"] if not lines else ["", f"{title}:"]
        width = max((len(name) for name in rows), default=0)
        for name, row in rows.items():
            origin = "" if row["origin"] == OURS else f"  [{row['origin']}]"
            problem = f"cannot be loaded: {row['problem']}" if "problem" in row else row["summary"]
            lines.append(f"  {name:<{width}}  {problem}{origin}".rstrip())
        lines += [f"  and {more}" for more in BESIDES.get(title, ())]
    return "\n".join(lines)


def admitted(pattern: str) -> Iterator[str]:
    """Lines: each architecture of timm's whose name matches, then how many there are, and how many tags.

    Every network is sketched, without memory for weights: about a third of a second each. RequestError if
    none matches.
    """
    import timm  # here: listing what is ours imports no torch

    from backbones.admission import admission_of

    names = timm.list_models(pattern)
    if not names:
        raise RequestError(f"timm has no architecture {pattern!r}; take a pattern such as 'vit_*' or '*'")
    width, good, tags, all_tags = max(map(len, names)), 0, 0, 0
    for name in names:
        found, count = admission_of(name), len(timm.list_pretrained(f"{name}.*"))
        good, all_tags = good + found.admitted, all_tags + count
        tags += count if found.admitted else 0
        yield f"{name:<{width}}  {found.words}"
    yield f"{good} of {len(names)} architectures and {tags} of {all_tags} tags of weights are admitted"


def cache(clear: bool, limit: float | None) -> str:
    """Show the cache, clear it, or shrink it to `limit` GiB by removing the least recently used entries."""
    store = Store.default()
    if clear or limit is not None:
        if limit is not None and limit < 0:
            raise RequestError(f"--limit {limit} is negative; give a size in GiB from 0")
        freed = store.prune(limit=0 if clear else int((limit or 0) * 2**30))
        return f"freed {freed / 2**20:,.1f} MiB in {store.root}"
    entries = store.entries()
    kinds: dict[str, list[int]] = {}
    for entry in entries:
        kinds.setdefault(entry.kind, []).append(entry.bytes)
    lines = [f"{store.root}: {sum(entry.bytes for entry in entries) / 2**20:,.1f} MiB"]
    lines[0] += f" of at most {store.limit / 2**30:,.1f} GiB (CARRYOVER_CACHE_LIMIT)"
    lines += [f"  {kind:<10} {len(s):>5} entries {sum(s) / 2**20:>10,.1f} MiB" for kind, s in kinds.items()]
    return "\n".join(lines)


def _rows(found: dict[str, Plugin]) -> Rows:
    return {
        name: {"summary": plugin.summary, "origin": plugin.origin}
        | ({"problem": plugin.problem} if plugin.problem else {})
        for name, plugin in found.items()
    }
