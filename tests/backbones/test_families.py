"""Networks of every family compute what timm's own do; what methods may ask of them is what they have."""

from __future__ import annotations

from functools import cache

import pytest
import timm
import torch
from family_members import MEMBERS, random
from timm.models import get_deprecated_models, get_pretrained_cfg
from torch import Tensor, nn

from backbones.architecture import spec_of
from backbones.backbone import Backbone, describe, open_backbone
from backbones.capabilities import CAPABILITIES, IN_THIRDS, is_bias, is_norm
from backbones.evaluation import PER_TAG, TABLE, evaluated
from backbones.families import pooling_of
from backbones.numerics import Numerics
from backbones.recipe import STATISTICS
from benchmarks.errors import RequestError
from carryover.check.backbones import check_backbone
from carryover.check.verdict import Verdict
from carryover.commands.listing import admitted

# Whose attention stands on the patches' own places, by a table for each pair, windows, or several grids.
FIXED = {"BEiT", "relative positions", "SAM", "CaiT", "Hiera", "DaViT", "Swin V2", "Swin V2 CR"}
# Those whose promises are quick tests: each is of another structure.
CHECKED = {"DINOv3", "EVA-02 split", "SigLIP", "Hiera", "Swin V2", "SAM"}
WITHOUT_BLOCKS = {"parallel", "ConvNeXt", "ResNet"}


@cache
def opened(family: str) -> Backbone:
    """The family's member, in which no tensor is zero or one throughout: biases and scales count too."""
    backbone = open_backbone(random(family), numerics=Numerics())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return backbone


def images(backbone: Backbone, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, *backbone.info.input_size, generator=generator)


def plain(family: str) -> nn.Module:
    """timm's own network with the same arguments and weights; of ours only the pooling of the table."""
    spec = spec_of(random(family))
    arguments = dict(spec.arguments)
    row = evaluated(f"{spec.base.partition('.')[0]}.{get_pretrained_cfg(spec.base).tag}")
    if row is not None and row.instead:
        arguments["global_pool"] = row.pooling
    if family in ("ConvNeXt", "ResNet", "DaViT"):
        del arguments["img_size"]
    net = timm.create_model(spec.base, pretrained=False, num_classes=0, **arguments)
    net.load_state_dict(opened(family).net.state_dict())
    return net.eval()


@pytest.mark.parametrize("family", MEMBERS)
def test_features_are_timm_s_own(family: str) -> None:
    backbone, net = opened(family), plain(family)
    shown = images(backbone)
    with torch.no_grad():
        expected = net.forward_head(net.forward_features(shown), pre_logits=True)
        found = backbone(shown)
    assert found.shape == (2, backbone.info.width)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.std() > 1e-3


