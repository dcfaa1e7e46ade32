"""`carryover new`: writes one commented file that already runs, into this clone or a package of its own.

The files in `templates/` import only from `carryover`, as a package does. In the clone, the same names are
imported from the modules that define them, since nothing below carryover/ may import from it.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import RequestError
from carryover import HOMES, HOUSE
from carryover.new.package import package_files, run_line
from carryover.plugins import catalogue

TEMPLATES = Path(__file__).parent / "templates"
METHODS = ("gradient", "frozen", "episodic", "replay", "distillation", "penalty")
ROOM = {"method": "methods", "stream": "benchmarks/streams", "backbone": "backbones/recipes"}


@dataclass(frozen=True)
class Wanted:
    """What to write. kind: "method", "stream" or "backbone"; start: the template of a method, of METHODS."""

    kind: str
    name: str
    start: str = METHODS[0]

    @property
    def class_name(self) -> str:
        return "".join(part[:1].upper() + part[1:] for part in self.name.split("_"))

    def source(self) -> str:
        """The source of the plugin, with imports from `carryover`."""
        text = self._template()
        return text.replace(f"New{self.kind.title()}", self.class_name).replace(f"new_{self.kind}", self.name)

    def check(self) -> None:
        """RequestError for a name that is invalid or taken."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or keyword.iskeyword(self.name):
            raise RequestError(
                f"{self.name!r} cannot be the name of a {self.kind}, since it names a file and a class; take "
                "lower-case letters, digits and _, starting with a letter"
            )
        known = {"method": catalogue.methods, "stream": catalogue.streams, "backbone": catalogue.backbones}
        other = known[self.kind]().get(self.name)
        if other is not None:
            raise RequestError(
                f"there is already a {self.kind} {self.name!r}, from {other.origin} ({other.module}); take "
                "another name"
            )
        if self.kind == "backbone":
            import timm

            if timm.is_model(self.name):
                raise RequestError(f"there is already a backbone {self.name!r}, from timm; take another name")
        if self.class_name in _names_in(self._template()):
            raise RequestError(
                f"the {self.kind} {self.name!r} needs a class {self.class_name}, which is the name of "
                "something else; take another name"
            )

    def _template(self) -> str:
        stem = self.start if self.kind == "method" else self.kind
        return (TEMPLATES / f"{stem}.py").read_text()


def write(wanted: Wanted, package: Path | None = None, house: Path = HOUSE) -> str:
    """Write the file, or a package into the folder `package`; a text on what was written and what to do next.

    RequestError for a name that is invalid or taken, and for an existing file: nothing is overwritten.
    """
    wanted.check()
    if package is None:
        if not (house / "pyproject.toml").exists():
            raise RequestError(
                f"carryover is installed without its clone ({house}); write a package with --package DIR"
            )
        folder = house / ROOM[wanted.kind]
        if (folder / wanted.name).exists():
            raise RequestError(f"{folder / wanted.name} already exists; take another name")
        files = {folder / f"{wanted.name}.py": in_room(wanted.source())}
    else:
        package = package.expanduser()
        files = {package / name: text for name, text in package_files(wanted).items()}
    _write(files)
    shown = [path.relative_to(house) if package is None else path for path in files]
    return "\n".join([*(f"wrote {path}" for path in shown), *_next(wanted, package)])


def in_room(source: str) -> str:
    """`source` with `from carryover import ...` replaced by imports from the defining modules."""
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "carryover":
            homes: dict[str, list[str]] = {}
            for alias in node.names:
                homes.setdefault(HOMES[alias.name], []).append(alias.name)
            found = [f"from {home} import {', '.join(names)}\n" for home, names in sorted(homes.items())]
            lines[node.lineno - 1 : node.end_lineno] = found
            return "".join(lines)
    return source


def _write(files: dict[Path, str]) -> None:
    for path in files:
        if path.exists():
            raise RequestError(f"{path} already exists; take another name or folder")
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "x") as file:
                file.write(text)
        except OSError as error:
            raise RequestError(f"{path} cannot be written ({error.strerror}); take another folder") from None


def _next(wanted: Wanted, package: Path | None) -> list[str]:
    here = shlex.join(
        [sys.executable, "-m", "pip", "install", "-e", str(package)]
    )  # only this one has Carryover
    lines = [] if package is None else [f"install it:  {here}"]
    if wanted.kind == "method":
        return [*lines, f"check it:    carryover check {wanted.name}", f"run it:      {run_line(wanted)}"]
    return [*lines, f"run it:      {run_line(wanted)}"]


def _names_in(source: str) -> set[str]:
    """The names in `source` that a class of the same name would hide, or that would hide it."""
    tree = ast.parse(source)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    inner = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return used | imported | inner | set(dir(builtins)) | set(HOMES)
