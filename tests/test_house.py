"""The house as a whole: which module imports which, read from the source as syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent
ROOMS = ("benchmarks", "backbones", "methods", "carryover")


def test_no_module_is_in_an_import_circle() -> None:
    arrows = import_graph(HOUSE, ROOMS)
    assert len(arrows) > 50, "the rooms were not found"
    circles = strong_components(arrows)
    told = [
        f"{source} -> {target}"
        for circle in circles
        for source in sorted(circle)
        for target in sorted(arrows[source] & circle)
    ]
    assert not told, "import circle:\n" + "\n".join(told)


def test_a_circle_is_seen_whatever_the_import_looks_like(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "room/__init__.py": "",
            "room/inside.py": "def late():\n    from room import other",  # a module, imported late
            "room/other.py": "from .inside import late",  # relative
            "room/package/__init__.py": "from room.package.member import b",
            "room/package/member.py": "from room.package import b",  # a name of the package's own file
            "room/typed.py": (
                "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from room.user import c\n"
                "else:\n    import room.leaf"
            ),
            "room/user.py": "import room.typed",
            "room/leaf.py": "",
        },
    )
    arrows = import_graph(tmp_path, ["room"])
    assert arrows["room.typed"] == {"room.leaf"}
    assert strong_components(arrows) == [
        {"room.inside", "room.other"},
        {"room.package", "room.package.member"},
    ]


def test_a_package_s_own_file_runs_for_whoever_imports_a_member(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "room/__init__.py": "",
            "room/package/__init__.py": "from room.package.member import b\nfrom room.other import a",
            "room/package/member.py": "from room.package.leaf import b",
            "room/package/leaf.py": "",
            "room/other.py": "from room.package.leaf import b",
        },
    )
    assert strong_components(import_graph(tmp_path, ["room"])) == [{"room.other", "room.package"}]


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def import_graph(folder: Path, rooms: tuple[str, ...] | list[str]) -> dict[str, set[str]]:
    """For each module of the rooms, those it imports; imports inside functions count, types alone do not.

    `from a import b` is an import of a.b where that is a module, of a otherwise. An import of a.b by a module
    outside a runs a's own file too; within a, that one runs already.
    """
    files = {name(path, folder): path for room in rooms for path in (folder / room).rglob("*.py")}
    arrows: dict[str, set[str]] = {}
    for module, path in files.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found = set()
        for parent, child in imports(ast.parse(path.read_bytes()), package):
            target = f"{parent}.{child}" if f"{parent}.{child}" in files else parent
            parts = target.split(".")
            above = {".".join(parts[:end]) for end in range(1, len(parts))}
            found |= {target, *(a for a in above if not f"{module}.".startswith(f"{a}."))}
        arrows[module] = (found & files.keys()) - {module}
    return arrows


def name(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module, package: str) -> Iterator[tuple[str, str]]:
    """(a, b) for `from a import b`, (a, "") for `import a`, absolute."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            parent = ".".join([*base, node.module] if node.module else base)
            yield from ((parent, alias.name) for alias in node.names)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def strong_components(arrows: Mapping[str, set[str]]) -> list[set[str]]:
    """Sets of at least two nodes of which each reaches every other (Kosaraju), by their first name."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(node: str, along: Mapping[str, set[str]], out: list[str]) -> None:
        if node in seen:
            return
        seen.add(node)
        for following in along[node]:
            visit(following, along, out)
        out.append(node)

    for node in arrows:
        visit(node, arrows, order)
    backwards: dict[str, set[str]] = {node: set() for node in arrows}
    for source, targets in arrows.items():
        for target in targets:
            backwards[target].add(source)
    seen.clear()
    components = []
    for node in reversed(order):
        component: list[str] = []
        visit(node, backwards, component)
        if len(component) > 1:
            components.append(set(component))
    return sorted(components, key=min)
