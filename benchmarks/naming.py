"""Names with parameters, `NAME?key=value&key=value`, and typed options from what a user types."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from benchmarks.errors import RequestError, unknown

T = TypeVar("T")


def parse(name: str) -> tuple[str, dict[str, str]]:
    """(bare name, parameters) of `NAME?key=value&key=value`; RequestError if a part has no '='."""
    bare, _, tail = name.partition("?")
    parameters = {}
    for part in filter(None, tail.split("&")):
        key, equals, value = part.partition("=")
        if not equals:
            raise RequestError(f"{name!r}: {part!r} is no parameter; write {part}=VALUE")
        if key in parameters:
            raise RequestError(f"{name!r}: the parameter {key!r} is given twice; give it once")
        parameters[key] = value
    return bare, parameters


def canonical(bare: str, parameters: Any) -> str:
    """The name and those of its parameters (a dataclass) that differ from their defaults, in field order."""
    shown = [
        f"{field.name}={_text(getattr(parameters, field.name))}"
        for field in dataclasses.fields(parameters)
        if getattr(parameters, field.name) != field.default
    ]
    return f"{bare}?{'&'.join(shown)}" if shown else bare


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def typed(owner: str, kind: str, options: type[T], values: Mapping[str, object]) -> T:
    """An `options` dataclass from `values`, which may be strings as typed ("0.1", "true", "none").

    RequestError for an unknown option (nearest match, the valid list) or a value of another type.
    """
    valid = {field.name for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    for key in values:
        if key not in valid:
            raise unknown(f"{kind} of {owner}", key, valid)
    hints = get_type_hints(options)
    # "none" is also a word of its own: `ffn=none`, `augment=none`.
    empty = {key for key, value in values.items() if value in ("none", "null") and _optional(hints[key])}
    converted = {key: None if key in empty else value for key, value in values.items()}
    try:
        return msgspec.convert(converted, options, strict=False)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$.")
        key = re.split(r"[\[.`]", place)[0]
        said = problem[0].lower() + problem[1:]
        raise RequestError(f"{owner}: the {kind} {key}={values.get(key)!s} does not fit: {said}") from None
    except (ValueError, TypeError) as error:
        raise RequestError(f"{owner}: {error}") from None


def _optional(hint: object) -> bool:
    return type(None) in get_args(hint)
