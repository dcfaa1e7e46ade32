"""Logging to Weights & Biases: refused before anything runs, or after the table, which it never replaces."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_cells import stream_of, words

from benchmarks.errors import RequestError
from carryover.commands.cli import cli
from carryover.commands.tracking import check_wandb
from carryover.records.results import Results

wandb = pytest.importorskip("wandb", reason="wandb is not installed")


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who never logged in."""
    for name in ("API_KEY", "MODE", "BASE_URL", "CONFIG_DIR", "IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    wandb.teardown()


@pytest.mark.parametrize("mode", ["", "online"])
def test_without_a_login_nothing_is_run(
    mode: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    assert cli(words("ncm", stream_of(pictures), tmp_path / "results", "--wandb", "mine")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --wandb needs an API key")
    assert error.count("\n") == 1
    for way_out in ("wandb login", "WANDB_API_KEY", "WANDB_MODE=offline"):
        assert way_out in error
    assert Results(tmp_path / "results").all() == ([], [])


@pytest.mark.parametrize(
    ("name", "value"),
    [("WANDB_MODE", "offline"), ("WANDB_MODE", "disabled"), ("WANDB_API_KEY", "0123456789" * 4)],
)
def test_what_needs_no_login_or_has_one_passes(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    check_wandb()


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "ofline"), ("WANDB_API_KEY", "short")])
def test_a_mode_or_a_key_that_is_none_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=r"^--wandb: .+; log in with `wandb login`"):
        check_wandb()


def test_an_error_of_wandbs_is_one_warning_below_the_table(
    measured: None,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unreachable(**_: object) -> None:
        raise wandb.errors.CommError("no such host\nConsider another one")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(wandb, "init", unreachable)
    typed = words("ncm", stream_of(pictures), tmp_path / "results", "--seed", "0,1", "--wandb", "mine")
    assert cli([*typed, "--quiet"]) == 0
    out, error = capsys.readouterr()
    assert "accuracy" in out
    assert error.count("\n") == 1
    assert error.startswith("warning: --wandb stopped at ncm on ")
    assert "(CommError: no such host Consider another one)" in error
