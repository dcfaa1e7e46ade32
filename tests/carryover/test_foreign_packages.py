"""Packages of others, really built and installed: listed, run, in the table, the record and the key.

And what is wrong with them: it is said of the plugin that is asked for, and costs nobody else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_plugins import METHOD, install
from tiny_cells import HERE, ready, stream_of

from benchmarks.errors import RequestError
from carryover.new import Wanted, write
from carryover.plugins import catalogue
from carryover.records.results import Results

FOREIGN = [Wanted("method", "theirs"), Wanted("stream", "their_stream"), Wanted("backbone", "their_backbone")]
START = "import sys; from carryover.commands.cli import cli; sys.exit(cli(sys.argv[1:]))"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three packages, built by setuptools and installed by pip without a network."""
    pytest.importorskip("setuptools")
    root = tmp_path_factory.mktemp("foreign")
    for wanted in FOREIGN:
        write(wanted, root / wanted.name)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        pip += ["--no-index", "--target", str(root / "site"), str(root / wanted.name)]
        ran = subprocess.run(pip, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
    return root / "site"


def carryover(site: Path, *words: str) -> str:
    """What a command prints, in a process that has these packages."""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", START, *words],
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_installed_packages_are_listed_run_and_recorded(measured: None, site: Path, tmp_path: Path) -> None:
    listed = carryover(site, "ls")
    for wanted in FOREIGN:
        line = next(line for line in listed.splitlines() if line.startswith(f"  {wanted.name} "))
        assert line.endswith(f"[carryover-{wanted.name.replace('_', '-')} 0.1.0]")
    cell = ["--stream", "their_stream", "--backbone", "their_backbone"]
    cell += ["--results", str(tmp_path), *HERE]
    carryover(site, "run", "--method", "ncm", *cell)
    table = carryover(site, "run", "--method", "theirs", *cell, "-o", "epochs=1", "-o", "min_steps=0")
    assert "theirs" in table
    both = carryover(site, "report", "--results", str(tmp_path), "--format", "csv")
    assert "theirs" in both
    assert "ncm" in both
    record = next(r for r in Results(tmp_path).all()[0] if r.cell.method == "theirs")
    assert record.plugin == {
        "method": "carryover_theirs (carryover-theirs 0.1.0)",
        "stream": "carryover_their_stream (carryover-their-stream 0.1.0)",
        "backbone": "carryover_their_backbone (carryover-their-backbone 0.1.0)",
    }
    versions = {name: version for name, version in record.env.packages.items() if "their" in name}
    assert len(versions) == 3
    assert set(versions.values()) == {"0.1.0"}


@pytest.mark.parametrize("kind", ["method", "stream", "backbone"])
def test_version_and_source_of_a_package_are_in_the_key(
    kind: str, measured: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_new import installed

    wanted = next(one for one in FOREIGN if one.kind == kind)
    names = {"method": "ncm", "stream": "split-digits?per_class=4", "backbone": "tiny_vit"}
    names[kind] = f"{wanted.name}_key"
    wanted = Wanted(kind, names[kind])
    installed(wanted, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def parts() -> dict[str, str]:
        return ready(names["method"], names["stream"], names["backbone"], options={}).key_parts

    plain = parts()
    assert parts() == plain
    metadata = next(tmp_path.glob("*.dist-info")) / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 0.1.0", "Version: 0.2.0"))
    newer = parts()
    assert {name for name in plain if plain[name] != newer[name]} == {"packages"}
    file = tmp_path / f"carryover_{wanted.name}.py"
    file.write_text(file.read_text() + "\n\nUNUSED = 1\n")
    os.utime(file, (time.time() + 2, time.time() + 2))
    changed = parts()
    assert {name for name in newer if newer[name] != changed[name]} == {"code"}


def test_ctrl_c_while_a_plugin_is_imported_says_whose_code_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hangs = "import signal\nsignal.raise_signal(signal.SIGINT)\n"  # what Ctrl-C does to an endless import
    install(tmp_path, "[carryover.methods]\nguess = hangs_at_import:Guess\n", hangs_at_import=hangs)
    monkeypatch.syspath_prepend(tmp_path)
    assert "guess" in catalogue.methods()  # listed, since nothing is imported for it
    with pytest.raises(KeyboardInterrupt):
        catalogue.method_class("guess")
    assert (
        "interrupted while the code of method 'guess' of foreign 1.0 was running" in capsys.readouterr().err
    )


def test_two_packages_of_one_name_are_both_named_and_cost_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0", "2.0"):
        folder = tmp_path / version
        folder.mkdir()
        module = f"guess_{version[0]}"
        install(folder, f"[carryover.methods]\nguess = {module}:Guess\n", **{module: METHOD})
        info = (folder / "foreign-1.0.dist-info").rename(folder / f"other_{version[0]}-{version}.dist-info")
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: other-{version[0]}\nVersion: {version}\n"
        )
        monkeypatch.syspath_prepend(folder)
    problem = catalogue.methods()["guess"].problem
    assert "two methods are named 'guess'" in problem
    assert "other-1 1.0" in problem
    assert "other-2 2.0" in problem
    with pytest.raises(RequestError, match="two methods are named 'guess'"):
        catalogue.method_class("guess")
    assert catalogue.method_class("ncm")[1].name == "ncm"


def test_a_backbone_that_is_no_recipe_is_refused(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "[carryover.backbones]\nodd = odd_backbone:RECIPE\n", odd_backbone="RECIPE = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RequestError, match="odd_backbone:RECIPE is a int; make it a Recipe of `carryover`"):
        ready("ncm", stream_of(pictures), "odd", options={})
