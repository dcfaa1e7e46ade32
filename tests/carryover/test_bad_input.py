"""Bad input: one sentence that says what is wrong and what to do, the right exit code, nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_cells import HERE, QUICK, only_record, ready, same_outcome, stream_of, words

import carryover.cells.run
from benchmarks import store
from benchmarks.progress import Silent
from carryover.cells.run import run_cell
from carryover.commands.cli import cli
from carryover.protocols.journal import CellJournal
from carryover.records.results import Results
from methods.full_finetune import FullFinetune

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Run a command line that is refused; returns its one sentence."""

    def run(*typed: str) -> str:
        assert cli([*typed, "--results", str(tmp_path / "results")]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert "Traceback" not in err
        lines = [line for line in err.splitlines() if line.startswith(("error: ", "Error: "))]
        assert len(lines) == 1, err
        assert Results(tmp_path / "results").all() == ([], [])
        return lines[0]

    return run


# Of options that are typed twice the second counts.
RUN = ["run", "--stream", "split-digits?per_class=4", "--backbone", "tiny_vit", *HERE]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--method", "maet"], ["unknown method 'maet'; did you mean 'meat'?", "Valid:", "ncm", "methods/"]),
        (["--method", "zzz"], ["unknown method 'zzz'. Valid:", "meat"]),
        (["--method", "ncm,maet"], ["'maet'"]),
        (["--method", ","], ["names no method; write --method NAME"]),
        (
            ["--method", "ncm", "--stream", "split-digit"],
            ["unknown stream 'split-digit'; did you mean 'split-digits'?", "split-cifar100", "split:SOURCE"],
        ),
        (["--method", "ncm", "--stream", "split:digit"], ["unknown source 'digit'; did you mean 'digits'?"]),
        (["--method", "ncm", "--backbone", "tiny_vitt"], ["'tiny_vitt'; did you mean 'tiny_vit'?"]),
        (["--method", "ncm", "--backbone", "tiny_vit?dept=3"], ["dept", "depth"]),
        (["--method", "meat", "-o", "gama=2"], ["unknown option of meat 'gama'; did you mean 'gamma'?"]),
        (["--method", "meat", "-o", "epochs=many"], ["meat: the option epochs=many does not fit", "int"]),
        (["--method", "meat", "-o", "epochs=0"], ["epochs=0 lies outside 1"]),
        (["--method", "meat", "-o", "lr=-1"], ["lr=-1.0 is negative"]),
        (["--method", "meat", "-o", "lr=nan"], ["lr"]),
        (["--method", "meat", "-o", "gamma"], ["the option 'gamma' is not of the form KEY=VALUE; write -o"]),
        (["--method", "meat", "-o", "=2"], ["the option '=2' is not of the form"]),
        (["--method", "meat", "-o", "blocks=7"], ["blocks=7", "0 to 1"]),
        (["--method", "ncm", "--seed", "one"], ["the seed 'one' is not a whole number from 0"]),
        (["--method", "ncm", "--seed", "0,-1"], ["the seed '-1' is not"]),
        (["--method", "ncm", "--threads", "0"], ["threads=0"]),
        (["--method", "ncm", "--device", "tpu"], ["device 'tpu' is neither cpu"]),
        (["--method", "ncm", "--stream", "split-digits?tasks=11"], ["tasks=11 lies outside 1 to 10"]),
        (["--method", "ncm", "--order", "first"], ["order=first is no order"]),
        (["--method", "ncm", "--stream", "split-digits?task=5"], ["'task'; did you mean 'tasks'?", "order"]),
        (["--method", "ncm", "--stream", "split-digits?tasks"], ["'tasks' is no parameter"]),
        (["--method", "ncm", "--stream", "split-digits?tasks=few"], ["tasks=few does not fit"]),
        (["--method", "ncm", "--stream", "split-digits?per_class=999"], ["per_class", "999"]),
        (["--method", "ncm", "--stream", "split:folder:/no/such/place"], ["/no/such/place does not exist"]),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_spent(
    typed: list[str], said: list[str], refused
) -> None:
    sentence = refused(*RUN, *typed)
    assert all(part in sentence for part in said), sentence


def test_a_method_alone_on_a_stream_it_does_not_support_is_refused_with_its_reason(refused) -> None:
    said = refused(*RUN, "--method", "meat", "--stream", "split-digits?scenario=class")
    assert "meat does not run here: MEAT keeps one set of masks for each task" in said
    assert "class-incremental" in said


def test_within_a_matrix_it_is_skipped(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = stream_of(pictures, scenario="class")
    assert cli([*RUN, "--method", "meat,ncm", "--stream", stream, "--results", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    assert f"meat on {stream}, tiny_vit, order 1993, seed 0: skipped, MEAT keeps one set of masks" in err
    assert "skipped" in out
    assert only_record(tmp_path).cell.method == "ncm"


# Data


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CARRYOVER_DATA of its own."""
    monkeypatch.setenv("CARRYOVER_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def png(tmp_path: Path) -> bytes:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "one.png")
    return (tmp_path / "one.png").read_bytes()


def parquet(folder: Path, images: list[bytes], labels: list[int], column: str = "label") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"img": [{"bytes": image, "path": "x.png"} for image in images], column: labels}
    pd.DataFrame(rows).to_parquet(folder / "train.parquet")
    whole = {"img": [rows["img"][0]] * 10, column: list(range(10))}
    pd.DataFrame(whole).to_parquet(folder / "test.parquet")
    return folder / "train.parquet"


def test_a_data_root_that_does_not_exist(data: Path, refused) -> None:
    data.rmdir()
    said = refused(*RUN, "--method", "ncm", "--stream", "split-cifar10")
    assert f"the data folder {data} does not exist; set CARRYOVER_DATA" in said


def test_data_that_are_nowhere_say_where_they_were_looked_for(data: Path, refused) -> None:
    said = refused(*RUN, "--method", "ncm", "--stream", "split-imagenet-subset")
    assert f"looked for in {data / 'imagenet-subset'}" in said
    assert "folder:PATH" in said


def test_an_empty_folder(data: Path, refused) -> None:
    (data / "cifar10").mkdir()
    assert f"{data / 'cifar10'} is empty" in refused(*RUN, "--method", "ncm", "--stream", "split-cifar10")
    said = refused(*RUN, "--method", "ncm", "--stream", f"split:folder:{data / 'cifar10'}")
    assert "is empty; put images there" in said


def test_a_class_folder_without_images(pictures: Path, tmp_path: Path, refused) -> None:
    shutil.copytree(pictures, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "train" / "elm")
    (tmp_path / "copy" / "train" / "elm").mkdir()
    said = refused(*RUN, "--method", "ncm", "--stream", stream_of(tmp_path / "copy"))
    assert str(tmp_path / "copy" / "train" / "elm") in said


def test_a_truncated_parquet_file_is_named(data: Path, tmp_path: Path, refused) -> None:
    file = parquet(data / "cifar10", [png(tmp_path)] * 20, list(range(10)) * 2)
    file.write_bytes(file.read_bytes()[:-40])
    assert str(file) in refused(*RUN, "--method", "ncm", "--stream", "split-cifar10")


def test_an_image_that_cannot_be_decoded_is_named_with_its_row(data: Path, tmp_path: Path, refused) -> None:
    images = [png(tmp_path)] * 20
    images[7] = b"no image"
    file = parquet(data / "cifar10", images, list(range(10)) * 2)
    said = refused(*RUN, "--method", "ncm", "--stream", "split-cifar10")
    assert str(file) in said
    assert "row 7" in said


def test_an_image_file_that_is_cut_short_is_named(pictures: Path, tmp_path: Path, refused) -> None:
    shutil.copytree(pictures, tmp_path / "copy")
    file = sorted((tmp_path / "copy" / "train").rglob("*.png"))[5]
    file.write_bytes(file.read_bytes()[:200])
    assert str(file) in refused(*RUN, "--method", "ncm", "--stream", stream_of(tmp_path / "copy"))


def test_labels_out_of_range_are_named(data: Path, tmp_path: Path, refused) -> None:
    labels = list(range(10)) * 2
    labels[3] = -1
    parquet(data / "cifar10", [png(tmp_path)] * 20, labels)
    said = refused(*RUN, "--method", "ncm", "--stream", "split-cifar10")
    assert "-1" in said


# Results


def test_a_results_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert cli([*RUN, "--method", "ncm", "--results", str(tmp_path / "file" / "results")]) == 2
    assert "cannot be written (Not a directory)" in capfd.readouterr().err

    def read_only(*_: object, **__: object) -> None:  # root may write anywhere, so it is played
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    assert cli([*RUN, "--method", "ncm", "--results", str(tmp_path)]) == 2
    err = capfd.readouterr().err
    assert "cannot be written (Read-only file system); choose another with --results DIR" in err
    assert "Traceback" not in err


def test_a_disk_that_is_almost_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert cli([*RUN, "--method", "ncm", "--results", str(tmp_path)]) == 2
    assert "has 0 MiB free, but a run needs 1" in capfd.readouterr().err


@pytest.mark.parametrize("calls", [0, 1, 3, 8, 13, 14, 15, 16])
def test_a_disk_that_fills_up_in_the_middle_loses_nothing(
    calls: int,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    full, calm = tmp_path / "full", tmp_path / "calm"
    command = words("linear_probe", stream_of(pictures), full)
    run_cell(ready("linear_probe", stream_of(pictures)), Results(calm), Silent())  # fills the caches too
    monkeypatch.setattr(
        carryover.cells.run, "CellJournal", lambda folder, states: CellJournal(folder, 0.0, states)
    )
    left = calls

    def fsync(descriptor: int) -> None:
        nonlocal left
        here = os.readlink(f"/proc/self/fd/{descriptor}")
        if here.startswith(str(full)) and not here.startswith(str(full / ".probe")):
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", fsync)
        assert cli(command) == 2
    out, err = capfd.readouterr()
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "cannot be written (No space left on device)" in said[0]
    assert "--results DIR" in said[0]
    assert "Traceback" not in out + err
    assert Results(full).all() == ([], [])
    if calls > 4:
        assert list((full / "journal").glob("*/*.safetensors")), "what was done is lost"
    assert cli(command) == 0
    same_outcome(full, calm)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("broken", '{"schema": "1.0", "key": ', "its JSON is broken"),
        ("empty", "", "its JSON is broken"),
        ("future", '{"schema": "2.0", "rows": []}', "it has schema 2.0, but this version"),
        ("other", '{"schema": "1.0"}', "it is not a record"),
        ("list", "[]", "it is not a record"),
    ],
)
def test_a_file_that_is_no_record_is_named_and_set_aside(
    name: str, text: str, said: str, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = words("ncm", stream_of(pictures), tmp_path)
    assert cli([*command, "--quiet"]) == 0
    file = tmp_path / "records" / "stream" / "backbone" / "method" / f"{name}.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    capfd.readouterr()
    for typed in (command, ["report", "--results", str(tmp_path)], ["status", "--results", str(tmp_path)]):
        assert cli(typed) == 0
        out, err = capfd.readouterr()
        assert f"ignored: {file}: {said}" in err
        assert "ncm" in out or "1 records, 0 failures" in out
        assert "Traceback" not in out + err
    assert file.read_text() == text


def test_a_record_that_was_damaged_is_made_again_and_kept_aside(pictures: Path, tmp_path: Path) -> None:
    command = words("ncm", stream_of(pictures), tmp_path)
    assert cli([*command, "--quiet"]) == 0
    path = Results(tmp_path).path(only_record(tmp_path))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert cli([*command, "--quiet"]) == 0
    assert only_record(tmp_path).status == "ok"
    kept = [file for file in path.parent.iterdir() if file.suffix == ".broken"]
    assert [file.read_bytes() for file in kept] == [whole[: len(whole) // 2]]


# Cells that fail


def test_a_loss_that_turns_nan_fails_its_cell_and_no_other(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(self: FullFinetune, images: torch.Tensor) -> torch.Tensor:
        bad = self.backbone.training and self.learnt == [0]
        return self.backbone(images) * (float("nan") if bad else 1)

    monkeypatch.setattr(FullFinetune, "features", broken)
    options = [word for key, value in QUICK.items() for word in ("-o", f"{key}={value}")]
    typed = [*RUN, "--method", "full_finetune,joint", "--stream", stream_of(pictures), *options]
    assert cli([*typed, "--results", str(tmp_path)]) == 1
    out, err = capfd.readouterr()
    assert "failed, TrainingError: the loss became nan at step 1 of task 1; lower the learning rate" in err
    assert "not finished" in out
    assert "TrainingError" in out
    assert "Traceback" not in out + err
    by_method = {record.cell.method: record for record in Results(tmp_path).all()[0]}
    assert by_method["joint"].status == "ok"
    assert by_method["full_finetune"].status == "failed"
    assert "step 1 of task 1" in by_method["full_finetune"].reason
    assert "TrainingError" in by_method["full_finetune"].traceback
    # It is no result: the same command tries again.
    monkeypatch.undo()
    assert cli([*typed, "--results", str(tmp_path), "--quiet"]) == 0
