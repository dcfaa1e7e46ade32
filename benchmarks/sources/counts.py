"""Images counted per class, in words that stay short for many classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SHOWN = 6  # classes that are named


def counted(counts: Mapping[str, int]) -> str:
    """ "cat 15, dog 3", the first classes by name, and how many more there are."""
    named = [(name, count) for name, count in counts.items() if count]
    said = ", ".join(f"{name} {count}" for name, count in named[:SHOWN])
    rest = named[SHOWN:]
    return said + (f" and {len(rest)} more classes with {sum(c for _, c in rest)}" if rest else "")


def some(names: Iterable[object], shown: int = SHOWN) -> str:
    """The first names, and "..." if there are more."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:shown]) + (f" ... ({len(listed)} in all)" if len(listed) > shown else "")


def many(count: int, thing: str, things: str = "") -> str:
    """ "1 image", "2 images"."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"
