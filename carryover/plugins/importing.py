"""Importing a plugin: what can go wrong while it happens, as one sentence with file, line and way out."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import signal
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Union, get_args, get_origin, get_type_hints

from benchmarks.errors import RequestError
from carryover.plugins.code import source_of

if TYPE_CHECKING:
    from carryover.plugins.catalogue import Plugin
    from methods.base import Method

SLOW = 10.0  # seconds after which it is said what is being imported
LIMIT = 120.0  # seconds after which it is given up
SCALARS = (bool, int, float, str, type(None))


def load(kind: str, plugin: Plugin) -> object:
    """What the plugin names, imported now; RequestError for whatever keeps it from being had."""
    what = f"{kind} {plugin.name!r} of {plugin.origin}"
    with watched(what), explained(f"{what} cannot be loaded from {plugin.module}", source_of(plugin.module)):
        module = importlib.import_module(plugin.module)
    try:
        return getattr(module, plugin.attribute)
    except AttributeError:
        names = [name for name in vars(module) if not name.startswith("_")]
        here = [name for name in names if getattr(vars(module)[name], "__module__", "") == plugin.module]
        raise RequestError(
            f"{what} leads to nowhere: {module.__file__} has no {plugin.attribute!r}"
            + (f" (it has {', '.join(sorted(here))})" if here else "")
            + "; mend its entry point in pyproject.toml and install it again"
        ) from None


@contextmanager
def explained(what: str, source: Path | None) -> Iterator[None]:
    """Any error of running the code in `source` becomes a RequestError: `what` happened, and where."""
    try:
        yield
    except RequestError:
        raise
    except SyntaxError as error:
        where = f"{error.filename}:{error.lineno}"
        raise RequestError(f"{what}: {where}: SyntaxError: {error.msg}; mend that line") from error
    except ModuleNotFoundError as error:
        if source is None:
            raise RequestError(
                f"{what}: {error}; its entry point leads to nowhere: mend it in pyproject.toml and install "
                "it again"
            ) from error
        raise RequestError(
            f"{what}: {_line(error, source)}: {error}; install what it needs, or uninstall it"
        ) from error
    except Exception as error:  # a plugin may raise anything while it is imported
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise RequestError(f"{what}: {_line(error, source)}: {reason}; mend or uninstall it") from error


class _TooLongError(BaseException):
    """Raised within an import that is given up; no `except Exception` of its code stops it."""


def _give_up(number: int, frame: object) -> None:
    raise _TooLongError


@contextmanager
def watched(what: str, slow: float | None = None, limit: float | None = None) -> Iterator[None]:
    """Code of others runs meanwhile: after `slow` seconds a line says whose, after `limit` it is stopped.

    RequestError for one that was stopped. Only Python code can be, and only in the main thread; within a
    C library the line is all.
    """
    slow, limit = slow or SLOW, limit or LIMIT
    done, lock = threading.Event(), threading.Lock()
    main = threading.main_thread()
    # Not Ctrl-C's signal, which is ignored in whatever a shell starts in the background.
    stoppable = threading.current_thread() is main and hasattr(signal, "pthread_kill")
    before = signal.signal(signal.SIGUSR1, _give_up) if stoppable else None

    def watch() -> None:
        if done.wait(slow):
            return
        print(f"{what} has been importing for {slow:g} s; Ctrl-C stops it", file=sys.stderr, flush=True)
        if done.wait(limit - slow) or not stoppable:
            return
        with lock:
            if not done.is_set():
                assert main.ident is not None
                signal.pthread_kill(main.ident, signal.SIGUSR1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        try:
            yield
        finally:
            with lock:
                done.set()
    except _TooLongError:
        raise RequestError(
            f"{what} did not come to an end of its import in {limit:g} s; mend or uninstall it"
        ) from None
    finally:
        if stoppable:
            signal.signal(signal.SIGUSR1, before)


def check_method(what: str, method: type[Method]) -> None:
    """RequestError for a class that cannot be made or whose options cannot be typed."""
    from methods.base import Method as Contract

    missing = sorted(getattr(method, "__abstractmethods__", ()))
    if missing:
        raise RequestError(
            f"{what}: {_place(method)} does not say {', '.join(missing)}; define what is missing"
        )
    if not isinstance(method.Config, type) or method.Config in (Contract.Config, object):
        raise RequestError(
            f"{what}: {_place(method)} has no Config; give it one, "
            "`@dataclass(frozen=True) class Config(Method.Config): ...`, empty if there is nothing to choose"
        )
    check_options(what, method, "Config")


def check_options(what: str, owner: type, attribute: str) -> None:
    """RequestError unless `owner.attribute` is a frozen dataclass of what can be typed, with defaults."""
    options = getattr(owner, attribute)
    if not isinstance(options, type):
        raise RequestError(f"{what}: {_place(owner)} has a {attribute} that is no class; declare one")
    for cls in options.__mro__:
        said = [name for name, hint in inspect.get_annotations(cls).items() if "ClassVar" not in str(hint)]
        if said and "__dataclass_params__" not in vars(cls):
            raise RequestError(
                f"{what}: {_place(options)} is no dataclass, so that {', '.join(said)} could not be typed; "
                "write @dataclass(frozen=True) above it"
            )
    if not dataclasses.is_dataclass(options) or not options.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise RequestError(
            f"{what}: {_place(options)} can be changed; write @dataclass(frozen=True) above it"
        )
    try:
        hints = get_type_hints(options)
    except Exception as error:
        raise RequestError(
            f"{what}: {_place(options)} has an option of a type that is not known where it is declared "
            f"({error}); import it at run time"
        ) from None
    for field in dataclasses.fields(options):
        if not _supported(hints[field.name]):
            kind = _named(hints[field.name])
            raise RequestError(
                f"{what}: {_place(options, field.name)} has the option {field.name} of the type {kind}, "
                "which nobody can type; take bool, int, float, str, None, a Literal, or a tuple of these"
            )
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            place = _place(options, field.name)
            raise RequestError(f"{what}: {place} has the option {field.name} without a default; give it one")


def _supported(hint: object) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return all(isinstance(value, SCALARS) for value in get_args(hint))
    if origin in (Union, types.UnionType):
        return all(map(_supported, get_args(hint)))
    if origin in (tuple, list):
        return all(part is Ellipsis or part in SCALARS for part in get_args(hint))
    return hint in SCALARS


def _named(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _place(cls: type, name: str = "") -> str:
    """file:line of a class, or of an attribute that it declares; its name where no source is found."""
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


def _offset(lines: list[str], name: str) -> int:
    tree = ast.parse(
        inspect.cleandoc("".join(lines)) if not lines[0].startswith(" ") else "if 1:\n" + "".join(lines)
    )
    shift = 0 if not lines[0].startswith(" ") else 1
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            return node.lineno - 1 - shift
    return 0


def _line(error: BaseException, source: Path | None) -> str:
    """file:line where `error` came through the plugin's own source, or else where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if source and frame.filename == str(source)]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"
