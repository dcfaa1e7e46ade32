"""Where another library defines one of our numbers, or shows it, ours agrees with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_records import made

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


def test_asking_for_wandb_where_it_is_missing_is_refused_in_one_sentence(monkeypatch):
    from benchmarks.errors import RequestError
    from carryover.commands import tracking

    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match="pip install"):
        tracking.check_wandb()
