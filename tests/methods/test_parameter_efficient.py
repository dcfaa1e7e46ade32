"""What methods promise that insert something small into a frozen network."""

from __future__ import annotations

import sys
from functools import cache, partial
from typing import Any

import pytest
import torch
from rounding import assert_same_to_rounding

from backbones.backbone import Backbone, describe, open_backbone
from backbones.numerics import Numerics
from benchmarks.errors import pip_install
from benchmarks.naming import typed
from benchmarks.seeds import Seeds
from benchmarks.stream import StreamInfo
from carryover.plugins.catalogue import method_class, methods
from carryover.protocols.rounding import Rounding
from methods.base import Context, GradientMethod, ParameterEfficient
from methods.vpt import swin

OURS = ("adapter", "adaptformer", "bitfit", "ln_tuning", "side", "ssf", "vpt_deep", "vpt_shallow")
PEFT = ("adalora", "boft", "dora", "hra", "ia3", "loha", "lokr", "lora", "oft", "rslora", "vera")
MORE = (
    *("adamss", "beft", "delora", "gralora", "hira", "miss"),
    *("osf", "psoft", "randlora", "shira", "waveft"),
)
NOT_PLAIN = ("side", "vpt_deep", "vpt_shallow")
INFO = StreamInfo(
    name="made",
    protocol="continual",
    scenario="task",
    classes=((0, 1), (2, 3)),
    class_names=("a", "b", "c", "d"),
    order=None,
    data="none",
    rule="none",
    image_size=(32, 32),
    sizes=((6, 1, 6), (6, 1, 6)),
)


def network(name: str) -> Backbone:
    return open_backbone(name, numerics=Numerics())


def attached(method: str, backbone: Backbone, **options: object) -> GradientMethod:
    """A fresh instance."""
    cls = method_class(method)[1]
    torch.manual_seed(0)
    made = cls(
        typed(method, "option", cls.Config, options), backbone, Context(INFO, Seeds("made", 0, method))
    )
    assert isinstance(made, GradientMethod)
    return made


def trained(method: GradientMethod) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in method.backbone.net.named_parameters() if p.requires_grad}


def step(method: GradientMethod, images: torch.Tensor) -> None:
    """One step of plain SGD along directions of the features, whose mean square a final norm may fix."""
    method.backbone.train()
    features = method.features(images)
    loss = (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))).sum()
    parameters = list(trained(method).values())
    for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.data -= 0.1 * slope


def test_all_of_them_are_found() -> None:
    family = [name for name in methods() if issubclass(method_class(name)[1], ParameterEfficient)]
    assert {*OURS, *PEFT, *MORE} <= set(family)
    summaries = [methods()[name].summary for name in (*OURS, *PEFT, *MORE)]
    assert all(summaries)
    assert len(set(summaries)) == len(summaries)


@cache
def base(depth: int) -> Backbone:
    """ViT-B/16 but for its depth and a smaller image."""
    return network(f"vit_base_patch16_224?depth={depth}&img_size=32&weights=random")


