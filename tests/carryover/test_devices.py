"""Cells take turns on the GPUs there are; a machine is pretended here."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_request import typed
from tiny_cells import ready

from backbones import numerics
from backbones.numerics import Numerics
from benchmarks.errors import RequestError
from benchmarks.progress import Silent
from benchmarks.store import Store
from carryover.cells import workers
from carryover.cells.ready import ReadyCell, numerics_of
from carryover.records.results import Results


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models by number; those named "old" have no bfloat16."""
    models = ["H100", "H100", "old", "H100"]

    def chosen(device: str | None, store: Store, threads: int | None) -> Numerics:
        number = int((device or "cuda").partition(":")[2] or 0)
        dtype = "float32" if models[number] == "old" else "bfloat16"
        return Numerics(device or "cuda", dtype, threads or 1, None, models[number])

    monkeypatch.setattr(numerics, "choose", chosen)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(models))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: models[number])
    return models


def devices(tmp_path: Path, **words: Any) -> list[str]:
    return [
        one.device for one in numerics_of(replace(typed(**words), jobs=words.get("jobs", 1)), Store(tmp_path))
    ]


def test_jobs_take_turns_on_every_gpu_like_the_first(gpus: list[str], tmp_path: Path) -> None:
    assert devices(tmp_path) == ["cuda"]
    assert devices(tmp_path, jobs=2) == ["cuda:0", "cuda:1"]
    assert devices(tmp_path, jobs=8) == ["cuda:0", "cuda:1", "cuda:3"]
    assert devices(tmp_path, jobs=8, device="cuda:1") == ["cuda:1"]
    assert devices(tmp_path, device="cuda:3,cuda:0") == ["cuda:3", "cuda:0"]


def test_without_gpus_jobs_stay_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(numerics, "measure_fused", lambda _: (1.0, 2.0))
    assert devices(tmp_path, jobs=4, threads=1) == ["cpu"]


def test_devices_that_compute_differently_are_not_mixed(gpus: list[str], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cuda:0 \(H100\).* and cuda:2 \(old\).* compute differently"):
        devices(tmp_path, device="cuda:0,cuda:2")


def test_a_cell_goes_to_the_device_with_the_fewest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first one takes longest: all others go to the other device."""
    started: list[str] = []

    def start(cell: ReadyCell, device: str, words: object, results: Results) -> workers._Worker:
        seconds = 0.1 if started else 2.0
        started.append(device)
        sleep = [sys.executable, "-c", f"import time; time.sleep({seconds})"]
        return workers._Worker(cell, device, subprocess.Popen(sleep), time.monotonic(), tmp_path / "log")

    monkeypatch.setattr(workers, "_start", start)
    cells = [ready("ncm", "split-digits", "tiny_vit", seed, {}) for seed in range(5)]
    records = workers.run_apart(
        cells,
        lambda cell, device: [],
        Results(tmp_path),
        Silent(),
        devices=["cuda:0", "cuda:1"],
        jobs=2,
        timeout=None,
        report=lambda cell, record: None,
    )
    assert started == ["cuda:0", "cuda:1", "cuda:1", "cuda:1", "cuda:1"]
    assert {record.status for record in records} == {"failed"}, "none of them wrote a record"


def test_the_words_of_a_cell_name_its_device_and_those_of_the_request_all() -> None:
    request = typed(device="cuda:0,cuda:1")
    cell = request.cells()[0]
    assert request.words(cell, device="cuda:1")[-2:] == ["--device", "cuda:1"]
    assert request.words()[-2:] == ["--device", "cuda:0,cuda:1"]
