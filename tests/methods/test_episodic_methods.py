"""What the methods of few-shot episodes share: many episodes scored by one instance, as by fresh ones."""

from __future__ import annotations

import dataclasses
from functools import partial

import few_shot_lab as lab
import numpy as np
import pytest
import torch
from few_shot_lab import SmallPool
from rounding import assert_same_to_rounding

from benchmarks.images import Labelled
from benchmarks.stream import Episode
from methods.base import Method
from methods.crosstransformer import CrossTransformer
from methods.finetune_head import FinetuneHead
from methods.knn import KNN
from methods.protonet import ProtoNet

OPTIONS = {"crosstransformer": {"head": "random"}}
BATCHED = (CrossTransformer, ProtoNet, KNN)


def made(cls: type[Method], name: str = "tiny_vit", **options: object) -> Method:
    method = cls(cls.Config(**OPTIONS.get(cls.name, {}) | options), lab.network(name), lab.context())
    method.prepare(None)
    return method


def episodes(count: int = 4) -> list[Episode]:
    pool = SmallPool()
    return [pool.episode(0, number) for number in range(count)]


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_convnet"])
@pytest.mark.parametrize("cls", BATCHED, ids=lambda cls: cls.name)
def test_many_episodes_at_once_are_scored_as_each_by_a_fresh_instance(cls, name):
    found = episodes()
    batched = made(cls, name)
    before = {n: t.clone() for n, t in batched.state().items()}
    asked = [(lab.task_of(e), e.query.inputs) for e in found]
    scored = batched.score_episodes(asked)
    after = batched.state()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[n], t) for n, t in before.items())
    assert batched.learnt == []
    wanted = []
    for episode, logits in zip(found, scored, strict=True):
        fresh = made(cls, name)
        fresh.learn(lab.task_of(episode))
        wanted.append(fresh.predict(episode.query.inputs, 0))
        assert logits.shape == wanted[-1].shape
        assert (logits.dtype, logits.device.type) == (torch.float32, "cpu")
    assert_same_to_rounding(lambda: torch.cat(batched.score_episodes(asked)), torch.cat(wanted))


@pytest.mark.parametrize("cls", BATCHED, ids=lambda cls: cls.name)
def test_the_order_of_episodes_does_not_matter(cls):
    asked = [(lab.task_of(e), e.query.inputs) for e in episodes()]
    method = made(cls)
    there, back = method.score_episodes(asked), method.score_episodes(asked[::-1])[::-1]
    assert all(torch.equal(a, b) for a, b in zip(there, back, strict=True))


@pytest.mark.parametrize("cls", [*BATCHED, FinetuneHead], ids=lambda cls: cls.name)
def test_episodes_of_classes_that_look_different_are_mostly_right(cls):
    right = []
    for episode in episodes(6):
        method = made(cls)
        method.learn(lab.task_of(episode))
        found = method.predict(episode.query.inputs, 0).argmax(1).numpy()
        right += (found == episode.query.labels).tolist()
    assert np.mean(right) > 0.6  # chance is 1/3


@pytest.mark.parametrize("cls", BATCHED, ids=lambda cls: cls.name)
def test_a_class_without_an_image_is_never_the_answer(cls):
    (episode,) = episodes(1)
    few = episode.support.select(np.flatnonzero(episode.support.labels != 1))
    task = dataclasses.replace(lab.task_of(episode), train=few)
    method = made(cls)
    (scored,) = method.score_episodes([(task, episode.query.inputs)])
    method.learn(task)
    for logits in (scored, method.predict(episode.query.inputs, 0)):
        assert logits.shape == (6, 3)
        assert torch.isfinite(logits).all()
        assert not (logits.argmax(1) == 1).any()


def test_the_nearest_neighbour_of_a_support_image_is_itself():
    (episode,) = episodes(1)
    for metric in ("cosine", "euclidean"):
        method = made(KNN, metric=metric)
        method.learn(lab.task_of(episode))
        found = method.predict(episode.support.inputs, 0).argmax(1)
        assert found.tolist() == episode.support.labels.tolist()


def test_k_neighbours_are_averaged_and_a_class_of_fewer_gives_all_it_has():
    (episode,) = episodes(1)
    method = made(KNN, k=3)
    method.learn(lab.task_of(episode))
    unit = torch.nn.functional.normalize
    support, query = (
        unit(method.backbone.features(part.inputs), dim=1) for part in (episode.support, episode.query)
    )
    near, means = query @ support.T, []
    for label in range(3):
        found = near[:, torch.from_numpy(episode.support.labels == label)].sort(1, descending=True).values
        means.append(found[:, :3].mean(1))
    assert_same_to_rounding(partial(method.predict, episode.query.inputs, 0), torch.stack(means, 1))
    assert KNN.supports(KNN.Config(k=0), lab.context().info, method.backbone.info) is not None


def test_what_k_nearest_neighbours_keeps_are_features_and_no_images():
    (episode,) = episodes(1)
    method = made(KNN)
    method.learn(lab.task_of(episode))
    assert method.footprint().stored_bits == len(episode.support) * 32 * 32  # width 32, 32 bits each
    assert method.footprint().exemplars == 0


def test_the_logits_of_a_prototypical_network_are_squared_distances_to_the_means():
    (episode,) = episodes(1)
    method = made(ProtoNet)
    method.learn(lab.task_of(episode))
    support = method.backbone.features(episode.support.inputs)
    query = method.backbone.features(episode.query.inputs)
    expected = []
    for label in range(3):
        mean = support[torch.from_numpy(episode.support.labels == label)].mean(0)
        expected.append(-(query - mean).square().sum(1))
    assert_same_to_rounding(partial(method.predict, episode.query.inputs, 0), torch.stack(expected, 1))


def test_the_steps_of_a_head_are_counted_and_the_cosine_head_has_bounded_logits():
    (episode,) = episodes(1)
    method = made(FinetuneHead, head="cosine", steps=5, batch_size=4)
    method.learn(lab.task_of(episode))
    assert method.passes == 5 * 4
    assert float(method.predict(episode.query.inputs, 0).abs().max()) <= 10.0 + 1e-4  # 80 roundings of 10
    info = method.backbone.info
    assert FinetuneHead.supports(FinetuneHead.Config(steps=0), lab.context().info, info) is not None


def test_at_most_so_many_support_images_are_kept_spread_over_the_classes():
    pool = SmallPool()
    names = pool.images.class_names
    task = lab.task_of(Episode(Labelled(pool.images.inputs, pool.images.labels, names), pool.images))
    config = CrossTransformer.Config(head="random", max_support=15)
    method = CrossTransformer(config, lab.network(), lab.context(6))
    method.learn(task)
    counts = np.bincount(method._labels[0].numpy(), minlength=6)
    assert sorted(counts.tolist()) == [2, 2, 2, 3, 3, 3]
    assert method.observations() == {"support": 15.0}
    assert method.passes == 15
