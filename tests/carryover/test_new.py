"""`carryover new` writes plugins that run as they are, and never over anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_cells import HERE, only_record

from benchmarks.errors import RequestError
from carryover import HOUSE
from carryover.commands.cli import cli
from carryover.new import METHODS, ROOM, TEMPLATES, Wanted, in_room, write
from carryover.new.package import package_files

EVERYTHING = [Wanted("method", f"mine_{start}", start) for start in METHODS]
EVERYTHING += [Wanted("stream", "mine_stream"), Wanted("backbone", "mine_backbone")]
QUICK = ["-o", "epochs=1", "-o", "min_steps=0"]


def installed(wanted: Wanted, folder: Path) -> None:
    """The package, and beside it what an installation leaves: its entry point, its name and version."""
    import tomllib

    write(wanted, folder)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in e.items()) for group, e in groups)
    )


@pytest.mark.parametrize("wanted", EVERYTHING, ids=lambda wanted: wanted.name)
def test_a_new_package_is_listed_and_runs_as_it_is(
    wanted: Wanted,
    measured: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "package"
    installed(wanted, folder)
    assert {path.name for path in folder.glob("*.*")} >= {"pyproject.toml", "README.md"}
    monkeypatch.syspath_prepend(folder)
    assert cli(["ls", f"{wanted.kind}s"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if f" {wanted.name} " in line)
    assert line.endswith(f"[carryover-{wanted.name.replace('_', '-')} 0.1.0]")
    assert "cannot be loaded" not in line
    assert "say here" in line or wanted.kind == "stream"
    cell = {"method": "ncm", "stream": "split-digits?per_class=4", "backbone": "tiny_vit"}
    cell[wanted.kind] = wanted.name
    words = [word for kind, name in cell.items() for word in (f"--{kind}", name)]
    trained = wanted.kind == "method" and wanted.start not in ("frozen", "episodic")
    options = QUICK if trained else []
    assert cli(["run", *words, *options, "--results", str(tmp_path / "results"), *HERE]) == 0
    record = only_record(tmp_path / "results")
    assert record.status == "ok"
    assert record.metrics["accuracy_last"] > (0.4 if options else 0.5)  # two classes a task; one pass
    assert record.plugin[wanted.kind].startswith(f"carryover_{wanted.name} (carryover-")


@pytest.mark.parametrize("wanted", EVERYTHING, ids=lambda wanted: wanted.name)
def test_what_is_written_is_in_order_in_a_room_and_in_a_package(wanted: Wanted, tmp_path: Path) -> None:
    room = tmp_path / ROOM[wanted.kind] / f"{wanted.name}.py"
    room.parent.mkdir(parents=True)
    room.write_text(in_room(wanted.source()))
    package = tmp_path / "package"
    write(wanted, package)
    house = str(HOUSE / "pyproject.toml")
    for settings, path in ((house, room), (str(package / "pyproject.toml"), package)):
        for check in (["check"], ["format", "--check"]):
            command = [sys.executable, "-m", "ruff", *check, "--no-cache", "--config", settings, str(path)]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_package_asks_for_this_project_by_the_name_that_its_environment_has() -> None:
    import tomllib

    ours = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]["name"]
    for wanted in EVERYTHING:
        project = tomllib.loads(package_files(wanted)["pyproject.toml"])["project"]
        assert project["dependencies"] == [ours] == ["carryover-bench"]


def test_a_room_is_handed_no_import_of_the_roof() -> None:
    for wanted in EVERYTHING:
        assert "from carryover import" in wanted.source()
        assert "carryover import" not in in_room(wanted.source())


@pytest.mark.slow
def test_the_templates_are_typed_strictly() -> None:
    files = [str(path) for path in TEMPLATES.glob("*.py")]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *files],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout


def clone(folder: Path) -> Path:
    """The rooms of this house, linked file by file, so that a new file is in the copy alone."""
    for path in (
        HOUSE.joinpath("pyproject.toml"),
        *sorted(
            path
            for room in ("benchmarks", "backbones", "methods", "carryover")
            for path in (HOUSE / room).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ),
    ):
        copy = folder / path.relative_to(HOUSE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(path) if path.suffix != ".py" else copy.write_bytes(path.read_bytes())
    return folder


@pytest.mark.slow
def test_a_new_file_in_a_clone_is_listed_and_runs(measured: None, tmp_path: Path) -> None:
    house = clone(tmp_path / "house")
    start = [
        "import sys; sys.path.insert(0, '.'); "
        "from carryover.commands.cli import cli; sys.exit(cli(sys.argv[1:]))"
    ]

    def carryover(*words: str) -> str:
        command = [sys.executable, "-c", *start, *words]
        ran = subprocess.run(command, cwd=house, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    for wanted in EVERYTHING:
        kind = ["--kind", wanted.start] if wanted.kind == "method" else []
        said = carryover("new", wanted.kind, wanted.name, *kind)
        assert said.startswith(f"wrote {ROOM[wanted.kind]}/{wanted.name}.py\n")
    names = [wanted.name for wanted in EVERYTHING]
    assert all(f" {name} " in carryover("ls") for name in names)
    cells = ["--stream", "mine_stream", "--backbone", "mine_backbone", *HERE]
    table = carryover("run", "--method", f"{','.join(names[1:3])},ncm", *cells)
    table += carryover("run", "--method", names[0], *cells, *QUICK)
    assert all(name in table for name in names[:3])


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    wanted = Wanted("method", "mine")
    (tmp_path / "README.md").write_text("mine own")
    with pytest.raises(RequestError, match=r"README\.md already exists"):
        write(wanted, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    house = tmp_path / "house"
    (house / "methods").mkdir(parents=True)
    (house / "pyproject.toml").touch()
    assert write(wanted, house=house).startswith("wrote methods/mine.py")
    with pytest.raises(RequestError, match=r"mine\.py already exists"):
        write(wanted, house=house)
    (house / "methods" / "large").mkdir()
    with pytest.raises(RequestError, match="large already exists"):
        write(Wanted("method", "large"), house=house)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("method", "meat", "there is already a method 'meat', from carryover (methods.meat)"),
        ("stream", "split-digits", "lower-case letters, digits and _"),
        ("backbone", "tiny_vit", "there is already a backbone 'tiny_vit', from carryover (backbones.tiny)"),
        ("backbone", "resnet18", "already a backbone 'resnet18', from timm"),
        ("method", "no-name", "'no-name' cannot be the name of a method"),
        ("method", "../up", "cannot be the name"),
        ("method", "1st", "cannot be the name"),
        ("method", "class", "cannot be the name"),
        ("method", "", "cannot be the name"),
        ("method", "task", "needs a class Task"),
    ],
)
def test_a_bad_name_is_refused_in_one_sentence(
    kind: str, name: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli(["new", kind, name, "--package", str(tmp_path / "made")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "made").exists()
