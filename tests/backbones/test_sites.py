"""Sites say what the modules do, and replacing an attention is what a method thinks it is."""

from __future__ import annotations

import pytest
import torch
from timm.layers.attention import Attention
from timm.models.swin_transformer import WindowAttention
from torch import nn

from backbones.architecture import build
from backbones.backbone import Backbone, open_backbone
from backbones.names import parse
from backbones.numerics import Numerics, set_fused
from backbones.sites import Site, find_sites

NUMERICS = Numerics()
TINY = ("tiny_vit", "tiny_swin")


def sketch(name: str) -> tuple[nn.Module, tuple[Site, ...]]:
    with torch.device("meta"):
        net = build(parse(name))
    return net, find_sites(net)


def facts(site: Site) -> tuple[object, ...]:
    return site.stage, site.grid, site.prefix, site.width, site.heads, site.window, site.shift


def test_vit_tiny_has_twelve_global_sites() -> None:
    _, sites = sketch("vit_tiny_patch16_224")
    assert [facts(site) for site in sites] == [(0, (14, 14), 1, 192, 3, None, None)] * 12
    assert [site.name for site in sites] == [f"blocks.{i}" for i in range(12)]


def test_swin_tiny_has_the_paper_s_stages() -> None:
    # Liu et al., ICCV 2021, table 7: maps 56, 28, 14, 7; heads 3, 6, 12, 24; 2, 2, 6, 2 blocks; window 7.
    _, sites = sketch("swin_tiny_patch4_window7_224")
    expected = []
    for stage, (side, depth) in enumerate(((56, 2), (28, 2), (14, 6), (7, 2))):
        for number in range(depth):
            shift = (3, 3) if number % 2 and side > 7 else (0, 0)
            expected.append((stage, (side, side), 0, 96 * 2**stage, 3 * 2**stage, (7, 7), shift))
    assert [facts(site) for site in sites] == expected


def test_windows_clip_and_shifts_vanish_on_small_maps() -> None:
    _, sites = sketch("swin_tiny_patch4_window7_224?img_size=64")
    assert [(site.grid, site.window, site.shift) for site in sites[:6]] == [
        ((16, 16), (7, 7), (0, 0)),
        ((16, 16), (7, 7), (3, 3)),
        ((8, 8), (7, 7), (0, 0)),
        ((8, 8), (7, 7), (3, 3)),
        ((4, 4), (4, 4), (0, 0)),
        ((4, 4), (4, 4), (0, 0)),
    ]


@pytest.mark.parametrize(
    "name", ["tiny_vit", "tiny_swin", "vit_medium_patch16_reg4_gap_256?img_size=64&depth=2"]
)
def test_facts_equal_what_passes_through_the_modules(name: str) -> None:
    backbone = open_backbone(name + ("&" if "?" in name else "?") + "weights=random", numerics=NUMERICS)
    seen: dict[int, torch.Tensor] = {}
    for site in backbone.sites():
        site.block.register_forward_hook(
            lambda _, inputs, __, index=site.index: seen.__setitem__(index, inputs[0])
        )
        site.attention.register_forward_hook(
            lambda _, inputs, __, index=site.index: seen.__setitem__(-1 - index, inputs[0])
        )
    with torch.no_grad():
        backbone(torch.zeros(2, 3, *backbone.info.input_size))
    for site in backbone.sites():
        height, width = site.grid
        entered, attended = seen[site.index], seen[-1 - site.index]
        if site.window is None:
            assert entered.shape == attended.shape == (2, site.prefix + height * width, site.width)
        else:
            assert entered.shape == (2, height, width, site.width)
            area = site.window[0] * site.window[1]
            assert attended.shape == (2 * height * width // area, area, site.width)
        assert site.attention.num_heads == site.heads
        assert (site.fc1.in_features, site.fc2.out_features) == (site.width, site.width)
        assert backbone.net.get_submodule(site.name) is site.block


def test_tiny_swin_shifts_in_the_first_stage_only() -> None:
    shifts = [site.shift for site in open_backbone("tiny_swin", numerics=NUMERICS).sites()]
    assert shifts == [(0, 0), (2, 2), (0, 0), (0, 0)]


class Wrapped(nn.Module):
    """An attention of a method's own: the weights of the old one under their old names."""

    def __init__(self, old: Attention | WindowAttention) -> None:
        super().__init__()
        self.qkv, self.proj = old.qkv, old.proj
        if isinstance(old, WindowAttention):
            self.relative_position_bias_table = old.relative_position_bias_table
        object.__setattr__(self, "old", old)

    def forward(self, x: torch.Tensor, **masks: torch.Tensor | None) -> torch.Tensor:
        return self.old(x, **{name: mask for name, mask in masks.items() if mask is not None})


@pytest.mark.parametrize("name", TINY)
def test_replacing_attention_keeps_weights_output_and_facts(name: str) -> None:
    backbone = open_backbone(name, numerics=NUMERICS)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before, names, was = (
        backbone(images),
        set(backbone.net.state_dict()),
        [facts(s) for s in backbone.sites()],
    )
    for site in backbone.sites():
        site.attention = Wrapped(site.attention)
        assert isinstance(site.attention, Wrapped)
    assert not backbone.pristine
    torch.testing.assert_close(backbone(images), before)
    assert set(backbone.net.state_dict()) == names
    assert [facts(site) for site in backbone.sites()] == was
    assert [facts(site) for site in backbone.copy().sites()] == was


def kinds(backbone: Backbone, differentiable: bool) -> set[bool]:
    with torch.set_grad_enabled(differentiable):
        backbone(torch.zeros(1, 3, 32, 32))
    return {site.attention.fused_attn for site in backbone.sites()}


@pytest.mark.parametrize("measured", [None, True, False])
def test_attention_is_fused_in_evaluation_and_as_measured_in_training(measured: bool | None) -> None:
    vit, swin = (open_backbone(name, numerics=Numerics(fused_training=measured)) for name in TINY)
    assert kinds(vit, differentiable=False) == kinds(swin, differentiable=False) == {True}
    assert kinds(vit, differentiable=True) == {measured is not False}
    assert kinds(swin, differentiable=True) == {False}


def test_a_module_that_does_not_choose_is_left_alone() -> None:
    module = nn.Linear(2, 2)
    set_fused(module, NUMERICS, differentiable=True)
    assert not hasattr(module, "fused_attn")
