"""Side-tuning: what it blends, on every family."""

from __future__ import annotations

from functools import partial

import contract_lab as lab
import pytest
import torch
from contract_lab import Case
from rounding import assert_same_to_rounding


@pytest.mark.parametrize("backbone", lab.BACKBONES)
def test_it_starts_halfway_between_the_two_networks_and_leaves_the_frozen_one(backbone):
    plain = lab.backbone(backbone)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    method = lab.make(Case("side", backbone, "task"))
    method.backbone.eval()
    with torch.no_grad():
        expected = 0.5 * plain(images) + 0.5 * method.side(images)
        assert_same_to_rounding(partial(method.features, images), expected)
        method.side.alpha += 100  # a = 1: the frozen network alone
        assert_same_to_rounding(partial(method.features, images), plain(images))
        method.side.alpha -= 200
        assert_same_to_rounding(partial(method.features, images), method.side(images))


def test_the_share_is_learnt_and_the_frozen_network_gets_no_gradient():
    method = lab.make(Case("side", "tiny_vit", "task"))
    method.learn(lab.opened("task")[0][0])
    assert method.side.alpha != 0
    assert {name.partition(".")[0] for name in method.pack()} == {"side"}


def test_the_side_network_is_as_large_as_it_says():
    method = lab.make(Case("side", "tiny_vit", "task"))
    assert method.footprint().trainable == 97_920 + 129 * 32 + 1
