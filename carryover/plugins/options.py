"""Checks the options of a plugin: a frozen dataclass of values that can be typed, each with a default.

For a method they are its `Config`, for a stream its `Parameters`. Each error is one sentence with file, line
and way out.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import types
from typing import TYPE_CHECKING, Literal, Union, get_args, get_origin, get_type_hints

from benchmarks.errors import RequestError

if TYPE_CHECKING:
    from methods.base import Method

SCALARS = (bool, int, float, str, type(None))


def check_method(what: str, method: type[Method]) -> None:
    """RequestError for a method class that is abstract or whose options cannot be typed."""
    from methods.base import Method as Contract

    missing = sorted(getattr(method, "__abstractmethods__", ()))
    if missing:
        raise RequestError(f"{what}: {where(method)} lacks {', '.join(missing)}; define what is missing")
    config = method.Config
    if config in (Contract.Config, object):
        raise RequestError(
            f"{what}: {where(method)} has no Config; give it one, "
            "`@dataclass(frozen=True) class Config(Method.Config): ...`, empty if it has no options"
        )
    check_options(what, method, "Config")
    if not issubclass(config, Contract.Config):
        raise RequestError(
            f"{what}: {where(config)} is not a subclass of Method.Config; write `class Config(Method.Config)`"
        )


def check_options(what: str, owner: type, attribute: str) -> None:
    """RequestError unless `owner.attribute` is a frozen dataclass of typeable options with defaults."""
    options = getattr(owner, attribute)
    if not isinstance(options, type):
        raise RequestError(f"{what}: {where(owner)} has a {attribute} that is not a class; declare a class")
    for cls in options.__mro__:
        said = [name for name, hint in inspect.get_annotations(cls).items() if "ClassVar" not in str(hint)]
        if said and "__dataclass_params__" not in vars(cls):
            raise RequestError(
                f"{what}: {where(options, said[0])} is not in a dataclass, so {', '.join(said)} cannot be "
                "typed; write @dataclass(frozen=True) above the class"
            )
    if not dataclasses.is_dataclass(options) or not options.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise RequestError(f"{what}: {where(options)} is mutable; write @dataclass(frozen=True) above it")
    try:
        hints = get_type_hints(options)
    except Exception as error:  # a name in an annotation may be anything
        raise RequestError(
            f"{what}: {where(options)} has an option whose type is unknown where it is declared ({error}); "
            "import the type at run time"
        ) from None
    for field in dataclasses.fields(options):
        if not _typeable(hints[field.name]):
            raise RequestError(
                f"{what}: {where(options, field.name)} has the option {field.name} of the type "
                f"{_named(hints[field.name])}, which cannot be typed on a command line; take bool, int, "
                "float, str, None, a Literal, or a tuple of these"
            )
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            place = where(options, field.name)  # not for every option of every method: it reads the source
            raise RequestError(f"{what}: {place} has the option {field.name} without a default; give it one")


def where(cls: type, name: str = "") -> str:
    """file:line of a class, or of an attribute that it declares; its name if no source is found."""
    try:
        for owner in cls.__mro__ if name else (cls,):
            if name and name not in inspect.get_annotations(owner):
                continue
            lines, start = inspect.getsourcelines(owner)
            offset = _offset(lines, name) if name else 0
            return f"{inspect.getsourcefile(owner)}:{start + offset}"
    except (OSError, TypeError):
        pass
    return f"{cls.__module__}.{cls.__qualname__}"


def _typeable(hint: object) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return all(isinstance(value, SCALARS) for value in get_args(hint))
    if origin in (Union, types.UnionType):
        return all(map(_typeable, get_args(hint)))
    if origin in (tuple, list):
        return all(part is Ellipsis or part in SCALARS for part in get_args(hint))
    return hint in SCALARS


def _named(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _offset(lines: list[str], name: str) -> int:
    """How many lines below the first line of its class `name` is declared."""
    inner = lines[0].startswith(" ")
    tree = ast.parse("if 1:\n" + "".join(lines) if inner else inspect.cleandoc("".join(lines)))
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            return node.lineno - 1 - inner
    return 0
