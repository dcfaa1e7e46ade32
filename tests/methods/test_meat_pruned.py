"""Pruned evaluation is exact, does what the liveness recursion allows, and no more."""

from __future__ import annotations

from functools import partial

import meat_networks as nets
import pytest
import timm
import torch
from rounding import assert_same_to_rounding
from timm.models.vision_transformer import VisionTransformer

from methods.meat.pruned import PrunedViT, can_prune


@pytest.mark.parametrize("keep", [1.0, 0.9, 0.5, 0.2, 0.0])
@pytest.mark.parametrize("self_loop", [False, True])
@pytest.mark.parametrize("ffn", ["elementwise", "neuron", "none"])
def test_pruned_equals_masked_dense(keep, self_loop, ffn):
    net = nets.masked(nets.vit(), ffn, self_loop)
    nets.draw(net, keep)
    pixels = nets.images(net)
    dense = net(pixels)
    pruned = PrunedViT(net)
    assert_same_to_rounding(partial(pruned, pixels), dense)
    for part in net.ffns:
        part.fix()
    assert_same_to_rounding(partial(pruned, pixels), dense)


@pytest.mark.parametrize(
    "arguments",
    [
        {"reg_tokens": 2, "no_embed_class": True},
        {"qk_norm": True, "init_values": 0.5},
        {"pre_norm": True, "fc_norm": True, "qkv_bias": False},
        {"scale_attn_norm": True},
    ],
)
def test_pruned_knows_what_timm_varies(arguments):
    net = nets.masked(nets.vit(**arguments), "elementwise")
    nets.draw(net, 0.4)
    pixels = nets.images(net)
    assert_same_to_rounding(partial(PrunedViT(net), pixels), net(pixels))


def test_blocks_without_a_mask_keep_every_token():
    net = nets.masked(nets.vit())
    plain = nets.vit()
    nets.draw(net, 0.3)
    for index in (0, 2):
        net.blocks[index].attn = plain.blocks[index].attn
    pixels = nets.images(net)
    pruned = PrunedViT(net)
    assert_same_to_rounding(partial(pruned, pixels), net(pixels))
    assert [step.given for step in pruned.steps[:3]] == [17, 17, 17]


def test_live_sets_follow_the_recursion():
    net = nets.masked(nets.vit(), "none")
    nets.draw(net, 0.3)
    pruned = PrunedViT(net)
    live = torch.zeros(17, dtype=torch.bool)
    live[0] = True
    for attention, step in zip(reversed(net.attentions), reversed(pruned.steps), strict=True):
        assert step.live == int(live.sum())
        live |= attention.keep()
        assert step.given == int(live.sum())
    assert pruned.steps[-1].live == 1


def test_a_token_masked_in_all_blocks_is_never_computed():
    net = nets.masked(nets.vit(), "none")
    for attention in net.attentions:
        attention.mask.load(torch.zeros(16, dtype=torch.bool))
    pruned = PrunedViT(net)
    assert [(step.given, step.live) for step in pruned.steps] == [(1, 1)] * nets.BLOCKS
    assert_same_to_rounding(partial(pruned, nets.images(net)), net(nets.images(net)))


@pytest.mark.parametrize(
    ("keep", "shared", "share"),
    [
        (1.0, False, 0.929),
        (0.9, False, 0.893),
        (0.5, False, 0.727),
        (0.3, False, 0.594),
        (0.9, True, 0.822),
        (0.5, True, 0.434),
        (0.3, True, 0.255),
    ],
)
def test_macs_of_vit_tiny_are_those_of_the_spec(keep, shared, share):
    net = nets.masked(timm.create_model("vit_tiny_patch16_224", num_classes=0), "none")
    shares = []
    for seed in range(20):
        source = torch.Generator().manual_seed(seed)
        bits = torch.zeros(196, dtype=torch.bool)
        bits[torch.randperm(196, generator=source)[: round(196 * keep)]] = True
        for attention in net.attentions:
            attention.mask.load(bits if shared else torch.rand(196, generator=source) < keep)
        shares.append(PrunedViT(net).macs_share())
    assert sum(shares) / len(shares) == pytest.approx(share, abs=0.006)


def test_neuron_masks_slice_into_a_smaller_exact_network():
    net = nets.masked(nets.vit(), "neuron")
    nets.draw(net, 0.6)
    ffn = net.ffns[1]
    tokens = torch.randn(2, 17, 32)
    before = ffn(tokens)
    ffn.fix()
    kept = int(ffn.masks[0].hard().sum())
    assert 0 < kept < 128
    assert [tuple(part.shape) for part in ffn.fixed] == [(kept, 32), (kept,), (32, kept)]
    assert_same_to_rounding(partial(ffn, tokens), before)


def test_neuron_slicing_lowers_the_macs_by_the_ffns_share():
    net = nets.masked(timm.create_model("vit_tiny_patch16_224", num_classes=0), "neuron")
    full = PrunedViT(net).macs_share()
    for ffn in net.ffns:
        ffn.masks[0].load(torch.arange(768) < 0.7 * 768)
    assert 1 - PrunedViT(net).macs_share() / full == pytest.approx(0.17, abs=0.005)


def test_networks_that_do_not_read_cls_alone_are_not_pruned():
    assert can_prune(nets.masked(nets.vit()))
    assert not can_prune(nets.masked(nets.vit(global_pool="avg")))
    assert not can_prune(nets.masked(nets.swin()))
    with torch.device("meta"):
        assert not can_prune(timm.create_model("deit_tiny_distilled_patch16_224", num_classes=0))
        assert can_prune(VisionTransformer(depth=1, num_classes=0))
