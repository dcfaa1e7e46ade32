"""A method in a file that is not installed: `./my_method.py`, or `./my_method.py:Mine` if it has several.

Running a path runs its code. Its name is the file name, the class and a hash of the code:
`my_method.py:Mine@1a2b3c4d`. So two files with one name are two methods, and so is a file before and after
an edit (other than of comments and docstrings). Its location enters no key. It stands alone: files beside
it are not on the import path.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

from benchmarks.errors import RequestError
from carryover.plugins.code import source_digest
from carryover.plugins.importing import explained
from carryover.plugins.options import check_method
from carryover.plugins.plugin import Plugin

if TYPE_CHECKING:
    from methods.base import Method


def is_path(name: str) -> bool:
    """Whether the name of a method is a file."""
    return _file_of(name).endswith(".py") and "@" not in name.rpartition(":")[2]


def _file_of(name: str) -> str:
    head, colon, tail = name.rpartition(":")
    return head if colon and tail.isidentifier() else name


def method_in(name: str) -> tuple[Plugin, type[Method]]:
    """The method in the file `name`, whose code is run; RequestError if it cannot be loaded."""
    from methods.base import Method

    file = _file_of(name)
    path = Path(file).expanduser().resolve()
    what = f"method {name!r}"
    try:
        source = path.read_bytes()
    except OSError as error:
        raise RequestError(
            f"{what}: {path} cannot be read ({error.strerror}); give the path of a readable file"
        ) from None
    with explained(what, "cannot be run", path):
        code = compile(source, str(path), "exec", dont_inherit=True)
    digest = source_digest(source)
    module = _module(path, digest, what, code)
    found = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Method) and value.__module__ == module.__name__
    }
    asked = name.removeprefix(file).removeprefix(":")
    if asked and asked not in found:
        raise RequestError(f"{what}: {path} has no method {asked!r}; it has {', '.join(found) or 'none'}")
    if not asked:
        made = [key for key, value in found.items() if not inspect.isabstract(value)]
        if len(made or found) != 1:
            raise RequestError(
                f"{what}: {path} has {len(found)} subclasses of Method"
                + (f" ({', '.join(found)}); name one, {file}:{next(iter(found))}" if found else "; write one")
            )
        asked = (made or list(found))[0]
    check_method(what, found[asked])
    plugin = Plugin(
        name=f"{path.name}:{asked}@{digest[:8]}",
        summary=(inspect.getdoc(module) or "").partition("\n")[0],
        origin=f"{path}, sha256 {hashlib.sha256(source).hexdigest()[:12]}",
        module=module.__name__,
        attribute=asked,
        path=path,
    )
    return plugin, found[asked]


def remembered(name: str, provenance: str) -> Plugin | None:
    """The plugin of a recorded method, if the file named in its record still exists with the same code.

    provenance: `record.plugin["method"]`. The file is read but not run.
    """
    known = re.fullmatch(r"(\S+) \((.+), sha256 [0-9a-f]{12}\)", provenance)
    named = re.fullmatch(r".+:(\w+)@([0-9a-f]{8})", name)
    if known is None or named is None:
        return None
    module, path = known[1], Path(known[2])
    try:
        if source_digest(path.read_bytes())[:8] != named[2]:
            return None
    except (OSError, SyntaxError, ValueError):
        return None
    return Plugin(name, "", "", module, named[1], path=path)


def _module(path: Path, digest: str, what: str, code: CodeType) -> ModuleType:
    """The file as a module, run once for each content; the name of the module leaves out its location."""
    name = re.sub(r"\W", "_", path.stem) + f"_{digest[:8]}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    print(f"running the code of {path}", file=sys.stderr, flush=True)
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and type hints look their module up
    try:
        with explained(what, "cannot be run", path):
            exec(code, module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module
