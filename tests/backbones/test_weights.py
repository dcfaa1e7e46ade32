"""Weights come from safetensors only, fit exactly, and are named by their hash."""

from __future__ import annotations

import pickle
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from backbones.backbone import describe, open_backbone
from backbones.numerics import Numerics
from backbones.weights import hash_weights
from benchmarks.errors import DataError, RequestError

NUMERICS = Numerics()


@pytest.fixture
def state() -> dict[str, Tensor]:
    """The tensors of a tiny ViT, moved a little."""
    backbone = open_backbone("tiny_vit", numerics=NUMERICS)
    return {name: tensor + 0.25 for name, tensor in backbone.net.state_dict().items()}


def test_half_precision_is_loaded_as_float32_and_the_classifier_dropped(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    halves = {name: tensor.half() for name, tensor in state.items()}
    save_file(
        {**halves, "head.weight": torch.zeros(5, 32), "head.bias": torch.zeros(5)}, tmp_path / "w.safetensors"
    )
    backbone = open_backbone(f"tiny_vit?weights={tmp_path}/w.safetensors", numerics=NUMERICS)
    loaded = backbone.net.state_dict()
    assert loaded.keys() == halves.keys()
    for name, tensor in loaded.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, halves[name].float())
    assert backbone.identity.startswith("tiny_vit.local-")
    assert backbone.pristine


def test_a_swin_file_may_hold_what_swin_computes_itself(tmp_path: Path) -> None:
    net = open_backbone("tiny_swin", numerics=NUMERICS).net
    buffers = {name: tensor.clone() for name, tensor in net.named_buffers()}
    assert buffers
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    save_file({**buffers, **tensors, "head.fc.bias": torch.zeros(5)}, tmp_path / "w.safetensors")
    opened = open_backbone(f"tiny_swin?weights={tmp_path}/w.safetensors", numerics=NUMERICS)
    assert opened.weights == hash_weights(net)


def test_the_hash_sees_every_value_and_not_where_the_file_lies(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    hashes = []
    for name, change in (("a", 0.0), ("b", 0.0), ("c", 1e-6)):
        state["blocks.1.mlp.fc2.bias"] = state["blocks.1.mlp.fc2.bias"] + change
        save_file(state, tmp_path / f"{name}.safetensors")
        backbone = open_backbone(f"tiny_vit?weights={tmp_path}/{name}.safetensors", numerics=NUMERICS)
        hashes.append((backbone.weights, backbone.identity))
    assert hashes[0] == hashes[1] != hashes[2]


def refused(name: str) -> str:
    said = set()
    for door in (describe, lambda name: open_backbone(name, numerics=NUMERICS)):
        with pytest.raises(RequestError) as caught:
            door(name)
        said.add(str(caught.value))
    assert len(said) == 1  # validation says before a run what opening would say
    text = said.pop()
    assert "\n" not in text
    return text


def test_a_missing_file_is_named() -> None:
    assert "/nowhere/w.safetensors does not exist" in refused("tiny_vit?weights=/nowhere/w.safetensors")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(f"tiny_vit?weights={tmp_path}")


@pytest.mark.parametrize("suffix", ["pt", "bin", "safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_under_any_name(tmp_path: Path, suffix: str, zipped: bool) -> None:
    path = tmp_path / f"w.{suffix}"
    if zipped:
        torch.save({"a": torch.zeros(2)}, path)
    else:
        path.write_bytes(pickle.dumps({"a": [0.0] * 100}))
    said = refused(f"tiny_vit?weights={path}")
    assert "is a pickle" in said
    assert "can run any code" in said


def test_a_truncated_file_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "truncated" in refused(f"tiny_vit?weights={path}")


def test_every_fault_of_the_keys_is_named_and_counted(tmp_path: Path, state: dict[str, Tensor]) -> None:
    for name in list(state):
        if name.startswith("blocks.1."):
            del state[name]
    state["neck.weight"] = torch.zeros(2)
    state["norm.weight"] = torch.zeros(33)
    save_file(state, tmp_path / "w.safetensors")
    said = refused(f"tiny_vit?weights={tmp_path}/w.safetensors")
    assert "12 missing (blocks.1.norm1.weight, blocks.1.norm1.bias, blocks.1.attn.qkv.weight, ...)" in said
    assert "1 unexpected (neck.weight)" in said
    assert "1 of another shape (norm.weight (33,) for (32,))" in said


def test_values_that_are_not_finite_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["norm.bias"][3] = float("nan")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(RequestError, match=r"not finite, in norm\.bias"):
        open_backbone(f"tiny_vit?weights={tmp_path}/w.safetensors", numerics=NUMERICS)


def test_pretrained_weights_come_as_safetensors_and_fit_the_size_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = timm.create_model("test_vit.r160_in1k")
    save_file(plain.state_dict(), tmp_path / "model.safetensors")
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    backbone = open_backbone("test_vit.r160_in1k", numerics=NUMERICS)
    assert asked == [("timm/test_vit.r160_in1k", "model.safetensors")]
    assert backbone.identity == f"test_vit.r160_in1k-{backbone.weights[:12]}"
    for name, tensor in backbone.net.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name])
    smaller = open_backbone("test_vit.r160_in1k?img_size=64", numerics=NUMERICS)
    assert smaller.info.input_size == (64, 64)
    assert smaller.net.pos_embed.shape[1] < backbone.net.pos_embed.shape[1]
    assert torch.equal(smaller.net.blocks[0].attn.qkv.weight, plain.blocks[0].attn.qkv.weight)
    whole = (tmp_path / "model.safetensors").read_bytes()
    for name, content in (("test_vit.r160_in1k?embed_dim=32", whole), ("test_vit.r160_in1k", whole[:-9])):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(DataError, match="do not fit") as caught:
            open_backbone(name, numerics=NUMERICS)
        assert "\n" not in str(caught.value)


def test_an_unreachable_hub_is_said_honestly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError) as caught:
        open_backbone("test_vit.r160_in1k", numerics=NUMERICS)
    assert "timm/test_vit.r160_in1k cannot be fetched from the hub" in str(caught.value)
    assert "weights=PATH" in str(caught.value)
    assert "weights=random" in str(caught.value)
    assert describe("test_vit.r160_in1k").width == 64  # known without the hub


