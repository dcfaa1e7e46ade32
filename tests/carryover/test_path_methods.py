"""A file is a method as it is; its code is in the key and its place is not; errors name its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_plugins import METHOD
from tiny_cells import only_record, python, ready, stream_of, words

from benchmarks.errors import RequestError
from benchmarks.progress import Silent
from carryover.cells.key import standing
from carryover.cells.learn import Maker
from carryover.commands.cli import cli
from carryover.plugins import catalogue, file
from carryover.protocols.journal import CellJournal
from carryover.records.results import Results


def method_file(folder: Path, text: str = METHOD, name: str = "my_method.py") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(text)
    return folder / name


def key(path: Path, pictures: Path) -> str:
    return ready(str(path), stream_of(pictures), options={}).key


def test_a_file_is_run_like_an_installed_method(
    measured: None,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = method_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = words("./my_method.py", stream_of(pictures), tmp_path / "results", "-o", "bias=2")
    assert cli(asked) == 0
    assert f"running the code of {path}\n" in capsys.readouterr().err
    record = only_record(tmp_path / "results")
    assert record.cell.method.startswith("my_method.py:Guess@")
    assert record.config == {"bias": 2.0}
    assert f"({path}, sha256 " in record.plugin["method"]
    assert standing(record) == "current"
    assert cli(asked) == 0
    assert "already recorded" in capsys.readouterr().err
    path.write_text(METHOD.replace("torch.eye(width)[0]", "torch.eye(width)[-1]"))
    assert standing(record) == "gone"
    assert cli(asked) == 0
    records = Results(tmp_path / "results").all()[0]
    assert len({record.cell.method for record in records}) == 2


def test_its_code_is_in_the_key_and_its_place_is_not(pictures: Path, tmp_path: Path) -> None:
    plain = method_file(tmp_path / "a")
    moved = method_file(tmp_path / "b")
    reworded = method_file(tmp_path / "c", METHOD.replace('"""Guess', '"""# Guesses') + "\n# a comment\n")
    changed = method_file(tmp_path / "d", METHOD.replace("float = 1.0", "float = 1.5"))
    assert key(plain, pictures) == key(moved, pictures) == key(reworded, pictures)
    assert key(plain, pictures) != key(changed, pictures)
    names = {catalogue.method_class(str(path))[0].name for path in (plain, changed)}
    assert len(names) == 2, "two files of one name would share a line of the table"


def test_an_edit_draws_the_same_noise(pictures: Path, tmp_path: Path) -> None:
    made = [method_file(tmp_path / "a"), method_file(tmp_path / "b", METHOD.replace("1.0", "1.5"))]
    cells = [ready(str(path), stream_of(pictures), options={}) for path in made]
    methods = [Maker(cell, CellJournal(tmp_path), Silent())(cell.stream.info) for cell in cells]
    assert {method.context.seeds.method for method in methods} == {"my_method.py:Guess"}


def test_one_of_several_classes_is_named_after_a_colon(tmp_path: Path) -> None:
    second = (
        METHOD[METHOD.index("class Guess") :].replace("class Guess", "class Other").replace('"guess"', '"o"')
    )
    path = method_file(tmp_path, METHOD + "\n\n" + second)
    assert catalogue.method_class(f"{path}:Other")[1].__name__ == "Other"
    with pytest.raises(RequestError, match=r"2 subclasses of Method \(Guess, Other\); name one, .*:Guess"):
        catalogue.method_class(str(path))
    with pytest.raises(RequestError, match="has no method 'Third'; it has Guess, Other"):
        catalogue.method_class(f"{path}:Third")


def test_only_files_are_taken_for_files() -> None:
    assert all(map(file.is_path, ("./a.py", "a.py", "/x/a.py:Mine", "~/a.py")))
    assert not any(map(file.is_path, ("ncm", "sklearn:sklearn.svm.LinearSVC", "a.py:Mine@1a2b3c4d")))


@pytest.mark.slow
def test_workers_find_the_file_again(measured: None, pictures: Path, tmp_path: Path) -> None:
    method_file(tmp_path)
    asked = words("./my_method.py", stream_of(pictures), tmp_path / "results", "--jobs", "2", "--seed", "0,1")
    ran = python(f"import os; os.chdir({str(tmp_path)!r})", asked, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    assert [r.status for r in Results(tmp_path / "results").all()[0]] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("def learn(self, task: Task) -> None:", "def learn(self, task: Task -> None:", ":19: SyntaxError:"),
        ("import torch\n", "import torch\nimport not_there\n", ":6: No module named 'not_there'; install"),
        ("import torch\n", "import torch\n1 / 0\n", ":6: ZeroDivisionError: division by zero"),
        ("class Guess(Method)", "class Guess", "has 0 subclasses of Method; write one"),
        ("    @dataclass(frozen=True)\n", "", " is not in a dataclass, so bias cannot be typed; write"),
        ("    @dataclass(frozen=True)\n", "    @dataclass\n", "cannot inherit non-frozen"),
        ("class Config(Method.Config)", "class Options(Method.Config)", ":10 has no Config; give it one"),
        (
            "bias: float = 1.0",
            "bias: torch.Tensor = None",
            ":17 has the option bias of the type Tensor, which",
        ),
        ("bias: float = 1.0", "bias: Unheard = None", ":17: NameError: name 'Unheard' is not defined"),
        ("bias: float = 1.0", "bias: float", ":17 has the option bias without a default; give it one"),
        ("def footprint", "def foot", ":10 lacks footprint; define what is missing"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(
    old: str, new: str, said: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in METHOD
    path = method_file(tmp_path, METHOD.replace(old, new, 1))
    assert cli(words(str(path), stream_of(pictures), tmp_path / "results")) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert str(path) in errors[0]
    assert said in errors[0]


def test_a_file_that_is_not_there(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = words(str(tmp_path / "none.py"), stream_of(pictures), tmp_path / "results")
    assert cli(asked) == 2
    assert "none.py cannot be read (No such file or directory); give" in capsys.readouterr().err
