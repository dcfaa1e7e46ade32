"""`carryover prepare` as it is typed: what it leaves is what `run` starts from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import episode_lab as lab
import pytest

from carryover.commands import prepare
from carryover.commands.cli import cli
from carryover.protocols.journal import CellJournal

HERE = ["--device", "cpu", "--threads", "1"]
TOAST = ["toast", "-o", "pretune_epochs=4", "-o", "batch_size=16"]
HEAD = [
    "crosstransformer",
    *("-o", "head=train", "-o", "updates=4", "-o", "views=1", "-o", "bank_images=20"),
]


@pytest.fixture(autouse=True)
def blots(measured: None) -> Iterator[None]:
    with lab.sources():
        yield


def typed(words: list[str], out: Path, stream: str = lab.STREAM) -> list[str]:
    on = ["--stream", stream, "--backbone", "tiny_vit", "--out", str(out)]
    return ["prepare", *words, *on, "--terms", "ours", *HERE]


@pytest.mark.parametrize(
    ("words", "name", "taken"),
    [(TOAST, "tiny_vit.toast", "feedback"), (HEAD, "tiny_vit", "head")],
    ids=["toast", "crosstransformer"],
)
def test_what_is_prepared_is_what_the_next_command_starts_from(
    words: list[str], name: str, taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(typed(words, tmp_path)) == 0
    out, err = capsys.readouterr()
    file, card = tmp_path / f"{name}.safetensors", json.loads((tmp_path / f"{name}.json").read_text())
    assert f"use it: --method {words[0]} -o {taken}={file}" in out
    assert f"preparing {words[0]} on cpu" in err
    assert (card["backbone"], card["terms"]) == ("tiny_vit", "ours")
    assert "blots" in card.get("stream", card.get("source"))
    assert not list(tmp_path.glob("*.journal"))
    run = ["run", "--method", words[0], "-o", f"{taken}={file}", "--stream", lab.STREAM, *HERE]
    few = ["-o", "epochs=1", "-o", "min_steps=0"] if words[0] == "toast" else []
    assert cli([*run, *few, "--backbone", "tiny_vit", "--results", str(tmp_path / "results")]) == 0


@pytest.mark.parametrize(
    ("words", "options", "few"),
    [
        (HEAD, ["d_k=16", "d_v=8", "scale=True"], []),
        (TOAST, ["value_bias=reference", "late=1"], ["-o", "epochs=1", "-o", "min_steps=0"]),
    ],
    ids=["crosstransformer", "toast"],
)
def test_a_file_that_fits_some_options_only_is_used_as_the_hint_says(
    words: list[str],
    options: list[str],
    few: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = [word for option in options for word in ("-o", option)]
    assert cli(typed([*words, *wanted], tmp_path)) == 0
    said = capsys.readouterr().out.rpartition("use it: ")[2].split()
    assert said[-len(wanted) :] == wanted
    on = ["--stream", lab.STREAM, "--backbone", "tiny_vit", "--results", str(tmp_path / "results"), *HERE]
    assert cli(["run", *said, *few, *on]) == 0


def test_another_preparation_does_not_write_over_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(typed(TOAST, tmp_path)) == 0
    made = (tmp_path / "tiny_vit.toast.safetensors").read_bytes()
    assert cli(typed(TOAST, tmp_path)) == 0
    for other in (
        typed([*TOAST, "-o", "pretune_lr=0.1"], tmp_path),
        typed(TOAST, tmp_path, lab.STREAM + "&size=20"),
    ):
        assert cli(other) == 2
        assert "give another --out" in capsys.readouterr().err
    assert (tmp_path / "tiny_vit.toast.safetensors").read_bytes() == made


@pytest.mark.parametrize("words", [TOAST, HEAD], ids=["toast", "crosstransformer"])
def test_interrupted_the_same_command_leaves_the_same_bytes(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved: list[int] = []

    class Eager(CellJournal):
        """Saves at every chance; a signal comes right after the second."""

        def due(self) -> bool:
            return True

        def save(self, stage, tensors):  # type: ignore[no-untyped-def]
            super().save(stage, tensors)
            saved.append(len(tensors))
            if len(saved) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "CellJournal", Eager)
    monkeypatch.setenv("CARRYOVER_CACHE", str(tmp_path / "cache"))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert cli(typed(words, parts)) == 130
    said = capsys.readouterr().err
    assert "Continue with" in said
    assert f"prepare {words[0]}" in said
    assert not list(parts.glob("*.safetensors"))
    assert cli(typed(words, parts)) == 0
    monkeypatch.setenv("CARRYOVER_CACHE", str(tmp_path / "another cache"))
    assert cli(typed(words, whole)) == 0
    (left,) = parts.glob("*.safetensors")
    assert left.read_bytes() == (whole / left.name).read_bytes()


@pytest.mark.parametrize(
    ("words", "stream", "said"),
    [
        (["ncm"], lab.STREAM, "ncm needs nothing before its first task"),
        (["toast,ncm"], lab.STREAM, "prepare makes one file, not 2"),
        (TOAST, "split-digits?per_class=10", "has no pool"),
        ([*TOAST, "-o", "feedback=none"], lab.STREAM, "take feedback=train"),
        (["crosstransformer", "-o", "head=random"], lab.STREAM, "take head=train"),
        (["crosstransformer", "-o", "heads=x"], lab.STREAM, "did you mean 'head'"),
        (["toast", "-o", "early=2", "-o", "late=3"], lab.STREAM, "toast does not run here"),
    ],
)
def test_a_request_that_cannot_be_is_refused_in_a_sentence(
    words: list[str], stream: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(typed(words, tmp_path, stream)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*.safetensors"))