@pytest.mark.parametrize("family", MEMBERS)
def test_tokens_stand_row_by_row(family: str) -> None:
    """The token that changes most is that of the patch which was changed, for most of the patches."""
    backbone = opened(family)
    shown, (height, width) = images(backbone, 1), backbone.info.grid
    high, wide = (side // cells for side, cells in zip(shown.shape[2:], (height, width), strict=True))
    hits = 0
    with torch.no_grad():
        before = backbone.forward_tokens(shown)
        for place in range(height * width):
            row, column = divmod(place, width)
            other = shown.clone()
            other[..., row * high : (row + 1) * high, column * wide : (column + 1) * wide] += 2
            changed = (backbone.forward_tokens(other) - before).norm(dim=-1)[0]
            hits += int(changed.argmax()) == place
    assert before.shape == (1, height * width, backbone.info.width)
    assert hits > height * width // 2


@pytest.mark.parametrize("family", [family for family in MEMBERS if family not in WITHOUT_BLOCKS])
def test_sites_say_what_passes_through_the_blocks(family: str) -> None:
    backbone, order = opened(family), []
    sites = backbone.sites()

    def see(place: int, returned: Tensor) -> None:
        order.append(place)
        site = sites[place]
        assert site.width in returned.shape[1:]
        assert returned[0].numel() == (site.prefix + site.grid[0] * site.grid[1]) * site.width

    hooks = [
        site.block.register_forward_hook(lambda m, given, out, place=site.index: see(place, out))
        for site in sites
    ]
    with torch.no_grad():
        backbone(images(backbone))
    for hook in hooks:
        hook.remove()
    assert order == list(range(len(sites)))
    assert len(sites) == backbone.info.blocks > 0
    assert all(site.heads > 0 for site in sites)


def test_what_a_dinov3_and_an_eva02_are() -> None:
    dino, eva = describe("vit_small_patch16_dinov3?weights=random"), opened("EVA-02 split")
    assert (dino.family, dino.blocks, dino.grid, dino.prefix_tokens, dino.pooling) == (
        "vit",
        12,
        (16, 16),
        5,  # class token and four registers
        "token",
    )
    site = eva.sites()[0]
    assert site.readers() == {"q": "q_proj", "k": "k_proj", "v": "v_proj"}
    assert site.mlp_layers() == ["fc1_g", "fc1_x", "fc2"]


def test_further_tokens_are_taken_wherever_attention_has_no_places_of_its_own() -> None:
    takes = {family for family in MEMBERS if opened(family).info.missing("extra tokens") is None}
    assert takes == set(MEMBERS) - FIXED - WITHOUT_BLOCKS


def test_a_network_without_blocks_that_are_found_says_so() -> None:
    for family in WITHOUT_BLOCKS:
        info = opened(family).info
        assert info.blocks == 0
        assert info.missing("blocks") == "no module of it holds one attention and one MLP"
        assert info.missing("norms") is None


def test_a_capability_that_nothing_has_is_refused() -> None:
    with pytest.raises(RequestError, match="did you mean 'blocks'"):
        opened("ViT").info.missing("block")  # type: ignore[arg-type]
    assert all(" " in words or words == "biases" for words in CAPABILITIES.values())


@pytest.mark.parametrize("family", [family for family in MEMBERS if family not in WITHOUT_BLOCKS])
def test_the_last_third_of_a_fused_layer_makes_the_values(family: str) -> None:
    """Only so may queries and values be adapted apart; DaViT's attention over channels has another layout."""
    backbone = opened(family).copy()
    fused = [site for site in backbone.sites() if "qkv" in site.readers()]
    zero = []
    with torch.no_grad():
        for site in fused:
            attention, qkv = site.attention, site.attention.get_submodule("qkv")
            assert isinstance(qkv, nn.Linear)
            start = qkv.out_features // 3 * 2
            qkv.weight[start:] = 0
            if qkv.bias is not None:
                qkv.bias[start:] = 0
            if getattr(attention, "v_bias", None) is not None:
                attention.get_parameter("v_bias").zero_()
            projection = attention.get_submodule(str(site.projection()))
            norm = getattr(attention, "norm", None)
            if isinstance(norm, nn.Module) and is_norm(norm) and getattr(norm, "bias", None) is not None:
                norm.bias.zero_()  # type: ignore[operator, union-attr]
            projection.register_forward_pre_hook(
                lambda m, given: zero.append(bool((given[0].abs() < 1e-5).all()))
            )
        backbone(images(backbone))
    if opened(family).info.missing("q and v") is None:
        assert all(zero)
    for site, nothing in zip(fused, zero, strict=True):
        assert nothing or not isinstance(site.attention, IN_THIRDS)


@pytest.mark.parametrize("family", ["BEiT", "EVA", "Swin V2"])
def test_a_layer_that_timm_reads_the_weight_of_is_called(family: str) -> None:
    """Otherwise a low-rank update of it, or a scale after it, would be passed by without an error."""
    backbone, called = opened(family), set()
    hooks = [
        site.attention.get_submodule("qkv").register_forward_hook(
            lambda m, given, out, place=site.index: called.add(place)
        )
        for site in backbone.sites()
    ]
    with torch.no_grad():
        backbone(images(backbone))
    for hook in hooks:
        hook.remove()
    assert called == set(range(backbone.info.blocks))
    names = {name.rpartition(".")[2] for name, _ in backbone.net.named_parameters() if is_bias(name)}
    assert names >= {"bias", "q_bias", "v_bias"}


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[] if name in CHECKED else [pytest.mark.slow]) for name in MEMBERS],
)
def test_a_member_keeps_every_promise_of_a_backbone(family: str) -> None:
    found = list(check_backbone(random(family)))
    assert len(found) == 6
    broken = [verdict for verdict in found if not kept(verdict)]
    assert not broken