_SMALLER = "embed_dim=32&depth=2&num_heads=2"
_ARGUMENTS = {"embed_dim": 32, "depth": 2, "num_heads": 2}
VIT = f"vit_tiny_patch16_224?{_SMALLER}"


@pytest.fixture
def made() -> dict[str, Tensor]:
    """The tensors of a small ViT of timm's at 64 px, with a classifier, none of them zero."""
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10, **_ARGUMENTS)
    generator = torch.Generator().manual_seed(0)
    return {n: t + torch.randn(t.shape, generator=generator) for n, t in net.state_dict().items()}


def test_a_file_opens_as_the_hub_s_copy_of_it_does_at_another_size(
    tmp_path: Path, made: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(made, path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, file: str(path))
    hub = open_backbone(f"vit_tiny_patch16_224.augreg_in21k?img_size=32&{_SMALLER}", numerics=NUMERICS)
    local = open_backbone(f"{VIT}&img_size=32&weights={path}", numerics=NUMERICS)
    assert local.weights == hub.weights
    assert local.net.pos_embed.shape == (1, 5, 32)
    assert ".local-resampled-" in local.identity  # the file's own position codes are not what is used
    same = open_backbone(f"{VIT}&img_size=64&weights={path}", numerics=NUMERICS)
    assert ".local-" in same.identity
    assert "resampled" not in same.identity


@pytest.mark.parametrize(
    "name", ["swin_tiny_patch4_window7_224", "beit_base_patch16_224", "eva02_tiny_patch14_224"]
)
def test_other_families_are_fitted_to_another_size_too(tmp_path: Path, name: str) -> None:
    tiny = (
        "window_size=4&embed_dim=16&depths=2,2&num_heads=2,4"
        if name.startswith("swin")
        else "embed_dim=32&depth=1&num_heads=2"
    )
    side = 14 if "patch14" in name else 16
    large = open_backbone(f"{name}?img_size={side * 4}&{tiny}&weights=random", numerics=NUMERICS)
    save_file({f"module.{n}": t for n, t in large.net.state_dict().items()}, tmp_path / "w.safetensors")
    small = f"{name}?img_size={side * 2}&{tiny}&weights={tmp_path}/w.safetensors"
    described = describe(small)
    opened = open_backbone(small, numerics=NUMERICS)
    assert opened.info == described
    assert opened.info.input_size == (side * 2, side * 2)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "model.module.", "backbone."]
)
def test_a_prefix_that_all_names_have_is_taken_off(
    tmp_path: Path, made: dict[str, Tensor], prefix: str
) -> None:
    save_file(made, tmp_path / "plain.safetensors")
    save_file({prefix + n: t for n, t in made.items()}, tmp_path / "wrapped.safetensors")
    plain, wrapped = (
        open_backbone(f"{VIT}&img_size=64&weights={tmp_path}/{name}.safetensors", numerics=NUMERICS)
        for name in ("plain", "wrapped")
    )
    assert plain.weights == wrapped.weights


def test_two_networks_in_one_file_are_not_chosen_between(tmp_path: Path, made: dict[str, Tensor]) -> None:
    both = {f"{who}.{n}": t.clone() for who in ("student", "teacher") for n, t in made.items()}
    save_file(both, tmp_path / "w.safetensors")
    said = refused(f"{VIT}&img_size=64&weights={tmp_path}/w.safetensors")
    assert "entries of the network lie under student and teacher" in said
    assert "save those of one alone" in said


def test_a_file_of_a_deeper_network_is_refused(tmp_path: Path, made: dict[str, Tensor]) -> None:
    deeper = made | {n.replace("blocks.0", "blocks.7"): t for n, t in made.items() if "blocks.0" in n}
    save_file({n: t.clone() for n, t in deeper.items()}, tmp_path / "w.safetensors")
    assert "12 unexpected (blocks.7." in refused(f"{VIT}&img_size=64&weights={tmp_path}/w.safetensors")
