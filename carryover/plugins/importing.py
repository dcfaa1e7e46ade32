"""Imports plugins; any error becomes one sentence with file, line and way out."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import RequestError
from carryover.plugins.code import source_of

if TYPE_CHECKING:
    from carryover.plugins.plugin import Plugin


def load(kind: str, plugin: Plugin) -> object:
    """Import the object that the plugin names; RequestError if it cannot be loaded."""
    what = f"{kind} {plugin.name!r} of {plugin.origin}"
    with explained(what, f"cannot be loaded from {plugin.module}", source_of(plugin.module)):
        module = importlib.import_module(plugin.module)
    try:
        return getattr(module, plugin.attribute)
    except AttributeError:
        names = [name for name in vars(module) if not name.startswith("_")]
        here = [name for name in names if getattr(vars(module)[name], "__module__", "") == plugin.module]
        raise RequestError(
            f"{what} does not exist: {module.__file__} has no {plugin.attribute!r}"
            + (f" (it has {', '.join(sorted(here))})" if here else "")
            + "; fix its entry point in pyproject.toml and install it again"
        ) from None


@contextmanager
def explained(what: str, happened: str, source: Path | None) -> Iterator[None]:
    """Turn any error of the code in `source` into a RequestError that says what failed, and where.

    Ctrl-C stops an import that does not end, and a line says whose code was running.
    """
    what, who = f"{what} {happened}", what
    try:
        yield
    except KeyboardInterrupt:
        print(f"\ninterrupted while the code of {who} was running", file=sys.stderr, flush=True)
        raise
    except RequestError:
        raise
    except SyntaxError as error:
        where = f"{error.filename}:{error.lineno}"
        raise RequestError(f"{what}: {where}: SyntaxError: {error.msg}; fix that line") from error
    except ModuleNotFoundError as error:
        if source is None:
            raise RequestError(
                f"{what}: {error}; its entry point names no module: fix it in pyproject.toml and install "
                "it again"
            ) from error
        raise RequestError(
            f"{what}: {_line(error, source)}: {error}; install that module, or uninstall the plugin"
        ) from error
    except Exception as error:  # a plugin may raise anything while it is imported
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise RequestError(f"{what}: {_line(error, source)}: {reason}; fix or uninstall it") from error


def _line(error: BaseException, source: Path | None) -> str:
    """file:line where `error` passed through the plugin's own source, or else where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if source and frame.filename == str(source)]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"
