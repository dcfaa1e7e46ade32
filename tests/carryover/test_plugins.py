"""What exists is found without torch, foreign plugins like ours, and nothing shadows the house unnoticed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_cells import only_record, python, stream_of, words

from benchmarks.errors import RequestError
from carryover.commands.cli import cli
from carryover.plugins import catalogue

HEAVY = ("torch", "timm", "pandas", "pyarrow", "sklearn", "scipy", "matplotlib", "torchvision")
COMMAND = Path(sys.executable).parent / "carryover"


def imported(*typed: str) -> tuple[set[str], str]:
    """Top-level modules that are loaded after a command, and what it printed."""
    loaded = "' '.join({name.partition('.')[0] for name in sys.modules})"
    ran = python(f"import atexit; atexit.register(lambda: print('\\n' + {loaded}))", list(typed))
    assert ran.returncode == 0, ran.stderr
    shown, _, modules = ran.stdout.rstrip().rpartition("\n")
    return set(modules.split()), shown


def test_help_loads_next_to_nothing() -> None:
    modules, shown = imported("--help")
    assert "Measure what a vision model carries over" in shown
    assert not modules & {*HEAVY, "numpy", "rich", "PIL"}


def test_listing_loads_no_network_library() -> None:
    modules, shown = imported("ls", "--json")
    assert not modules & set(HEAVY)
    found = json.loads(shown)
    assert {"meat", "linear_probe", "full_finetune", "ncm", "joint"} <= set(found["methods"])
    presets = {"split-cifar100", "split-cifar10", "split-imagenet-subset", "split-digits", "split:SOURCE"}
    assert presets <= set(found["streams"])
    assert {"tiny_vit", "tiny_swin", "small_vit"} <= set(found["backbones"])
    assert all(row["summary"] for rows in found.values() for row in rows.values())


@pytest.mark.parametrize("kind", ["methods", "streams", "backbones"])
def test_listing_one_kind(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["ls", kind, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == [kind]
    assert cli(["ls", kind]) == 0
    assert capsys.readouterr().out.startswith(f"{kind}:")


def test_the_four_reference_rows_declare_themselves() -> None:
    assert {n for n, p in catalogue.methods().items() if p.reference} == {
        "ncm",
        "linear_probe",
        "full_finetune",
        "joint",
    }


# Another's folder under one of our names


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A project with a folder of its own named `methods`."""
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "__init__.py").write_text("raise SystemExit('the wrong methods')\n")
    return tmp_path


