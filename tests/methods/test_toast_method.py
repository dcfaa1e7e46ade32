"""TOAST as a method: what it refuses, pre-tunes, keeps for each task and reads instead of computing."""

from __future__ import annotations

from functools import partial

import contract_lab as lab
import pytest
import torch
from contract_lab import Case
from rounding import assert_same_to_rounding

from backbones.backbone import describe
from benchmarks.progress import Silent
from benchmarks.stream import Pool
from carryover.protocols.continual import state_digest
from methods.toast.passes import TwoPasses


def made(name="toast", backbone="tiny_vit", **options):
    return lab.make(Case(name, backbone, "task", tuple(options.items())))


class Images(Pool):
    """A task's training images as a pool."""

    images = lab.opened("task")[0][0].train

    @property
    def fingerprint(self):
        return self.images.fingerprint

    def episode(self, seed, number):
        raise NotImplementedError


def pool():
    return Images()


def frozen(method):
    return {n: t.clone() for n, t in method.backbone.net.state_dict().items() if not n.startswith("toast.")}


@pytest.mark.parametrize(
    ("name", "backbone", "options", "said"),
    [
        ("toast", "tiny_external_attention", {}, "its class is EAMLP"),
        ("toast", "regnety_002", {}, "its class is RegNet"),
        ("toast_lite", "tiny_convnet", {}, "convolutions"),
        ("toast", "tiny_swin", {"early": 1}, "one width"),
        ("toast", "tiny_vit", {"early": 3}, "early=3"),
        ("toast", "tiny_vit", {"early": 1, "late": 1}, "late=1"),
        ("toast", "tiny_vit", {"late": 2}, "late=2"),
    ],
)
def test_what_it_cannot_feed_is_refused_with_a_reason(name, backbone, options, said):
    case = Case(name, "tiny_vit", "task", tuple(options.items()))
    assert said in case.cls.supports(case.config, lab.stream("task").info, describe(backbone))


@pytest.mark.parametrize(
    ("name", "backbone", "per_task"),
    [
        ("toast", "tiny_vit", False),
        ("toast_lite", "tiny_swin", False),
        ("toast_lite", "tiny_vit", True),
        ("toast", "tiny_convnet", True),
    ],
)
def test_pre_tuning_trains_a_c_and_xi_and_a_fresh_instance_takes_them_over(name, backbone, per_task):
    method = made(name, backbone, pretune_epochs=1, per_task=per_task)
    # Where pre-tuning starts: drawn for the network and the pool, not for the cell.
    method.feedback.reset(torch.Generator().manual_seed(method.plan(pool()).seed))
    before, plain = {n: t.detach().clone() for n, t in method.feedback.named_parameters()}, frozen(method)
    wanted = {n: t.requires_grad for n, t in method.feedback.named_parameters()}
    method.prepare(pool())
    for key, parameter in method.feedback.named_parameters():
        moved = not (key == "P" or "lora_" in key)
        assert torch.equal(parameter, before[key]) != moved, key
        assert parameter.requires_grad == wanted[key]
    assert all(torch.equal(t, plain[n]) for n, t in frozen(method).items())
    assert method.observations()["pretuned"] == 1
    task, exam = lab.opened("task")[0][0], lab.opened("task")[1]
    method.learn(task)
    fresh = made(name, backbone, pretune_epochs=1, per_task=per_task)
    fresh.restore(method.state())
    assert torch.equal(fresh.predict(exam.inputs(0), 0), method.predict(exam.inputs(0), 0))
    assert state_digest(fresh.state()) == state_digest(method.state())
    assert fresh.observations() == method.observations()
    assert all(torch.equal(t, plain[n]) for n, t in frozen(method).items())


def test_pre_tuned_feedback_is_the_same_whatever_the_seed_of_the_cell():
    tensors = []
    for seed in range(2):
        method = made(pretune_epochs=1)
        with torch.no_grad():
            method.feedback.prompt += seed
        method.prepare(pool())
        tensors.append(state_digest(method.feedback.state_dict()))
    assert tensors[0] == tensors[1]


def test_a_record_says_that_nothing_was_pre_tuned():
    method = made()
    method.prepare(None)
    progress = method.context.progress
    assert isinstance(progress, Silent)
    assert ["pre-tuned" in said for said in progress.warnings] == [True]
    assert method.observations()["pretuned"] == 0


@pytest.mark.parametrize("prepared", [False, True])
def test_feedback_for_each_task_forgets_nothing(prepared):
    method = made("toast_lite", per_task=True, pretune_epochs=1)
    tasks, exam = lab.opened("task")
    if prepared:
        method.prepare(pool())
    method.learn(tasks[0])
    first = method.predict(exam.inputs(0), 0)
    middle = method.state()
    method.learn(tasks[1])
    assert torch.equal(method.predict(exam.inputs(0), 0), first)
    fresh = made("toast_lite", per_task=True, pretune_epochs=1)
    fresh.restore(middle)
    fresh.learn(tasks[1])
    assert state_digest(fresh.state()) == state_digest(method.state())


@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_swin", "tiny_convnet"])
def test_a_first_pass_that_was_read_gives_the_same_logits(backbone):
    cached, computed = made(backbone=backbone), made(backbone=backbone, cache=False)
    tasks, exam = lab.opened("task")
    cached.learn(tasks[0])
    computed.restore(cached.state())
    inputs = exam.inputs(0)
    assert_same_to_rounding(partial(computed.predict, inputs, 0), cached.predict(inputs, 0))
    assert cached.first_pass(inputs) is not None
    assert computed.first_pass(inputs) is None


def test_a_frozen_network_drops_nothing_in_training():
    method = made()
    for block in method.backbone.net.blocks:
        block.drop_path1 = torch.nn.Dropout(0.9)
    method.backbone.train()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(method.features(images), method.features(images))


@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_swin", "tiny_convnet"])
@pytest.mark.parametrize("cache", [True, False])
def test_training_reads_the_first_pass_of_images_that_are_not_augmented(backbone, cache, monkeypatch):
    read = []
    forward = TwoPasses.__call__

    def watched(passes, images, maps=None, seen=None):
        if maps is not None:  # of the very images of the step, in their order
            with torch.no_grad():
                assert_same_to_rounding(
                    lambda: passes.chain.final(run(passes, passes.chain.stem(images))), maps
                )
        read.append(maps is not None)
        return forward(passes, images, maps, seen)

    def run(passes, x):
        for unit in range(len(passes.chain.units)):
            x = passes.chain.unit(unit, x)
        return x

    monkeypatch.setattr(TwoPasses, "__call__", watched)
    task = lab.opened("task")[0][0]
    made(backbone=backbone, cache=cache, augment="none").learn(task)
    assert read
    assert set(read) == {cache}
    read.clear()
    made(backbone=backbone, cache=cache).learn(task)
    assert not any(read), "flipped images were taken for those that were read"
