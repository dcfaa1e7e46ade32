"""`carryover pretrain` as it is typed, and killed in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carryover.commands.cli import cli

SHORT = ["-o", "epochs=2", "-o", "batch_size=16", "-o", "warmup_epochs=1"]
HERE = ["--device", "cpu", "--threads", "1"]


def test_a_backbone_is_made_with_one_command_and_used_by_the_next(
    pictures: Path, tmp_path: Path, measured: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pretrain", "tiny_vit", "--source", f"folder:{pictures}", "--out", str(tmp_path), *HERE, *SHORT]
    assert cli(words) == 0
    out, err = capsys.readouterr()
    assert "top-1 on the validation images" in out
    weights = tmp_path / "tiny_vit.supervised.safetensors"
    assert f"weights={weights}" in out
    assert "pretraining tiny_vit on cpu" in err
    assert not list(tmp_path.glob("*.journal"))
    stream = f"split:folder:{pictures}?tasks=3"
    ncm = ["run", "--method", "ncm", "--stream", stream, "--backbone", f"tiny_vit?weights={weights}", *HERE]
    assert cli(ncm) == 0


def test_images_whose_mirror_is_another_class_are_not_flipped(tmp_path: Path, measured: None) -> None:
    words = ["pretrain", "tiny_vit", "--source", "digits", "--size", "32", "--out", str(tmp_path), *HERE]
    assert cli([*words, "-o", "epochs=1", "-o", "batch_size=512", "-o", "warmup_epochs=0"]) == 0
    assert json.loads((tmp_path / "tiny_vit.supervised.json").read_text())["mirror"] is False
    assert "never mirrored" in (tmp_path / "tiny_vit.supervised.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny_vitt"], "did you mean 'tiny_vit'"),
        (["tiny_vit", "-o", "epoch=2"], "did you mean 'epochs'"),
        (["tiny_vit", "-o", "epochs=two"], "epochs=two does not fit"),
        (["tiny_vit", "-o", "epochs"], "write epochs=VALUE"),
        (["tiny_swin", "--objective", "mae"], "mae"),
        (["tiny_vit", "--probe", "nowhere"], "nowhere"),
    ],
)
def test_a_request_that_cannot_be_is_refused_in_a_sentence(
    pictures: Path,
    tmp_path: Path,
    measured: None,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    out = tmp_path / "out"
    assert cli(["pretrain", *words, "--source", f"folder:{pictures}", "--out", str(out), *HERE]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not list(out.glob("*.safetensors"))


@pytest.mark.slow
def test_kill_9_and_the_same_command_leave_the_same_weights(
    pictures: Path, tmp_path: Path, measured: None
) -> None:
    words = ["pretrain", "tiny_convnet", "--source", f"folder:{pictures}", *HERE, *SHORT, "-o", "epochs=12"]

    def start(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "carryover", *words, "--out", str(folder)])

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(whole).wait(timeout=200) == 0
    process = start(parts)
    curve = parts / "tiny_convnet.supervised.csv"
    deadline = time.monotonic() + 100
    while not (curve.exists() and len(curve.read_text().splitlines()) > 4):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(parts.glob("*.safetensors"))
    done = len(curve.read_text().splitlines())
    assert start(parts).wait(timeout=200) == 0
    assert done < 13
    name = "tiny_convnet.supervised.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()