def kept(verdict: Verdict) -> bool:
    return verdict.status != "failed"


def test_the_table_of_pooling_and_pixels_says_what_timm_s_tags_do() -> None:
    """Every row holds for some tags, with their statistics; pooling is timm's but where the row says so."""
    tags = timm.list_pretrained()
    for row in TABLE:
        of_row = [name for name in tags if evaluated(name) is row]
        assert of_row, row.patterns
        for name in of_row:
            config = get_pretrained_cfg(name)
            assert config.interpolation == row.interpolation, name
            if row.statistics != PER_TAG:
                mean, std = STATISTICS[row.statistics]
                assert (tuple(config.mean), tuple(config.std)) == (mean, std), name
        sample = of_row[0]
        with torch.device("meta"):
            net = timm.create_model(sample, pretrained=False, num_classes=0)
        assert pooling_of(net) == (row.instead or row.pooling), sample


@pytest.mark.parametrize(
    ("family", "pooling", "after"),
    [
        ("DINOv3", "token", "DINOv3"),
        ("SigLIP", "map", "SigLIP"),
        ("BEiT", "avg", "BEiT"),
        ("CLIP", "token", "CLIP"),
        ("rotary ViT", "token", "as timm has it"),
    ],
)
def test_a_backbone_says_how_it_pools_and_after_whom(family: str, pooling: str, after: str) -> None:
    info = opened(family).info
    assert info.pooling == pooling
    assert after in info.pooled_after


def test_a_typed_pooling_is_taken_and_called_so() -> None:
    info = describe(f"{random('DINOv3')}&global_pool=avg")
    assert (info.pooling, info.pooled_after) == ("avg", "as typed")


def test_old_names_are_what_timm_maps_them_to() -> None:
    old = {name: present for name, present in get_deprecated_models().items() if present}
    assert len(old) > 100
    for name, present in old.items():
        assert spec_of(f"{name}?weights=random").base == present
    info = describe("vit_tiny_patch16_224_in21k?img_size=32&depth=1&weights=random")
    assert info.name == "vit_tiny_patch16_224.augreg_in21k?depth=1&img_size=32&weights=random"
    with pytest.raises(RequestError, match=r"timm calls vit_tiny_patch16_224_in21k vit_tiny_patch16_224\."):
        describe("vit_tiny_patch16_224_in21k.mae")


def test_the_list_of_timm_s_names_says_what_each_is_or_why_it_is_refused() -> None:
    *lines, last = admitted("[hp]i*_t*224")
    said = {line.partition(" ")[0]: line for line in lines}
    assert (
        "hierarchical, 7 x 7 tokens of width 768, 12 blocks of attention, pooling avg"
        in said["hiera_tiny_224"]
    )
    assert "refused: its 1 tokens are no map of patches" in said["pit_ti_224"]
    assert "refused: its 2 tokens" in said["pit_ti_distilled_224"]
    good = [line for line in lines if "refused" not in line]
    assert last.startswith(f"{len(good)} of {len(lines)} architectures and ")
    with pytest.raises(RequestError, match="timm has no architecture 'vti'"):
        list(admitted("vti"))