@pytest.mark.skipif(not COMMAND.exists(), reason="carryover is not installed as a command here")
def test_a_folder_named_methods_in_the_working_directory_does_not_matter(
    measured: None, foreign: Path, pictures: Path, tmp_path: Path
) -> None:
    command = [str(COMMAND), *words("ncm", stream_of(pictures), tmp_path / "results")]
    ran = subprocess.run(command, cwd=foreign, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert only_record(tmp_path / "results").status == "ok"


@pytest.mark.parametrize("kind", ["package", "namespace", "file"])
def test_a_package_that_shadows_a_room_is_named_in_one_sentence(kind: str, foreign: Path) -> None:
    if kind == "namespace":  # a folder without __init__.py loses against ours, wherever it stands
        (foreign / "methods" / "__init__.py").unlink()
    if kind == "file":
        shutil.rmtree(foreign / "methods")
        (foreign / "methods.py").write_text("")
    ran = subprocess.run(
        [sys.executable, "-c", "import carryover"],
        env=os.environ | {"PYTHONPATH": str(foreign)},
        cwd=foreign,
        capture_output=True,
        text=True,
        check=False,
    )
    if kind == "namespace":
        assert ran.returncode == 0, ran.stderr
        return
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    where = foreign / ("methods.py" if kind == "file" else "methods")
    assert last.startswith(f"ImportError: Carryover's package 'methods' is shadowed by {where}: rename it")


# Entry points

METHOD = '''"""Guess: always the first class."""

from dataclasses import dataclass

import torch

from carryover import Backbone, Footprint, Inputs, Method, Task


class Guess(Method):
    """Says the same of every image."""

    name = "guess"

    @dataclass(frozen=True)
    class Config(Method.Config):
        bias: float = 1.0

    def learn(self, task: Task) -> None:
        self.learnt.append(task.id)

    def predict(self, inputs: Inputs, task_id: int | None) -> torch.Tensor:
        width = len(self.columns() if task_id is None else self.context.info.classes[task_id])
        return torch.eye(width)[0].expand(len(inputs), width) * self.config.bias

    def state(self) -> dict[str, torch.Tensor]:
        return {"learnt": torch.tensor(self.learnt)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.learnt = state["learnt"].tolist()

    def footprint(self) -> Footprint:
        return Footprint(trainable=0, head=0, stored_bits=0)
'''


def install(folder: Path, entries: str, **modules: str) -> None:
    """Put modules and a distribution `foreign 1.0` with these entry points into a folder of the path."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    info = folder / "foreign-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)


def test_a_foreign_method_is_run_like_ours(
    measured: None,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(tmp_path, "[carryover.methods]\nguess = guess_plugin:Guess\n", guess_plugin=METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    assert cli(["ls", "methods"]) == 0
    assert "[foreign 1.0]" in capsys.readouterr().out
    assert cli(words("guess", stream_of(pictures), tmp_path / "results", "-o", "bias=2")) == 0
    record = only_record(tmp_path / "results")
    assert record.metrics["accuracy_last"] == 0.5
    assert record.plugin["method"] == "guess_plugin (foreign 1.0)"
    assert record.config == {"bias": 2.0}


def test_a_name_that_is_taken_names_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "[carryover.methods]\nmeat = butcher:Meat\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = "two methods are named 'meat': one from carryover (methods.meat), one from foreign 1.0"
    assert cli(["ls", "methods"]) == 0
    assert said in capsys.readouterr().out
    with pytest.raises(RequestError) as refused:
        catalogue.method_class("meat")
    assert said in str(refused.value)
    assert catalogue.method_class("ncm")[1].name == "ncm"


@pytest.mark.parametrize(
    ("name", "module", "said"),
    [
        ("bad_0", "raise OSError('no library')", "bad_0.py:1: OSError: no library"),
        ("bad_1", "import a_library_that_is_not_there", "bad_1.py:1: No module named 'a_library_that"),
        ("bad_2", "x = 1", "does not exist"),
        ("bad_4", "class Guess(:", "bad_4.py:1: invalid syntax"),
        ("bad_3", "class Guess: pass", "bad_3:Guess is not a subclass of Method"),
    ],
)
def test_a_plugin_that_does_not_load_is_named_and_costs_nobody_else(
    name: str,
    module: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(tmp_path, f"[carryover.methods]\nguess = {name}:Guess\n", **{name: module})
    monkeypatch.syspath_prepend(tmp_path)
    assert cli(["ls"]) == 0
    capsys.readouterr()
    with pytest.raises(RequestError) as refused:
        catalogue.method_class("guess")
    assert said in str(refused.value)
    assert "'guess'" in str(refused.value)
    assert catalogue.method_class("ncm")[1].name == "ncm"


def test_a_foreign_stream_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = "from carryover import Stream\nclass Mine(Stream):\n    catalogue = {'mine': 'one line'}\n"
    install(tmp_path, "[carryover.streams]\nmine = stream_plugin:Mine\n", stream_plugin=stream)
    monkeypatch.syspath_prepend(tmp_path)
    plugin, found = catalogue.stream_class("mine")
    assert (plugin.origin, found.__name__) == ("foreign 1.0", "Mine")


def test_all_that_a_plugin_needs_comes_from_one_package() -> None:
    import carryover

    for name in carryover.__all__:
        assert getattr(carryover, name).__name__ == name
    promised = {"Method", "GradientMethod", "Stream", "StreamInfo", "Task", "Inputs", "Labelled", "Exam"}
    assert promised | {"Backbone"} <= set(carryover.__all__)
    with pytest.raises(AttributeError, match="'Nothing'; it exports"):
        carryover.Nothing  # noqa: B018
