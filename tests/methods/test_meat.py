"""MEAT as a method: what it stores, that it forgets nothing, and what it says about itself."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from rounding import assert_same_to_rounding

from backbones.backbone import Backbone, open_backbone
from backbones.numerics import Numerics
from backbones.weights import hash_weights
from benchmarks.errors import RequestError
from benchmarks.images import Chunk, Inputs, Labelled
from benchmarks.progress import Silent
from benchmarks.seeds import Seeds
from benchmarks.stream import StreamInfo, Task
from methods.base import Context
from methods.meat import MEAT

CLASSES = ((0, 1), (2, 3))
INFO = StreamInfo(
    name="made",
    protocol="continual",
    scenario="task",
    classes=CLASSES,
    class_names=("a", "b", "c", "d"),
    order=None,
    data="made",
    rule="made",
    image_size=(16, 16),
    sizes=((24, 8, 8), (24, 8, 8)),
)
FAST = {"epochs": 4, "batch_size": 8, "min_steps": 0, "lr": 1.0, "gamma": 1.0}


def labelled(task: int, count: int) -> Labelled:
    """Classes differ in where a bright square is."""
    source = np.random.default_rng(task * 1000 + count)
    labels = np.arange(count) % 2
    pixels = source.integers(0, 120, (count, 16, 16, 3), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        place = 8 * int(label)
        image[place : place + 8, 8 * task : 8 * task + 8] += 120
    inputs = Inputs([Chunk(pixels, np.arange(count), f"made {task} {count}")])
    return Labelled(inputs, labels, ("x", "y"))


def task_of(number: int) -> Task:
    return Task(number, labelled(number, 24), labelled(number, 8), CLASSES[number])


def backbone_of(name: str) -> Backbone:
    return open_backbone(name, numerics=Numerics("cpu", "float32", threads=1))


def meat(name: str = "tiny_vit", progress: Silent | None = None, **options) -> MEAT:
    config = MEAT.Config(**{**FAST, **options})
    backbone = backbone_of(name)
    assert MEAT.supports(config, INFO, backbone.info) is None
    context = Context(INFO, Seeds("made", 0, "meat"), progress or Silent(), eval_batch=5)
    return MEAT(config, backbone, context)


def exam_images(task: int = 0) -> Inputs:
    return labelled(task, 30).inputs


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_swin"])
@pytest.mark.parametrize("ffn", ["elementwise", "neuron", "none"])
def test_old_tasks_are_predicted_bit_for_bit_as_before_and_from_a_restored_state(name, ffn):
    method = meat(name, ffn=ffn)
    method.learn(task_of(0))
    before = method.predict(exam_images(), 0)
    stored = {key: tensor.clone() for key, tensor in method.state_for(0).items()}
    method.learn(task_of(1))
    other = method.predict(exam_images(1), 1)
    assert torch.equal(method.predict(exam_images(), 0), before)
    assert all(torch.equal(tensor, stored[key]) for key, tensor in method.state_for(0).items())
    fresh = meat(name, ffn=ffn)
    fresh.restore(method.state())
    assert torch.equal(fresh.predict(exam_images(), 0), before)
    assert torch.equal(fresh.predict(exam_images(1), 1), other)


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_swin"])
def test_learning_flips_bits_and_leaves_the_backbone_alone(name):
    method = meat(name)
    untouched = backbone_of(name)
    method.learn(task_of(0))
    keep = method.observations()
    assert 0 < keep["ffn_keep"] < 1
    assert keep["token_keep"] <= 1
    assert abs(keep["token_keep_train"] - keep["token_keep"]) < 0.5
    assert [key for key in keep if key.startswith("token_keep.")] == [
        f"token_keep.{index}" for index in range(untouched.info.blocks)
    ]
    frozen = method.backbone.net.state_dict()
    before = untouched.net.state_dict()
    for key in [key for key in frozen if key.endswith("logits")]:
        del frozen[key]
    assert list(frozen) == list(before)
    untouched.net.load_state_dict(frozen)
    assert hash_weights(untouched.net) == untouched.weights


def test_learning_twice_gives_the_same_bits_and_the_second_task_does_not_see_the_first():
    both = meat()
    both.learn(task_of(0))
    both.learn(task_of(1))
    alone = meat()
    alone.learn(task_of(1))
    for key, tensor in alone.state_for(1).items():
        assert torch.equal(tensor, both.state_for(1)[key]), key


@pytest.mark.parametrize("init", ["gamma", "uniform"])
@pytest.mark.parametrize("ffn", ["elementwise", "neuron"])
def test_pruned_and_dense_evaluation_give_the_same_logits(init, ffn):
    pruned = meat(ffn=ffn, init=init, evaluation="pruned")
    pruned.learn(task_of(0))
    dense = meat(ffn=ffn, init=init, evaluation="dense")
    dense.restore(pruned.state())
    assert_same_to_rounding(partial(pruned.predict, exam_images(), 0), dense.predict(exam_images(), 0))


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_swin"])
def test_a_prediction_does_not_depend_on_its_batch(name):
    method = meat(name)
    method.learn(task_of(0))
    images = exam_images()
    for position in (0, 7, 29):
        place = np.array([position])
        assert_same_to_rounding(
            partial(method.predict, images, 0), method.predict(images.select(place), 0), place
        )


def test_fresh_masks_predict_like_the_plain_network():
    method = meat()
    method.begin(task_of(0))
    images = method.backbone.prepare(torch.from_numpy(exam_images().pixels()))
    with torch.no_grad():
        plain = backbone_of("tiny_vit")(images)
        assert_same_to_rounding(partial(method.backbone.eval(), images), plain)


@pytest.mark.parametrize(
    ("ffn", "bits"), [("elementwise", 2 * (16 + 2 * 32 * 64)), ("neuron", 2 * (16 + 64))]
)
def test_footprint_counts_packed_bits_and_the_head(ffn, bits):
    method = meat(ffn=ffn)
    method.learn(task_of(0))
    cost = method.footprint()
    assert cost.trainable == bits
    assert cost.head == 2 * 32 + 2
    assert cost.stored_bits == 8 * ((bits + 7) // 8) + 32 * cost.head


def test_blocks_says_whose_tokens_are_masked():
    method = meat(blocks="1", ffn="none")
    assert [mask.logits.numel() for mask in method._masks()] == [16]
    method.learn(task_of(0))
    assert "token_keep.1" in method.observations()
    assert "token_keep.0" not in method.observations()


def test_the_penalty_is_alpha_times_drop_control_of_the_last_forward():
    method = meat(alpha=3.0, lam=0.5, gamma=50.0)
    method.begin(task_of(0))
    method.backbone.train()
    method.features(torch.randn(2, 3, 32, 32))
    assert method.penalty().item() == pytest.approx(3.0 * 0.25)


def test_a_run_too_short_to_flip_a_bit_says_so():
    said = Silent()
    meat(progress=said, lr=0.01, gamma=4.0).learn(task_of(0))
    assert len(said.warnings) == 1
    assert "no mask bit can flip" in said.warnings[0]
    quiet = Silent()
    meat(progress=quiet, lr=1.0, gamma=4.0).learn(task_of(0))
    assert quiet.warnings == []


def test_without_enough_learning_rate_no_bit_indeed_flips():
    method = meat(lr=0.01, gamma=4.0)
    method.learn(task_of(0))
    assert method.observations()["ffn_keep"] == 1.0
    assert method.observations()["token_keep"] == 1.0


@pytest.mark.parametrize(
    ("name", "options", "scenario", "said"),
    [
        ("tiny_vit", {}, "class", "class-incremental"),
        ("tiny_vit", {}, "domain", "task-incremental"),
        ("tiny_swin", {"self_loop": False}, "task", "no CLS"),
        ("tiny_vit", {"blocks": "0,2"}, "task", "positions from 0 to 1"),
        ("tiny_vit", {"blocks": "first"}, "task", "blocks=first"),
        ("tiny_vit", {"gamma": 0.0}, "task", "gamma > 0"),
        ("tiny_vit", {"lam": 1.5}, "task", "lam in"),
    ],
)
def test_unsupported_requests_get_a_reason(name, options, scenario, said):
    info = dataclasses.replace(INFO, scenario=scenario)
    reason = MEAT.supports(MEAT.Config(**options), info, backbone_of(name).info)
    assert reason is not None
    assert said in reason


def test_self_loop_is_chosen_by_what_the_network_pools():
    assert [part.self_loop for part in meat("tiny_vit")._attentions] == [False, False]
    assert [part.self_loop for part in meat("tiny_vit", self_loop=True)._attentions] == [True, True]
    assert all(part.self_loop for part in meat("tiny_swin")._attentions)
    averaged = meat("tiny_vit?global_pool=avg")
    assert [part.self_loop for part in averaged._attentions] == [True, True]


def test_an_ffn_that_cannot_be_masked_is_refused():
    with pytest.raises(RequestError, match="normalises hidden units"):
        meat("tiny_vit?scale_mlp_norm=true", ffn="neuron")
