"""What carries bytes and never makes them stands outside the keys: the rows stay whatever is changed there.

The constants in the files of `CARRIERS` are changed in turn (all of them if CARRYOVER_CARRIERS is set), and a
cell is run by the changed code, in a process of its own. It ends with the same rows, or it says that it
cannot go on; never with others.
"""

from __future__ import annotations

import ast
import copy
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from carryover.cells.key import CARRIERS
from carryover.plugins.code import source_of

ROOMS = ("carryover", "methods", "backbones", "benchmarks")
SECONDS = 60  # a changed constant may be that of a waiting loop
# All constants take a quarter of an hour on one core; each seventh is changed without this variable.
EVERY = "CARRYOVER_CARRIERS" in os.environ


def constants(tree: ast.Module) -> Iterator[int]:
    """The numbers of the constants that run, docstrings and annotations left out, in the order of a walk."""
    spared: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                spared.add(id(first.value))
        for name in ("annotation", "returns"):
            if (said := getattr(node, name, None)) is not None:
                spared |= {id(part) for part in ast.walk(said)}
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            spared |= {id(part) for part in ast.walk(node)}
    for number, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.Constant) and id(node) not in spared and node.value is not ...:
            yield number


def changed(tree: ast.Module, number: int) -> tuple[ast.Module, str]:
    """The tree with its node of that number changed, and what it was."""
    tree = copy.deepcopy(tree)
    node = list(ast.walk(tree))[number]
    assert isinstance(node, ast.Constant)
    value = node.value
    said = f"line {node.lineno}: {value!r}"
    if isinstance(value, bool):
        node.value = not value
    elif isinstance(value, int | float):
        node.value = value + 1
    elif isinstance(value, str):
        node.value = value + "x"
    elif isinstance(value, bytes):
        node.value = value + b"x"
    else:
        node.value = 1
    return tree, said


PROGRAM = """
import sys
from pathlib import Path
from benchmarks.progress import Silent
from benchmarks.store import Store
from backbones.numerics import Numerics
from carryover.cells.ready import Conditions, Workshop
from carryover.cells.run import run_cell
from carryover.records.record import Cell
from carryover.records.results import Results
from benchmarks.stream import Place
folder = Path({folder!r})
store = Store(folder / "cache")
found = []
for method in ("ncm", "linear_probe"):
    cell = Cell(method=method, stream="split-digits?per_class=10&tasks=2", backbone="tiny_vit", seed=0)
    ready = Workshop(Place(store), Conditions(Numerics())).ready(cell)
    record = run_cell(ready, Results(folder / "results"), Silent())
    assert record.status == "ok", record.reason
    found.append([(row.step, row.task, row.n, row.correct, row.hits) for row in record.rows])
"""


def run(pipe: Connection, module: str, tree: ast.Module | None) -> None:
    """In a process of its own: the rows of a small cell, or the name of the exception that ended it."""
    answer: object
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        for name in [name for name in sys.modules if name.partition(".")[0] in ROOMS]:
            del sys.modules[name]
        if tree is not None:
            _Changed.install(module, tree)
        with tempfile.TemporaryDirectory() as folder:
            scope: dict[str, object] = {}
            exec(PROGRAM.format(folder=folder), scope)
            answer = scope["found"]
    except BaseException as error:
        answer = type(error).__name__
    pipe.send(answer)
    os._exit(0)  # what a changed constant left behind, a lock or a thread, is not waited for


def rows_of(module: str, tree: ast.Module | None) -> object:
    """The rows of a small cell run by the code with `tree` in place of a module; an exception's name.

    The process is forked from a server that holds PyTorch and timm: to import them takes longer than a cell.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch", "timm", "torchvision", "sklearn.linear_model", "test_carriers"])
    mine, theirs = server.Pipe(duplex=False)
    process = server.Process(target=run, args=(theirs, module, tree))
    process.start()
    theirs.close()
    try:
        return mine.recv() if mine.poll(SECONDS) else "did not end"
    except EOFError:
        return "ended without a word"
    finally:
        process.kill()
        process.join()


class _Changed:
    """Finds one module in a syntax tree instead of its file."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name, self.tree = name, tree
        self.file = source_of(name)  # now: looking for it later would ask this finder again

    @classmethod
    def install(cls, name: str, tree: ast.Module) -> None:
        sys.meta_path.insert(0, cls(name, tree))  # type: ignore[arg-type]

    def find_spec(self, name: str, path: object, target: object = None) -> object:
        import importlib.util

        if name != self.name:
            return None
        assert self.file is not None
        inside = [str(self.file.parent)] if self.file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name,
            self.file,
            loader=self,
            submodule_search_locations=inside,  # type: ignore[arg-type]
        )

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: object) -> None:
        exec(compile(self.tree, f"changed {self.name}", "exec"), vars(module))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("module", sorted(CARRIERS))
def test_no_constant_of_a_carrier_makes_other_rows(module: str) -> None:
    file = source_of(module)
    assert file is not None
    tree = ast.parse(file.read_bytes())
    plain = rows_of(module, None)
    assert isinstance(plain, list)
    assert plain == rows_of(module, tree), "the code as it is, by way of its tree"
    other, same = [], 0
    for number in list(constants(tree))[:: 1 if EVERY else 7]:
        mutant, said = changed(tree, number)
        found = rows_of(module, mutant)
        same += found == plain
        if isinstance(found, list) and found != plain:
            other.append(said)
    assert other == [], f"{module}: other rows by these constants"
    assert same > 0


def test_a_constant_that_makes_numbers_is_seen() -> None:
    """The test above is not blind: a constant of the nearest class mean changes the rows."""
    file = source_of("methods.ncm")
    assert isinstance(file, Path)
    tree = ast.parse(file.read_bytes())
    plain = rows_of("methods.ncm", None)
    assert isinstance(plain, list)
    seen = False
    for number in constants(tree):
        mutant, _ = changed(tree, number)
        found = rows_of("methods.ncm", mutant)
        seen = seen or (isinstance(found, list) and found != plain)
        if seen:
            break
    assert seen
