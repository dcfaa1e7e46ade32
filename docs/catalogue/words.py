"""Docstrings and dataclasses as Markdown."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Union, get_args, get_origin, get_type_hints

MADE = "<!-- made by `python docs/catalogue` from the code; change the docstrings, not this -->"
YES, NO = "✓", "·"


def prose(text: str) -> str:
    """A docstring (or a part of one, without indentation) as Markdown: indented blocks as code."""
    lines: list[str] = []
    code: list[str] = []
    for line in [*text.strip("\n").splitlines(), ""]:
        indented = line.startswith("    ") and (code or not lines or not lines[-1].strip())
        if indented or (code and not line.strip()):
            code.append(line[4:])
            continue
        if code:
            blank = not code[-1].strip()
            lines += ["```text", *"\n".join(code).rstrip().splitlines(), "```", *[""] * blank]
            code = []
        if line.startswith("- ") and lines and lines[-1].strip() and not lines[-1].startswith(("- ", "  ")):
            lines.append("")
        lines.append(line.replace("<", "&lt;") if "`" not in line else line)
    return "\n".join(lines).strip()


def first_line(text: str) -> str:
    """The first line, and nothing of what follows."""
    return text.strip().partition("\n")[0]


def after_first_line(text: str) -> str:
    """What follows the first line."""
    return text.strip().partition("\n")[2].strip("\n")


def sentence(text: str, start: str) -> str:
    """The paragraph's rest from the first sentence that starts with `start`; "" without one."""
    found = re.search(rf"(?:^|(?<=[.:] )|(?<=\n)){start}[^\n]*(?:\n(?!\n|- | {{4}})[^\n]+)*", text)
    return " ".join(found[0].split()) if found else ""


def module_doc(thing: type) -> str:
    """The docstring of the module that a class is from."""
    return inspect.cleandoc(sys.modules[thing.__module__].__doc__ or "")


def own_doc(thing: type) -> str:
    """The docstring of a class itself; a dataclass without one has its signature there."""
    said = vars(thing).get("__doc__") or ""
    return "" if said.startswith(f"{thing.__name__}(") else inspect.cleandoc(said)


def option_docs(options: type) -> dict[str, str]:
    """What the docstrings of a dataclass and its bases say of each field: "name: words" or "a, b: words"."""
    found: dict[str, str] = {}
    for layer in reversed(options.__mro__):
        for match in re.finditer(r"^([\w, ]+):\s+(.*(?:\n[ \t]+.*)*)", own_doc(layer), re.MULTILINE):
            for name in match[1].split(","):
                found[name.strip()] = " ".join(match[2].split())
    return found


def type_words(hint: object) -> str:
    """A type as whoever types a value needs it: "float or none", "`adam` or `sgd`"."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(type_words(part) for part in parts)
    if origin in (list, tuple):
        return "list of " + type_words(parts[0])
    return "none" if hint is type(None) else getattr(hint, "__name__", str(hint))


def value_words(value: object) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    if isinstance(value, list | tuple):
        return ", ".join(value_words(part) for part in value)
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def options_table(options: type, leave_out: Mapping[str, object] | None = None) -> str:
    """A row for each field of a dataclass, but those whose default `leave_out` has too; "" for none."""
    docs, hints = option_docs(options), get_type_hints(options)
    search = getattr(options, "search", {})
    rows: list[tuple[str, ...]] = []
    for field in dataclasses.fields(options):
        default = field.default_factory() if callable(field.default_factory) else field.default
        if leave_out and field.name in leave_out and leave_out[field.name] == default:
            continue
        searched = value_words(search[field.name]) if field.name in search else ""
        words = docs.get(field.name, "")
        rows.append((f"`{field.name}`", type_words(hints[field.name]), value_words(default), searched, words))
    heads: tuple[str, ...] = ("option", "type", "default", "searched", "what it is")
    if not any(row[3] for row in rows):
        heads, rows = (*heads[:3], heads[4]), [(*row[:3], row[4]) for row in rows]
    return table(heads, rows) if rows else ""


def defaults(options: type) -> dict[str, object]:
    """The defaults of a dataclass by name."""
    return {field.name: getattr(options(), field.name) for field in dataclasses.fields(options)}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Bars would part the cell, except in code, where the backslash before one would be seen."""
    return "".join(
        part if part.startswith("`") else part.replace("|", "\\|") for part in re.split(r"(`[^`]*`)", text)
    )


def page(title: str, *parts: str) -> str:
    """A page from its parts, empty ones left out."""
    return "\n\n".join(filter(None, [f"# {title}", MADE, *parts])) + "\n"
