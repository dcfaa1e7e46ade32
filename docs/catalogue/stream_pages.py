"""The page of all streams: what each is, and the parameters that may follow its name."""

from __future__ import annotations

import words

from benchmarks.stream import Stream
from carryover.plugins import catalogue
from carryover.plugins.plugin import OURS, Plugin


def streams_page() -> str:
    """Every stream that `carryover ls streams` lists, by the class behind it."""
    behind: dict[type[Stream], list[Plugin]] = {}
    for name, plugin in catalogue.streams().items():
        if not plugin.problem:
            behind.setdefault(catalogue.stream_class(name)[1], []).append(plugin)
    return words.page(
        "Streams",
        "As `carryover ls streams` lists them. Parameters follow the name: "
        "`split-cifar100?tasks=20&scenario=class`. [Protocols](../selection.md) says what "
        "is scored, [data](../data.md) where data sets are looked for.",
        *sorted(_part(cls, named) for cls, named in behind.items()),
    )


def _part(cls: type[Stream], named: list[Plugin]) -> str:
    rows = [(f"`{plugin.name}`", plugin.summary) for plugin in named]
    said = words.module_doc(cls) or words.own_doc(cls)
    title = words.first_line(said).rstrip(".")
    origin = named[0].origin
    return "\n\n".join(
        filter(
            None,
            [
                f"## {title}",
                f"From {origin}." if origin != OURS else "",
                words.table(("stream", "what it is"), rows),
                words.prose(words.after_first_line(said)),
                words.options_table(cls.Parameters).replace("| option |", "| parameter |", 1),
            ],
        )
    )
