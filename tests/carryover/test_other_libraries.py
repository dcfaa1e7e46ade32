"""Where another library defines one of our numbers, or shows it, ours agrees with it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from made_records import made

from benchmarks.errors import RequestError, pip_install
from benchmarks.progress import Silent
from benchmarks.sources.hub import HubSource
from benchmarks.store import Store
from carryover.metrics.continual import from_matrix

GOLDEN = Path(__file__).parents[1] / "golden" / "continual_metrics.json"


@pytest.mark.slow
def test_forgetting_last_and_backward_transfer_are_avalanches():
    avalanche = pytest.importorskip(
        "avalanche.evaluation.metrics.forgetting_bwt", reason="avalanche-lib is not installed"
    )
    for case in json.loads(GOLDEN.read_text()):
        matrix = np.array(case["matrix"])
        tasks = len(matrix)
        forgetting = avalanche.Forgetting()
        for task in range(tasks):
            forgetting.update(task, matrix[task, task], initial=True)
        for task in range(tasks - 1):  # avalanche leaves out the task just learnt
            forgetting.update(task, matrix[-1, task])
        theirs = np.mean(list(forgetting.result().values()))
        counts = np.full((tasks + 1, tasks), 100)
        ours = from_matrix(np.vstack([np.full(tasks, np.nan), matrix]), counts)
        assert ours["forgetting_last"] == pytest.approx(theirs, abs=1e-9)
        assert ours["backward_transfer"] == pytest.approx(-theirs, abs=1e-9)


@pytest.mark.slow
def test_a_record_becomes_a_wandb_run_without_any_network(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    from carryover.commands.tracking import log_record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    log_record(made("meat"), "carryover-test")
    wandb.teardown()  # its service has written everything when it ends, as it does with a process
    written = list(tmp_path.rglob("*.wandb"))
    assert len(written) == 1
    content = written[0].read_bytes()
    assert b"accuracy_last" in content
    assert b"accuracy/task 0" in content


def test_what_is_missing_is_named_with_the_command_that_brings_it(tmp_path, monkeypatch):
    import torch

    from backbones.pretraining.augmentation import Augmentation
    from backbones.pretraining.settings import Settings
    from carryover.commands.tracking import check_wandb

    for library in ("wandb", "kornia", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, library, None)
    half = (0.5, 0.5, 0.5)
    views = Augmentation(Settings(), half, half, strong=False, mirror=False)
    hub = HubSource("cifar10", "uoft-cs/cifar10", looked="nowhere", columns=None)
    for packages, asked in (
        (["wandb"], check_wandb),
        (["kornia", "matplotlib"], lambda: views(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), 8)),
        (["huggingface-hub"], lambda: hub.load(Store(tmp_path), Silent())),
    ):
        with pytest.raises(RequestError, match=rf"type {re.escape(pip_install(*packages))}"):
            asked()
