"""Names open into networks that compute what timm's own do."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from rounding import assert_same_to_rounding
from torch.nn import functional as F

from backbones import catalogue
from backbones.backbone import describe, open_backbone
from backbones.catalogue import backbone_names
from backbones.names import parse
from backbones.numerics import Numerics
from backbones.preprocessing import Preprocessing
from benchmarks.errors import RequestError

NUMERICS = Numerics()  # CPU, float32, one thread
VIT = "vit_tiny_patch16_224?img_size=48&depth=2&weights=random"
GAP = "vit_tiny_patch16_224?img_size=32&depth=1&class_token=false&global_pool=avg&weights=random"
SWIN = "swin_tiny_patch4_window7_224?img_size=64&embed_dim=24&weights=random"
CONV = "resnet18?img_size=32&channels=8,16,24,32&weights=random"
NEXT = "convnext_atto?img_size=64&depths=1,1,1,1&weights=random"
REG = "vit_medium_patch16_reg4_gap_256?img_size=32&depth=1&weights=random"


def pixels(count: int = 4, side: int = 32) -> torch.Tensor:
    drawn = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(drawn)


@pytest.mark.parametrize("name", [VIT, GAP, SWIN, REG, CONV, NEXT])
def test_features_are_those_of_plain_timm(name: str) -> None:
    backbone = open_backbone(name, numerics=NUMERICS)
    arguments = dict(parse(name).arguments)
    if backbone.info.family == "convnet":
        del arguments["img_size"]
    plain = timm.create_model(name.partition("?")[0], num_classes=0, **arguments).eval()
    plain.load_state_dict(backbone.net.state_dict())
    images = backbone.prepare(pixels())
    expected = plain(images)
    for context in (torch.no_grad, torch.enable_grad):  # fused and unfused attention
        with context():
            assert_same_to_rounding(partial(backbone, images), expected)
    assert expected.shape == (4, backbone.info.width)


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_swin", GAP, REG])
def test_tokens_are_the_normed_patches_in_row_order(name: str) -> None:
    backbone = open_backbone(name, numerics=NUMERICS)
    images = backbone.prepare(pixels())
    with torch.no_grad():
        tokens = backbone.forward_tokens(images)
        maps = backbone.net.forward_features(images)
    height, width = backbone.sites()[-1].grid
    assert tokens.shape == (4, height * width, backbone.info.width)
    if maps.ndim == 4:
        torch.testing.assert_close(tokens.unflatten(1, (height, width)), maps)
    else:
        patches = backbone.net.fc_norm(maps[:, backbone.info.prefix_tokens :])
        torch.testing.assert_close(tokens, patches)
        normed = tokens.mean(-1)  # a fresh LayerNorm leaves mean 0, of numbers about 1
        torch.testing.assert_close(normed, torch.zeros_like(normed))


@pytest.mark.parametrize("name", ["tiny_convnet", NEXT])
def test_tokens_of_a_convnet_pool_to_its_features_before_the_norm(name: str) -> None:
    backbone = open_backbone(name, numerics=NUMERICS)
    images = backbone.prepare(pixels())
    with torch.no_grad():
        tokens = backbone.forward_tokens(images)
        maps = backbone.net.forward_features(images)
    height, width = backbone.info.grid
    assert maps.shape == (4, backbone.info.width, height, width)
    assert tokens.shape == (4, height * width, backbone.info.width)
    if name == NEXT:
        normed = tokens.mean(-1)  # a fresh LayerNorm leaves mean 0, of numbers about 1
        torch.testing.assert_close(normed, torch.zeros_like(normed))
    else:
        torch.testing.assert_close(tokens[:, width + 1], maps[:, :, 1, 1])
        assert_same_to_rounding(partial(backbone, images), tokens.mean(1))
    assert backbone.sites() == ()


def test_a_frozen_batchnorm_keeps_its_statistics_and_one_that_trains_moves_them() -> None:
    backbone = open_backbone("tiny_convnet", numerics=NUMERICS)
    images = backbone.prepare(pixels())
    before = {name: buffer.clone() for name, buffer in backbone.net.named_buffers()}
    backbone.freeze()
    backbone.train()
    backbone(images)
    assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.net.named_buffers())
    assert not backbone.changing()
    backbone.freeze(except_=lambda name: name.startswith("layer4.0.bn1"))
    backbone.train()
    backbone(images)
    moved = {n for n, buffer in backbone.net.named_buffers() if not torch.equal(buffer, before[n])}
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert moved == {f"layer4.0.bn1.{kind}" for kind in kinds}
    assert backbone.changing().keys() == moved | {"layer4.0.bn1.weight", "layer4.0.bn1.bias"}


@pytest.mark.parametrize("name", ["tiny_external_attention", "tiny_vit?attn_layer=external_attention"])
def test_external_attention_has_tokens_like_a_vit_and_no_sites_of_self_attention(name: str) -> None:
    backbone = open_backbone(name, numerics=NUMERICS)
    images = backbone.prepare(pixels())
    with torch.no_grad():
        maps = backbone.net.forward_features(images)
        assert torch.equal(backbone.forward_tokens(images), maps[:, 1:])
        assert torch.equal(backbone(images), maps[:, 0])
    assert backbone.info.family == "external_attention"
    assert backbone.info.grid[0] * backbone.info.grid[1] == maps.shape[1] - 1
    assert backbone.sites() == ()


def test_gradients_flow_through_features_and_tokens() -> None:
    for name in ("tiny_vit", "tiny_swin", "tiny_convnet"):
        backbone = open_backbone(name, numerics=NUMERICS)
        images = backbone.prepare(pixels())
        (backbone(images).square().sum() + backbone.forward_tokens(images).square().sum()).backward()
        assert all(parameter.grad is not None for parameter in backbone.net.parameters())


def test_freeze_leaves_what_is_excepted() -> None:
    backbone = open_backbone("tiny_vit", numerics=NUMERICS)
    backbone.freeze(except_=lambda name: name.endswith(".bias"))
    for name, parameter in backbone.net.named_parameters():
        assert parameter.requires_grad == name.endswith(".bias")
    backbone.freeze()
    assert not any(parameter.requires_grad for parameter in backbone.net.parameters())


def test_a_copy_is_equal_and_its_own() -> None:
    backbone = open_backbone("tiny_swin", numerics=NUMERICS)
    images = backbone.prepare(pixels())
    with torch.no_grad():
        before = backbone(images)
        other = backbone.copy()
        assert torch.equal(other(images), before)
        next(other.net.parameters()).add_(1)
        assert torch.equal(backbone(images), before)
    assert backbone.pristine
    assert not other.pristine
    assert not other.copy().pristine
    assert other.identity == backbone.identity


def test_what_describe_says_is_what_opens_and_takes_no_memory() -> None:
    for name in ("tiny_vit", "tiny_swin", "small_vit", VIT, SWIN):
        assert describe(name) == open_backbone(name, numerics=NUMERICS).info
    assert describe("vit_giant_patch14_dinov2?weights=random").parameters > 10**9  # 4 GB as float32


def test_describe_allocates_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.device] = []
    register = torch.nn.Module.register_parameter

    def watched(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        if parameter is not None:
            made.append(parameter.device)
        register(module, name, parameter)

    monkeypatch.setattr(torch.nn.Module, "register_parameter", watched)
    describe("vit_tiny_patch16_224")
    describe("tiny_swin")
    assert made
    assert {device.type for device in made} == {"meta"}


def test_identity_names_architecture_source_and_weights() -> None:
    backbone = open_backbone("tiny_vit?depth=1", numerics=NUMERICS)
    assert backbone.identity == f"tiny_vit[depth=1].random-{backbone.weights[:12]}"
    assert backbone.name == "tiny_vit?depth=1"
    assert parse("tiny_vit?mlp_ratio=2&depth=1").canonical == "tiny_vit?depth=1&mlp_ratio=2"


def test_random_weights_are_the_name_s_and_leave_the_global_state_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    one = open_backbone("tiny_vit", numerics=NUMERICS)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], before_numpy)  # noqa: NPY002
    torch.manual_seed(4)
    assert open_backbone("tiny_vit", numerics=NUMERICS).weights == one.weights
    assert open_backbone("tiny_vit?depth=1", numerics=NUMERICS).weights != one.weights
    # Statistics and the words around the weights change no weight.
    assert open_backbone("tiny_vit?mean=imagenet&weights=random", numerics=NUMERICS).weights == one.weights


def test_another_process_draws_the_same_weights() -> None:
    code = (
        "from backbones.backbone import open_backbone as o; from backbones.numerics import Numerics as N;"
        "print(o('tiny_vit', numerics=N()).weights, o('tiny_swin', numerics=N(threads=2)).weights)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert said == [open_backbone(name, numerics=NUMERICS).weights for name in ("tiny_vit", "tiny_swin")]


def test_listing_names_imports_no_torch() -> None:
    code = (
        "import sys; from backbones.catalogue import backbone_names as n; n(); print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"
    assert {"tiny_vit", "tiny_swin", "small_vit"} <= set(backbone_names())


def test_preprocessing_is_the_model_s_own_unless_said() -> None:
    with torch.device("meta"):
        half, imagenet = (0.5, 0.5, 0.5), (0.485, 0.456, 0.406)
    for name, mean in ((VIT, half), (SWIN, imagenet), (VIT + "&mean=imagenet", imagenet)):
        assert open_backbone(name, numerics=NUMERICS).preprocessing.mean == mean
    typed = open_backbone("tiny_vit?mean=0.1,0.2,0.3&std=imagenet", numerics=NUMERICS).preprocessing
    assert typed == Preprocessing((32, 32), (0.1, 0.2, 0.3), (0.229, 0.224, 0.225))
    # A named mean brings its deviation along.
    assert open_backbone("tiny_vit?mean=imagenet", numerics=NUMERICS).preprocessing.std == (
        0.229,
        0.224,
        0.225,
    )


@pytest.mark.parametrize(("side", "antialias"), [(16, False), (33, True)])
def test_resizing_is_bicubic_and_antialiased_only_when_it_shrinks(side: int, antialias: bool) -> None:
    rule = Preprocessing((32, 32), (0.1, 0.2, 0.3), (0.5, 0.25, 1.0))
    images = pixels(2, side).permute(0, 3, 1, 2) / 255
    resized = F.interpolate(images, (32, 32), mode="bicubic", align_corners=False, antialias=antialias)
    expected = (resized - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.25, 1]).view(
        3, 1, 1
    )
    torch.testing.assert_close(rule(pixels(2, side)), expected)


def test_an_image_of_the_right_size_is_only_normalised() -> None:
    rule = Preprocessing((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    torch.testing.assert_close(rule(pixels()), pixels().permute(0, 3, 1, 2) / 127.5 - 1)
    with pytest.raises(ValueError, match="uint8"):
        rule(pixels().float())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiny_vti", "did you mean 'tiny_vit'"),
        ("vit_tiny_patch16_242", "any timm name, such as vit_tiny_patch16_224"),
        ("crossvit_tiny_240", "it returns a list of maps and not one"),
        ("mobilenetv3_small_050", "its map has 288 channels and its features 1024"),
        ("pit_ti_224", "its 1 tokens are no map of patches"),
        ("qwen3_vit_88m_enc", "it gives maps and no features"),
        ("resnet18?chanels=8,8,8,8&weights=random", "did you mean 'channels'"),
        ("tiny_convnet?output_stride=7", "do not fit together"),
        ("tiny_vit.mae", "unknown tag of tiny_vit 'mae'"),
        ("tiny_vit?attn_layer=external", "did you mean 'external_attention'"),
        ("tiny_external_attention?img_size=2", "do not fit together"),
        ("vit_tiny_patch16_224.augreg", "unknown tag of vit_tiny_patch16_224 'augreg'"),
        ("tiny_vit?dpth=3", "did you mean 'depth'"),
        ("tiny_vit?depth=two", "depth=two must be a whole number"),
        ("tiny_vit?depth=0", "depth=0 must be a whole number above 0"),
        ("tiny_vit?mlp_ratio=nan", "do not fit together"),
        ("tiny_swin?depths=2,0", "depths=2,0 must be whole numbers"),
        ("tiny_swin?depths=2,2,2", "do not fit together"),
        ("tiny_vit?class_token=1", "class_token=1 must be true or false"),
        ("tiny_vit?img_size=0", "img_size=0 must be"),
        ("tiny_vit?num_classes=10", "unknown parameter of backbone tiny_vit 'num_classes'"),
        ("tiny_vit?depth", "write key=value"),
        ("tiny_vit?depth=1&depth=2", "gives depth twice"),
        ("tiny_vit?mean=0.5,0.5", "neither imagenet or half or clip nor three numbers"),
        ("tiny_vit?std=0,1,1", "must be positive"),
        ("tiny_vit?embed_dim=33", "do not fit together"),
        ("tiny_vit?class_token=false", "do not fit together"),
        ("tiny_vit?img_size=36", "patch 8x8 does not divide its image of 36x36"),
        ("tiny_swin?img_size=30", "patch 4x4 does not divide"),
        ("tiny_vit?global_pool=", "write key=value"),
        ("tiny_vit?weights=pretrained", "has no pretrained weights"),
    ],
)
def test_bad_names_are_refused_in_one_sentence(name: str, said: str) -> None:
    for door in (describe, lambda name: open_backbone(name, numerics=NUMERICS)):
        with pytest.raises(RequestError) as caught:
            door(name)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_plugin_s_recipe_opens_under_its_name_and_is_listed_unimported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign_backbone.py").write_text(
        "from backbones.recipe import Recipe\n"
        "WIDE = Recipe('wide', 'a wide one', 'vit', dict(img_size=16, patch_size=8, embed_dim=48, depth=1))\n"
        "WRONG = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint(name, f"foreign_backbone:{name.upper()}", "carryover.backbones")
        for name in ("wide", "wrong")
    ]
    monkeypatch.setattr(
        catalogue, "entry_points", lambda group: points if group == "carryover.backbones" else []
    )
    assert backbone_names()["wide"] == "plugin foreign_backbone:WIDE"
    assert "foreign_backbone" not in sys.modules
    assert open_backbone("wide", numerics=NUMERICS).info.width == 48
    with pytest.raises(RequestError, match="has the type int; make it a Recipe"):
        describe("wrong")