@pytest.mark.parametrize(
    ("method", "options", "count"),
    [
        ("lora", {"rank": "4"}, 147_456),
        ("lora", {"rank": "4", "targets": "qv"}, 147_456),
        ("rslora", {}, 147_456),
        ("dora", {}, 147_456 + 12 * 2304),
        ("adalora", {}, 12 * 6 * (768 + 2304 + 1)),  # before any is pruned
        ("adalora", {"initial_rank": "4"}, 147_456 + 12 * 4),
        ("loha", {}, 2 * 147_456),
        ("hra", {}, 12 * 768 * 8),
        ("ia3", {}, 12 * (2304 + 3072)),
        ("vera", {"rank": "256"}, 12 * (2304 + 256)),
        ("adamss", {}, 12 * (5 * 100 + 2304)),
        ("beft", {}, 12 * 2304),
        ("delora", {}, 147_456 + 12),
        ("gralora", {}, 147_456),
        ("hira", {}, 147_456),
        ("miss", {}, 12 * 4 * 2304),
        ("osf", {}, 12 * 384 * (2304 + 1 + 768)),
        ("psoft", {"rank": "32"}, 12 * (32 * 31 // 2 + 2 * 32)),
        ("randlora", {"rank": "32"}, 12 * 24 * (32 + 768)),
        ("shira", {}, 147_456),
        ("waveft", {}, 12_000),
        ("vpt_shallow", {"prompts": "100"}, 76_800),
        ("vpt_deep", {"prompts": "100"}, 921_600),
        ("adapter", {"rank": "8"}, 156_768),
        ("adapter", {"rank": "8", "placement": "houlsby"}, 2 * 156_768),
        ("adaptformer", {"rank": "64"}, 1_189_632),
        ("ssf", {}, 205_824),
        ("bitfit", {}, 102_912),
        ("ln_tuning", {}, 38_400),
    ],
)
def test_counts_on_vit_b16_are_the_papers(method: str, options: dict[str, Any], count: int) -> None:
    one, two = (attached(method, base(depth).copy(), **options) for depth in (1, 2))
    first, second = (sum(tensor.numel() for tensor in trained(found).values()) for found in (one, two))
    assert first + 11 * (second - first) == count
    if method == "vpt_deep":
        widest = max(float(tensor.abs().max()) for tensor in trained(two).values())
        assert 0.062 < widest <= 0.0625


NAMES = {
    "adapter": ("adapter.down.weight", "adapter.down.bias", "adapter.up.weight", "adapter.up.bias"),
    "adaptformer": ("adaptformer.down.weight", "adaptformer.down.bias", "adaptformer.up.weight", "up.bias"),
    "bitfit": ("bias",),
    "ln_tuning": ("norm.weight", "norm.bias", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"),
    "ssf": ("ssf.scale", "ssf.shift"),
    "vpt_deep": tuple(f"prompts.tensors.{index}" for index in range(4)),
    "vpt_shallow": ("prompts.tensors.0",),
    "lora": (".lora_A.default.weight", ".lora_B.default.weight"),
    "rslora": (".lora_A.default.weight", ".lora_B.default.weight"),
    "dora": (".lora_A.default.weight", ".lora_B.default.weight", ".lora_magnitude_vector.default.weight"),
    "adalora": (".lora_A.default", ".lora_B.default", ".lora_E.default"),
    "loha": tuple(f".hada_{factor}.default" for factor in ("w1_a", "w1_b", "w2_a", "w2_b")),
    "lokr": tuple(f".lokr_{factor}.default" for factor in ("w1", "w2", "w2_a", "w2_b")),
    "oft": (".oft_R.default.weight",),
    "boft": (".boft_R.default", ".boft_s.default"),
    "hra": (".hra_u.default",),
    "ia3": (".ia3_l.default",),
    "vera": (".vera_lambda_b.default", ".vera_lambda_d.default"),
    "adamss": tuple(f".adamss_{letter}.default.{number}" for letter in "AB" for number in range(5)),
    "beft": (".beft_bias.default",),
    "delora": tuple(f".delora_{factor}.default" for factor in ("A", "B", "lambda")),
    "gralora": (".gralora_A.default", ".gralora_B.default"),
    "hira": (".hira_A.default", ".hira_B.default"),
    "miss": (".miss_block.default",),
    "osf": tuple(f".osf_svd_params.default.{factor}_low" for factor in "USV"),
    "psoft": tuple(f".psoft_R.default.{tensor}" for tensor in ("weight", "vector_a", "vector_b")),
    "randlora": (".randlora_lambda.default", ".randlora_gamma.default"),
    "shira": (".shira_weight.default",),
    "waveft": (".waveft_spectrum.default",),
    "side": ("side.alpha", "weight", "bias"),
}


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_swin"])
@pytest.mark.parametrize("method", [*OURS, *PEFT, *MORE])
def test_what_trains_moves_and_nothing_else(method: str, name: str) -> None:
    plain = network(name)
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = plain(images)
    found = attached(method, plain.copy())
    found.backbone.eval()
    with torch.no_grad():
        same = not Rounding(partial(found.features, images)).unexplained(before)
    assert same == found.identity_at_init == (method not in NOT_PLAIN)
    assert all(parameter.endswith(NAMES[method]) for parameter in trained(found))

    start = {tensor: value.clone() for tensor, value in found.backbone.net.state_dict().items()}
    for _ in range(2):  # what stands before a factor of zero moves in the second step
        step(found, images)
    moved = {t for t, value in found.backbone.net.state_dict().items() if not torch.equal(value, start[t])}
    assert moved == set(trained(found))
    assert set(found.pack()) == set(trained(found)), "more is stored than what was trained"

    found.backbone.eval()
    with torch.no_grad():
        together = found.features(images)
        assert not torch.equal(together, before)
        alone = torch.cat([found.features(image[None]) for image in images])
        assert_same_to_rounding(partial(found.features, images), alone)


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_swin"])
def test_lora_on_queries_and_values_leaves_the_keys(name: str) -> None:
    plain = network(name)
    images = torch.randn(3, 3, 32, 32)
    found = attached("lora", plain.copy(), targets="qv", alpha="64")
    assert {parameter.rpartition("qkv.")[2][0] for parameter in trained(found)} == {"q", "v"}
    found.backbone.eval()
    with torch.no_grad():
        assert_same_to_rounding(partial(found.features, images), plain(images))
    for _ in range(2):
        step(found, images)
    before, after = plain.sites()[0].attention.qkv, found.backbone.sites()[0].attention.qkv
    tokens = torch.randn(5, before.in_features)
    pairs = zip(before(tokens).chunk(3, -1), after(tokens).chunk(3, -1), strict=True)
    changed = [not torch.allclose(a, b) for a, b in pairs]
    assert changed == [True, False, True]


@pytest.mark.parametrize("name", ["tiny_swin", "tiny_swin?img_size=40"])
def test_prompts_that_nobody_attends_to_leave_a_swin_as_it_is(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is left are timm's own windows, masks and shifts, also where windows do not divide the map.
    pad = torch.nn.functional.pad

    def far(x: torch.Tensor, by: tuple[int, ...]) -> torch.Tensor:
        if len(by) != 4:  # that of the map
            return pad(x, by)
        return pad(pad(x, (by[0], 0, 0, 0), value=-1e9), (0, 0, by[2], 0))

    net = network(name).net  # before the module that timm shares with us is patched
    monkeypatch.setattr(swin.F, "pad", far)
    size = 40 if "40" in name else 32
    x = expected = net.patch_embed(torch.randn(2, 3, size, size))
    with torch.no_grad():
        for stage in net.layers:
            x, expected = stage.downsample(x), stage.downsample(expected)
            for block in stage.blocks:
                x, _ = swin.prompted_block(block, x, torch.randn(2, 3, x.shape[-1]))
                monkeypatch.undo()
                expected = block(expected)
                monkeypatch.setattr(swin.F, "pad", far)
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["tiny_vit?drop_path_rate=0.5&proj_drop_rate=0.5", "tiny_swin?drop_path_rate=0.5"]
)
def test_a_frozen_network_drops_nothing_while_something_in_it_trains(name: str) -> None:
    images = torch.randn(8, 3, 32, 32)
    found = attached("lora", network(name))
    found.backbone.train()
    assert torch.equal(found.features(images), found.features(images))
    dropping = attached("lora", network(name), dropout="0.5")
    for _ in range(2):
        step(dropping, images)
    dropping.backbone.train()
    assert not torch.equal(dropping.features(images), dropping.features(images))
    full = attached("full_finetune", network(name))
    full.backbone.train()
    assert not torch.equal(full.features(images), full.features(images))


@pytest.mark.parametrize("method", ["bitfit", "ln_tuning", "ssf"])
def test_convnets_and_external_attention_are_plain_at_first(method: str) -> None:
    images = torch.randn(4, 3, 32, 32)
    for name in ("tiny_convnet", "tiny_external_attention"):
        plain = network(name)
        found = attached(method, plain.copy())
        found.backbone.eval()
        with torch.no_grad():
            assert_same_to_rounding(partial(found.features, images), plain(images))
        assert trained(found)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for method in (*PEFT, *MORE):
        cls = method_class(method)[1]
        assert pip_install("peft") in str(cls.supports(cls.Config(), INFO, describe("tiny_vit")))


@pytest.mark.parametrize("name", sorted(n for n in methods() if "lr" in method_class(n)[1].Config.search))
def test_what_is_searched_begins_with_the_rate_that_is_used_without_a_search(name: str) -> None:
    config = method_class(name)[1].Config
    assert config().lr in config.search["lr"]
    if issubclass(method_class(name)[1], ParameterEfficient):
        assert config().lr == config.search["lr"][0]


@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "vit_tiny_r_s16_p8_224", "resnetv2_50x1_bit"])
def test_ssf_scales_channels_whatever_the_layer_of_a_map_is_called(name: str) -> None:
    side = 224 if name.startswith("vit") else 32
    plain = network(f"{name}?img_size={side}&weights=random")
    images = torch.randn(2, 3, side, side)
    found = attached("ssf", plain.copy())
    found.backbone.eval()
    with torch.no_grad():
        assert_same_to_rounding(partial(found.features, images), plain.eval()(images))


def test_the_statistics_of_a_frozen_batchnorm_are_not_stored_for_what_is_inserted_in_it() -> None:
    found = attached("ssf", network("tiny_convnet"))
    step(found, torch.randn(4, 3, 32, 32))
    assert set(found.pack()) == set(trained(found))


def test_oft_rotates_however_far_it_has_gone() -> None:
    found = attached("oft", network("tiny_vit"), block_size="8")
    rotation = found.backbone.net.blocks[0].attn.qkv.oft_R["default"]
    with torch.no_grad():
        rotation.weight.normal_(std=0.5)
    turned = rotation.get_weight().detach()
    assert not torch.allclose(turned, torch.eye(len(turned)), atol=0.1)
    torch.testing.assert_close(turned.T @ turned, torch.eye(len(turned)))


@pytest.mark.parametrize(
    ("method", "scale"), [("boft", "boft_s"), ("randlora", "randlora_gamma"), ("ia3", "ia3_l")]
)
def test_scales_that_start_at_a_number_do_not_decay_towards_zero(method: str, scale: str) -> None:
    found = attached(method, network("tiny_vit"))
    decaying = {id(p) for group in found.groups() if group.weight_decay for p in group.parameters}
    scales = [p for name, p in trained(found).items() if scale in name]
    assert scales
    assert not decaying & {id(p) for p in scales}


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("boft", {"block_size": "5"}, "block_size=5 does not divide 32"),
        ("oft", {"block_size": "0"}, "block_size=0 is below 1"),
        ("psoft", {"rank": "64"}, "rank=64 is more than 32"),
        ("gralora", {"blocks": "0"}, "blocks=0"),
        ("adamss", {"subspaces": "0"}, "subspaces=0 is below 1"),
        ("waveft", {"coefficients": "0"}, "coefficients=0 is below 1"),
        ("lora", {"rank": "0"}, "rank=0"),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_anything_is_run(
    method: str, options: dict[str, str], said: str
) -> None:
    cls = method_class(method)[1]
    config = typed(method, "option", cls.Config, options)
    assert said in (cls.supports(config, INFO, describe("tiny_vit")) or "")
