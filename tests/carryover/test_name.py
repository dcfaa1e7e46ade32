"""Carryover is the distribution carryover-bench; another project's `carryover` is told from it, and named."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks.errors import pip_install
from carryover import HOUSE
from carryover.cells.request import command
from carryover.commands.namesake import AUTHOR, namesake

THEIRS = ["Metadata-Version: 2.4", "Name: carryover", "Version: 0.1.1", "Author: A Stranger"]
OURS = ["Metadata-Version: 2.4", "Name: carryover", "Version: 0.1.0", AUTHOR]


def lay(folder: Path, name: str, header: list[str], file: str = "METADATA") -> Path:
    """What an installation leaves beside a package's files."""
    info = folder / name
    info.mkdir()
    (info / file).write_text("\n".join([*header, "", "Name: carryover", AUTHOR, ""]))
    return info


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole import path."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "missing")])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"), [("carryover-0.1.1.dist-info", "METADATA"), ("carryover.egg-info", "PKG-INFO")]
)
def test_a_package_of_our_name_is_named_with_the_way_out(site: Path, name: str, file: str) -> None:
    lay(site, name, THEIRS, file)
    said = namesake()
    assert said.startswith(f"the package carryover 0.1.1 in {site} belongs to another project")
    assert f"{shlex.quote(sys.executable)} -m pip uninstall carryover" in said
    assert f"-m pip install --no-deps -e {HOUSE}" in said


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("carryover_bench-0.1.0.dist-info", ["Name: carryover-bench", "Version: 0.1.0", AUTHOR]),
        ("carryover_mine-0.1.0.dist-info", ["Name: carryover-mine", "Version: 0.1.0"]),
        ("carryover-mine.egg-info", ["Name: carryover-mine", "Version: 0.1.0"]),
        ("carryover-0.1.0.dist-info", OURS),  # this project, from before it was renamed
    ],
)
def test_this_project_and_its_plugins_are_no_strangers(site: Path, name: str, header: list[str]) -> None:
    lay(site, name, header, "METADATA" if name.endswith("dist-info") else "PKG-INFO")
    assert namesake() == ""


def test_what_is_half_removed_is_passed_over(site: Path) -> None:
    assert namesake() == ""
    (site / "carryover-0.1.1.dist-info").mkdir()
    (site / "carryover-1.0-py3.11.egg-info").touch()
    assert namesake() == ""
    lay(site, "carryover-0.1.2.dist-info", THEIRS)
    assert "the package carryover 0.1.1" in namesake()


def test_an_older_installation_of_ours_does_not_hide_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "ours", tmp_path / "theirs"]
    for folder, header in zip(folders, (OURS, THEIRS), strict=True):
        folder.mkdir()
        lay(folder, f"carryover-{header[2][-5:]}.dist-info", header)
    monkeypatch.setattr(sys, "path", [str(folder) for folder in folders])
    assert f"carryover 0.1.1 in {folders[1]}" in namesake()


def test_the_author_is_what_an_installation_says_of_this_project() -> None:
    authors = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]["authors"]
    assert [f"Author: {author['name']}" for author in authors] == [AUTHOR]


@pytest.mark.parametrize("words", [["--help"], ["check"]])
def test_every_command_says_it_once_and_goes_on(tmp_path: Path, words: list[str]) -> None:
    def run(path: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "carryover", *words],
            env=os.environ | {"PYTHONPATH": path},
            cwd=HOUSE,
            capture_output=True,
            text=True,
            check=False,
        )

    lay(tmp_path, "carryover-0.1.1.dist-info", THEIRS)
    plain, warned = run(str(HOUSE)), run(f"{HOUSE}{os.pathsep}{tmp_path}")
    assert "another project's" not in plain.stderr
    warning, rest = warned.stderr.split("\n", 1)
    assert warning.startswith(
        f"warning: the package carryover 0.1.1 in {tmp_path} belongs to another project"
    )
    assert (warned.returncode, warned.stdout, rest) == (plain.returncode, plain.stdout, plain.stderr)


def test_a_command_to_be_typed_is_never_another_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs, linked = (tmp_path / name / "carryover" for name in ("ours", "theirs", "linked"))
    for program in (ours, theirs):
        program.parent.mkdir()
        program.touch(mode=0o755)
    linked.parent.mkdir()
    linked.symlink_to(ours)
    monkeypatch.setattr(sys, "argv", [str(ours)])
    for found, typed in (("theirs", ours), ("none", ours), ("ours", "carryover"), ("linked", "carryover")):
        monkeypatch.setenv("PATH", str(tmp_path / found))
        assert command(["ls"]) == f"{typed} ls"


def test_nobody_is_told_to_install_carryover_from_an_index() -> None:
    told = re.compile(r"\binstall\s[^`\n]*\bcarryover(-bench)?(\[|['\"`]|\s|$)")
    places = [HOUSE / "README.md", *HOUSE.glob("docs/*.md")]
    for room in ("benchmarks", "backbones", "methods", "carryover"):
        places += (HOUSE / room).rglob("*.py")
    found = [str(path) for path in places if told.search(path.read_text(encoding="utf-8"))]
    assert not found
    for line in ("pip install 'carryover[wandb]'", "pip install carryover", "uv pip install carryover-bench"):
        assert told.search(line)


def test_the_command_that_brings_an_optional_package_is_this_environments() -> None:
    python, *words = shlex.split(pip_install("kornia", "matplotlib").strip("`"))
    assert python == sys.executable
    assert words == ["-m", "pip", "install", "kornia", "matplotlib"]


# `make`


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A Makefile beside an environment that is ready and holds nothing."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(HOUSE / name, tmp_path)
    (tmp_path / ".venv" / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (tmp_path / ".venv" / ".ready").touch()
    return tmp_path


def make_ls(clone: Path) -> subprocess.CompletedProcess[str]:
    """What `make ls` would run; not as part of the `make` that runs these tests, which it would mention."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-n", "ls"]
    return subprocess.run(command, cwd=clone, env=outside, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    ("name", "taken_out"),
    [
        ("carryover-0.1.1.dist-info", True),
        ("carryover_bench-0.1.0.dist-info", False),
        ("carryover_mine-0.1.0.dist-info", False),
    ],
)
def test_make_takes_the_namesake_out_of_the_environment(clone: Path, name: str, taken_out: bool) -> None:
    (clone / ".venv" / "lib" / "python3.11" / "site-packages" / name).mkdir()
    ran = make_ls(clone)
    assert ("pip uninstall --quiet --yes carryover &&" in ran.stdout) == taken_out
    assert ("Removing carryover-0.1.1 from .venv" in ran.stdout) == taken_out
    assert (ran.stdout.strip() == ".venv/bin/carryover ls") != taken_out


@pytest.mark.parametrize("namesake", [False, True])
def test_the_set_up_is_a_program_that_a_shell_can_read(clone: Path, namesake: bool) -> None:
    """A comma or a quotation mark inside `$(if ...)` once broke the first `make` of every clone."""
    (clone / ".venv" / ".ready").unlink()
    if namesake:
        (clone / ".venv" / "lib" / "python3.11" / "site-packages" / "carryover-0.1.1.dist-info").mkdir()
    ran = make_ls(clone)
    assert "uv pip sync" in ran.stdout
    subprocess.run(["sh", "-n"], input=ran.stdout, text=True, check=True)
