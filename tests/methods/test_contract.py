"""What every method promises, whoever wrote it: a file in `methods/` is found here by itself."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import contract_lab as lab
import pytest
import safetensors.torch
import torch
from _pytest.mark import ParameterSet
from contract_lab import Case

from carryover.check.answers import leaks
from carryover.check.verdict import NotApplicableError

CASES = lab.all_cases()
SUPPORTED = [case for case in CASES if case.refusal is None]
REFUSED = [case for case in CASES if case.refusal is not None]


def marked(*values: object) -> ParameterSet:
    """The parameters of a test, the last of which is its case: one worker tries all promises of a case."""
    case = values[-1]
    assert isinstance(case, Case)
    group = pytest.mark.xdist_group(str(case))
    marks = [group] if lab.core(case) else [group, pytest.mark.slow]
    return pytest.param(*values, marks=marks, id="-".join(map(str, values)))


supported = pytest.mark.parametrize("case", [marked(case) for case in SUPPORTED])
# One place of each method: what does not depend on the scenario, or takes a training of its own.
SINGLE = [c for c in SUPPORTED if (c.backbone, c.scenario, c.options) == ("tiny_vit", "task", ())]
ONCE = {"config", "generators", "NaN", "one class", "one image", "unknown task"}
# `learns` and `forgetting` are below, with what they need here; episodes are in the tests of
# the few-shot protocol; a full training by default takes minutes; `again` leads a cell as well.
ELSEWHERE = {"learns", "forgetting", "episodes", "defaults", "cell"}
ALWAYS = {name for name in lab.PROMISES if name not in ONCE | ELSEWHERE}
TRIED = [(p, c) for c in SUPPORTED for p in lab.PROMISES if p in ALWAYS or (p in ONCE and c in SINGLE)]


def kept(promise: str, case: Case) -> None:
    """The promise is tried; skipped, with the reason, where there is nothing to try it on."""
    try:
        lab.PROMISES[promise].check(lab.subject(case))
    except NotApplicableError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("promise", "case"), [marked(*tried) for tried in TRIED])
def test_a_promise_is_kept(promise: str, case: Case) -> None:
    kept(promise, case)


@supported
def test_what_it_says_it_supports_runs_to_the_end(case: Case) -> None:
    learnt = lab.subject(case).learnt
    assert learnt.method.learnt == [0, 1, 2]
    assert len(learnt.states) == len(learnt.logits) == 3


@pytest.mark.parametrize("case", [marked(c) for c in SUPPORTED if c.forgets_nothing])
def test_who_stores_what_a_task_needs_forgets_nothing(case: Case) -> None:
    kept("forgetting", case)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_refusal_is_a_sentence(case: Case) -> None:
    assert case.refusal
    assert "\n" not in case.refusal
    assert " " in case.refusal


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
for backbone in ("tiny_vit", "tiny_swin"):
    case = lab.Case("meat", backbone, "task")
    method = lab.restored(case, open(f"{sys.argv[1]}/{backbone}.state", "rb").read())
    logits = {str(task): found for task, found in lab.all_logits(case, method).items()}
    safetensors.torch.save_file(logits, f"{sys.argv[1]}/{backbone}.logits")
"""


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


@pytest.mark.parametrize(
    "case",
    [marked(c) for c in SUPPORTED if c.backbone == "tiny_vit" and c.scenario != "domain" and not c.options],
)
def test_columns_stand_for_the_classes_in_the_order_learnt(case: Case) -> None:
    rate = {"lr": 1.0 if case.method == "meat" else 1e-3}
    known = case.config.__dataclass_fields__
    options = tuple((name, value) for name, value in rate.items() if name in known)
    kept("learns", dataclasses.replace(case, options=options))


@supported
def test_heads_are_counted(case: Case) -> None:
    method = lab.subject(case).learnt.method
    heads = {"task": 2, "class": 6, "domain": 6}[case.scenario]
    if method.footprint().head and not method.footprint().exemplars:
        assert method.footprint().head == heads * (method.backbone.info.width + 1)


@supported
def test_every_pass_of_a_training_is_counted(case: Case) -> None:
    images = sum(len(task.train) for task in lab.opened(case.scenario)[0])
    passes = sum(lab.subject(case).learnt.passes)
    assert passes >= images
    if getattr(case.config, "epochs", None) and not case.options:
        assert passes == case.config.epochs * images


def test_the_suite_is_not_blind_to_forgetting() -> None:
    learnt = lab.subject(Case("full_finetune", "tiny_vit", "task")).learnt
    assert not torch.equal(learnt.logits[0][0], learnt.logits[2][0])
