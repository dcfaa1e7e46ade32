"""What every method promises, whoever wrote it: a file in `methods/` is found here by itself."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import contract_cases as cases
import contract_lab as lab
import contract_promises as contract
import pytest
import safetensors.torch
import torch
from contract_lab import Case

from carryover.check.answers import leaks
from carryover.new import Wanted
from methods.base import Footprint


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if cases.quick(case) else [pytest.mark.slow], id=str(case))
        for case in cases.tried()
    ],
)
def test_a_method_keeps_its_promises(case: Case) -> None:
    contract.hold(case)


def test_a_refusal_is_a_sentence() -> None:
    refused = {str(case): case.refusal for case in cases.matrix() if case.refusal is not None}
    assert refused
    odd = {case: said for case, said in refused.items() if not said or "\n" in said or " " not in said}
    assert not odd


class Miscounts(lab.found("ncm")):  # type: ignore[misc]
    """Says that it stores half of what it stores."""

    name = "miscounts"

    def footprint(self) -> Footprint:
        said: Footprint = super().footprint()
        return dataclasses.replace(said, stored_bits=said.stored_bits // 2)


def test_a_broken_promise_is_told_with_its_case_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    case, found = Case("miscounts", "tiny_vit", "class"), lab.found
    monkeypatch.setattr(lab, "found", lambda name: Miscounts if name == case.method else found(name))
    monkeypatch.setattr(cases, "home", lambda name: case)
    with pytest.raises(ExceptionGroup) as raised:
        contract.hold(case)
    assert [type(error).__name__ for error in raised.value.exceptions] == ["BrokenError"]
    assert re.search(
        r"the promise 'footprint' of miscounts-tiny_vit-class: "
        r"expected stored_bits=12672, .*; seen: stored_bits=6336",
        str(raised.value),
    )


def test_a_planted_leak_is_found() -> None:
    case = Case("ncm", "tiny_vit", "class")
    _, exam = lab.opened("class")
    info = lab.stream("class").info
    for planted in (exam.score, exam._answers[1][:], lambda: exam, torch.from_numpy(exam._answers[0])):
        method = lab.make(case)
        method.found = [{"here": planted}]
        assert leaks([method], exam, info)


PROCESS = """
import sys
import contract_lab as lab, safetensors.torch, torch
torch.set_num_threads(1)
for backbone in ("tiny_vit", "tiny_swin"):
    case = lab.Case("meat", backbone, "task")
    method = lab.restored(case, open(f"{sys.argv[1]}/{backbone}.state", "rb").read())
    logits = {str(task): found for task, found in lab.all_logits(case, method).items()}
    safetensors.torch.save_file(logits, f"{sys.argv[1]}/{backbone}.logits")
"""


@pytest.mark.slow
def test_a_fresh_process_predicts_old_tasks_with_the_same_bits(tmp_path: Path) -> None:
    cases = [Case("meat", backbone, "task") for backbone in ("tiny_vit", "tiny_swin")]
    for case in cases:
        (tmp_path / f"{case.backbone}.state").write_bytes(lab.subject(case).learnt.state(-1))
    subprocess.run([sys.executable, "-c", PROCESS, str(tmp_path)], check=True, env=lab.environment())
    for case in cases:
        fresh = safetensors.torch.load_file(tmp_path / f"{case.backbone}.logits")
        for task, state in enumerate(lab.subject(case).learnt.states):
            # As predicted right after the task was learnt, before any other.
            then = lab.restored(case, state).predict(lab.opened("task")[1].inputs(task), task)
            assert torch.equal(fresh[str(task)], then)


def test_the_suite_is_not_blind_to_forgetting() -> None:
    learnt = lab.subject(Case("full_finetune", "tiny_vit", "task")).learnt
    assert not torch.equal(learnt.logits[0][0], learnt.logits[2][0])


def test_a_file_among_the_small_methods_is_put_through_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nearest.py").write_text(Wanted("method", "nearest", "frozen").source())
    monkeypatch.setattr(lab, "SMALL", tmp_path)
    assert lab.names()[-1] == "nearest.py"
    home = cases.home("nearest.py")
    assert home in cases.tried()
    assert cases.quick(home)
    contract.hold(home)
