"""Cells take turns on the GPUs there are; a machine is pretended here."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from made_records import made
from test_request import typed

from backbones import numerics
from backbones.numerics import Numerics
from benchmarks.errors import RequestError
from benchmarks.store import Store
from carryover.cells.executors.executor import Planned
from carryover.cells.executors.local import LocalProcesses
from carryover.cells.ready import numerics_of
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


def test_a_cell_goes_to_the_device_with_the_fewest(tmp_path: Path) -> None:
    """The first one ends last: all others go to the other device."""
    waits = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)"
    started: list[str | None] = []

    def words(number: int, device: str | None) -> list[str]:
        started.append(device)
        if number == 4:
            (tmp_path / "go").touch()
        return [str(tmp_path / "go") if number == 0 else str(tmp_path)]

    executor = LocalProcesses(
        Results(tmp_path), devices=["cuda:0", "cuda:1"], jobs=2, program=[sys.executable, "-c", waits]
    )
    cells = [made(seed=seed) for seed in range(5)]
    planned = [Planned(one.cell, one.key, partial(words, number)) for number, one in enumerate(cells)]
    submission = executor.submit(planned, "carryover run")
    while set(executor.poll(submission).phases) != {"ended"}:
        time.sleep(executor.pause)
    assert started == ["cuda:0", "cuda:1", "cuda:1", "cuda:1", "cuda:1"]


def test_the_words_of_a_cell_name_its_device_and_those_of_the_request_all() -> None:
    request = typed(device="cuda:0,cuda:1")
    cell = request.cells()[0]
    assert request.words(cell, device="cuda:1")[-2:] == ["--device", "cuda:1"]
    assert request.words()[-2:] == ["--device", "cuda:0,cuda:1"]
