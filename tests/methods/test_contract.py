"""What every method promises, whoever wrote it: a file in `methods/` is found here by itself."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import contract_lab as lab
import numpy as np
import pytest
import safetensors.torch
import torch
from contract_lab import Case

from carryover.metrics import continual_metrics
from carryover.protocols.continual import state_digest
from methods.base import GradientMethod
from methods.base.method import stored_bits

CASES = lab.all_cases()
SUPPORTED = [case for case in CASES if case.refusal is None]
REFUSED = [case for case in CASES if case.refusal is not None]

supported = pytest.mark.parametrize("case", SUPPORTED, ids=str)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5)


@supported
def test_what_it_says_it_supports_runs_to_the_end(case: Case) -> None:
    ran = lab.learnt(case)
    assert ran.method.learnt == [0, 1, 2]
    assert len(ran.states) == 3
    assert len(ran.outcome.rows) == 4 * 3


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_refusal_is_a_sentence(case: Case) -> None:
    assert case.refusal
    assert "\n" not in case.refusal
    assert " " in case.refusal


@supported
def test_logits_have_the_columns_that_are_promised(case: Case) -> None:
    info = lab.stream(case.scenario).info
    for learnt, state in enumerate(lab.learnt(case).states, start=1):
        method = lab.restored(case, state)
        for task, logits in lab.all_logits(case, method).items():
            columns = {"task": 2, "class": 2 * learnt, "domain": 6}[case.scenario]
            assert logits.shape == (len(lab.opened(case.scenario)[1].inputs(task)), columns)
            assert logits.dtype == torch.float32
            assert logits.device.type == "cpu"
            assert not logits.requires_grad
        if case.scenario == "class":
            assert method.columns() == tuple(c for task in info.classes[:learnt] for c in task)


@pytest.mark.parametrize(
    "case",
    [c for c in SUPPORTED if c.backbone == "tiny_vit" and c.scenario != "domain" and not c.options],
    ids=str,
)
def test_columns_stand_for_the_classes_in_the_order_learnt(case: Case) -> None:
    # Trained for long enough, it knows the training images of some task, whatever else it forgot or
    # could not tell apart; under columns in another order it would know none.
    longer = {"epochs": 15, "lr": 1.0 if case.method == "meat" else 1e-3}
    known = case.config.__dataclass_fields__
    longer = tuple((name, value) for name, value in longer.items() if name in known)
    method = lab.run(dataclasses.replace(case, options=longer)).method
    known_best = 0.0
    for task in lab.opened(case.scenario)[0]:
        classes = task.classes if case.scenario == "task" else method.columns()
        chosen = method.predict(task.train.inputs, lab.known(case, task.id)).argmax(1)
        right = np.asarray(classes)[chosen.numpy()] == np.asarray(task.classes)[task.train.labels]
        known_best = max(known_best, float(right.mean()))
    assert known_best > 1 / len(classes) + 0.2


@supported
def test_predicting_changes_nothing_in_the_state(case: Case) -> None:
    method = lab.restored(case, lab.learnt(case).states[-1])
    before = state_digest(method.state())
    first = lab.all_logits(case, method)
    assert state_digest(method.state()) == before
    again = lab.all_logits(case, method)
    assert all(torch.equal(first[task], again[task]) for task in first)


@supported
def test_a_prediction_depends_on_its_image_alone(case: Case) -> None:
    _, exam = lab.opened(case.scenario)
    state = lab.learnt(case).states[-1]
    method, small = lab.restored(case, state), lab.restored(case, state, eval_batch=3)
    for task, logits in lab.all_logits(case, method).items():
        inputs = exam.inputs(task)
        order = np.random.default_rng(task).permutation(len(inputs))
        shuffled = method.predict(inputs.select(order), lab.known(case, task))
        assert close(shuffled, logits[order]), "the order matters"
        alone = method.predict(inputs.select(order[:1]), lab.known(case, task))
        assert close(alone, logits[order[:1]]), "the neighbours matter"
        assert close(small.predict(inputs, lab.known(case, task)), logits), "the batch size matters"


@supported
def test_a_restored_state_predicts_the_same_bits(case: Case) -> None:
    ran = lab.learnt(case)
    fresh = lab.restored(case, ran.states[-1])
    assert state_digest(fresh.state()) == state_digest(ran.method.state())
    assert fresh.learnt == ran.method.learnt
    assert fresh.columns() == ran.method.columns()
    assert fresh.footprint() == ran.method.footprint()
    expected = lab.all_logits(case, ran.method)
    # Backwards: what is predicted first must not matter either.
    for task in reversed(expected):
        logits = fresh.predict(lab.opened(case.scenario)[1].inputs(task), lab.known(case, task))
        assert torch.equal(logits, expected[task])


@supported
def test_the_order_of_the_tensors_in_a_state_does_not_matter(case: Case) -> None:
    # A safetensors file gives them in any order, another one each time.
    ran = lab.learnt(case)
    state = safetensors.torch.load(ran.states[-1])
    turned = lab.make(case)
    turned.restore({name: state[name] for name in sorted(state, reverse=True)})
    for task, logits in lab.all_logits(case, turned).items():
        inputs = lab.opened(case.scenario)[1].inputs(task)
        assert torch.equal(logits, ran.method.predict(inputs, lab.known(case, task)))


@supported
def test_learning_goes_on_from_a_restored_state_with_the_same_bits(case: Case) -> None:
    ran = lab.learnt(case)
    fresh = lab.restored(case, ran.states[1])
    fresh.learn(lab.opened(case.scenario)[0][2])
    assert state_digest(fresh.state()) == state_digest(safetensors.torch.load(ran.states[2]))
    assert fresh.observations() == ran.method.observations()
    assert fresh.footprint() == ran.method.footprint()


@supported
def test_the_same_cell_again_gives_the_same_rows_with_other_workers_and_without_reuse(case: Case) -> None:
    first, second = lab.learnt(case), lab.again(case)
    assert second.outcome.rows == first.outcome.rows
    assert second.states == first.states
    assert {place: classes.tolist() for place, classes in second.outcome.predicted.items()} == {
        place: classes.tolist() for place, classes in first.outcome.predicted.items()
    }


@supported
def test_while_state_for_a_task_stays_its_logits_stay(case: Case) -> None:
    seen = []
    for state in lab.learnt(case).states:
        method = lab.restored(case, state)
        logits = lab.all_logits(case, method)
        seen.append({t: (state_digest(method.state_for(lab.known(case, t))), logits[t]) for t in logits})
    for before, after in itertools.combinations(seen, 2):
        for task in before.keys() & after.keys():
            if before[task][0] == after[task][0]:
                assert torch.equal(before[task][1], after[task][1])
            else:
                assert not case.forgets_nothing, "what is stored for an old task has changed"


@supported
def test_the_footprint_is_what_is_stored(case: Case) -> None:
    method = lab.learnt(case).method
    kept = {n: t for n, t in method.state().items() if n != "learnt" and not n.startswith("data.")}
    # Exemplars are stored as references to a table and cost what their pixels cost.
    pixels = method.footprint().exemplars * 32 * 32 * 24
    assert method.footprint().stored_bits == stored_bits(kept) + pixels
    shown = any(name.startswith("data.") for name in method.state())
    assert shown == (method.footprint().exemplars > 0)


@supported
def test_what_is_frozen_stays_as_it_was_loaded(case: Case) -> None:
    plain = dict(lab.backbone(case.backbone).net.state_dict())
    net = lab.learnt(case).method.backbone.net
    trained = lab.learnt(case).method.backbone.changing().keys()
    compared = 0
    for name, tensor in net.state_dict().items():
        name = name.replace(".base_layer.", ".")  # where the peft library puts a layer that it wraps
        if name in plain and name not in trained:
            assert torch.equal(tensor, plain[name]), name
            compared += 1
    assert compared + len(trained & plain.keys()) == len(plain), "a tensor of the network is gone"
    assert lab.backbone(case.backbone).pristine, "the method changed the network that all cells share"


@supported
def test_trainable_parameters_are_counted(case: Case) -> None:
    method = lab.learnt(case).method
    trained = [p for p in method.backbone.net.parameters() if p.requires_grad]
    assert method.footprint().trainable == sum(p.numel() for p in trained)
    heads = {"task": 2, "class": 6, "domain": 6}[case.scenario]
    if method.footprint().head and not method.footprint().exemplars:
        assert method.footprint().head == heads * (method.backbone.info.width + 1)


@supported
def test_before_learning_the_features_are_the_plain_networks(case: Case) -> None:
    method = lab.make(case)
    if isinstance(method, GradientMethod) and method.starts_plain:
        plain = lab.backbone(case.backbone)
        images = plain.prepare(torch.from_numpy(lab.opened("task")[1].inputs(0).pixels()))
        method.backbone.eval()
        with torch.no_grad():
            assert close(method.features(images), plain(images))


@supported
def test_nothing_a_method_holds_leads_to_the_answers(case: Case) -> None:
    tasks, exam = lab.opened(case.scenario)
    method = lab.learnt(case).method
    lab.all_logits(case, method)
    assert lab.leaks([method, method.context, tasks], exam, method.context.info) == []


def test_a_planted_leak_is_found() -> None:
    case = Case("ncm", "tiny_vit", "class")
    _, exam = lab.opened("class")
    info = lab.stream("class").info
    for planted in (exam.score, exam._answers[1][:], lambda: exam, torch.from_numpy(exam._answers[0])):
        method = lab.make(case)
        method.found = [{"here": planted}]
        assert lab.leaks([method], exam, info)


@pytest.mark.parametrize("case", [c for c in SUPPORTED if c.forgets_nothing], ids=str)
def test_who_stores_what_a_task_needs_forgets_nothing(case: Case) -> None:
    metrics = continual_metrics(lab.again(case).outcome.rows)
    assert metrics["forgetting_last"] == 0
    assert metrics["backward_transfer"] == 0


def test_the_suite_is_not_blind_to_forgetting() -> None:
    seen = [
        lab.restored(case, state).predict(lab.opened("task")[1].inputs(0), 0)
        for case in (Case("full_finetune", "tiny_vit", "task"),)
        for state in lab.learnt(case).states
    ]
    assert not torch.equal(seen[0], seen[2])


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


def test_a_fresh_process_predicts_old_tasks_with_the_same_bits(tmp_path: Path) -> None:
    cases = [Case("meat", backbone, "task") for backbone in ("tiny_vit", "tiny_swin")]
    for case in cases:
        (tmp_path / f"{case.backbone}.state").write_bytes(lab.learnt(case).states[-1])
    subprocess.run([sys.executable, "-c", PROCESS, str(tmp_path)], check=True, env=lab.environment())
    for case in cases:
        fresh = safetensors.torch.load_file(tmp_path / f"{case.backbone}.logits")
        for task, state in enumerate(lab.learnt(case).states):
            # As predicted right after the task was learnt, before any other.
            then = lab.restored(case, state).predict(lab.opened("task")[1].inputs(task), task)
            assert torch.equal(fresh[str(task)], then)


@supported
def test_the_images_it_trained_with_are_counted(case: Case) -> None:
    tasks = lab.opened(case.scenario)[0]
    images = sum(len(task.train) for task in tasks)
    passes = lab.learnt(case).outcome.done.passes
    assert passes >= images
    if getattr(case.config, "epochs", None) and case.method != "joint" and not case.options:
        assert passes == case.config.epochs * images
