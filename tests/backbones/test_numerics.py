"""What a run computes with is decided once per machine and said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from backbones import numerics
from backbones.backbone import open_backbone
from backbones.numerics import Numerics, choose, measure_fused, physical_cores
from benchmarks.errors import RequestError
from benchmarks.store import Store


@pytest.fixture(autouse=True)
def _threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("seconds", "fused"), [((1.0, 1.0), True), ((1.1, 1.0), True), ((1.2, 1.0), False), ((0.5, 1.0), True)]
)
def test_the_default_is_left_only_for_a_clear_gain(
    seconds: tuple[float, float], fused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, "measure_fused", lambda choice: seconds)
    assert choose("cpu", Store(tmp_path), threads=1).fused_training is fused


def test_it_is_measured_once_and_then_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def measure(choice: Numerics) -> tuple[float, float]:
        calls.append(choice.threads)
        return (2.0, 1.0) if len(calls) == 1 else (1.0, 2.0)

    monkeypatch.setattr(numerics, "measure_fused", measure)
    store = Store(tmp_path)
    assert choose("cpu", store, threads=1) == choose("cpu", store, threads=1)
    assert calls == [1]
    choose("cpu", store, threads=2)  # another thread count is another question
    assert calls == [1, 2]
    kept = [json.loads(path.read_text()) for path in tmp_path.rglob("attention.json")]
    assert [answer["fused"] for answer in kept if answer["question"][2] == 1] == [False]


def test_measuring_takes_positive_time_and_leaves_the_random_state_and_threads(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    before = torch.get_rng_state()
    assert min(measure_fused(Numerics())) > 0
    choose("cpu", Store(tmp_path), threads=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2


def test_without_a_store_nothing_is_measured() -> None:
    assert choose("cpu").fused_training is None
    assert "not measured" in choose("cpu").describe()


def test_threads_are_fixed_and_set_when_a_backbone_opens() -> None:
    assert 1 <= choose("cpu").threads == min(physical_cores(), 8)
    for threads in (2, 1):
        open_backbone("tiny_vit", numerics=Numerics(threads=threads))
        assert torch.get_num_threads() == threads


def test_bfloat16_on_a_cpu_only_where_it_has_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, dtype in (
        ({"avx2": True}, "float32"),
        ({"avx512_f": True, "avx512_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert choose("cpu").dtype == dtype


def test_bfloat16_still_gives_float32_features() -> None:
    exact, rounded = (
        open_backbone("tiny_vit", numerics=Numerics(dtype=dtype)) for dtype in ("float32", "bfloat16")
    )
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = exact(images), rounded(images)
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_swin"])
def test_the_same_input_gives_the_same_bits(name: str) -> None:
    backbone = open_backbone(name, numerics=Numerics())
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def step() -> list[torch.Tensor]:
        backbone.net.zero_grad()
        out = backbone(images)
        out.square().sum().backward()
        return [out, *(parameter.grad.clone() for parameter in backbone.net.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(step(), step(), strict=True))


@pytest.mark.parametrize(
    ("device", "said"), [("tpu", "neither cpu, cuda"), ("cuda:x", "neither cpu"), ("cuda:99", "is not there")]
)
def test_a_device_that_is_not_there_is_refused(device: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        choose(device)
    with pytest.raises(RequestError, match="at least 1"):
        choose("cpu", threads=0)


def test_the_choice_is_said_in_one_line() -> None:
    said = Numerics("cpu", "float32", 2, False, "AMD EPYC, AVX2").describe()
    assert said == "cpu (AMD EPYC, AVX2), float32, 2 threads, training attention unfused (measured)"
