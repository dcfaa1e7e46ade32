"""Networks of other families than those with a name of their own: a few methods keep their promises there.

One method each in the quick tests, by what is special of the family; each kind of insertion in the slow ones.
The rest of the contract's matrix is in test_contract.py, on the families with a name of their own.
"""

from __future__ import annotations

import contract_lab as lab
import contract_promises as contract
import pytest
import torch
from contract_lab import Case
from family_members import MEMBERS, random

from backbones.backbone import describe

# What is inserted meets what is special: rotary codes and registers, split queries, a gated MLP, relative
# positions, stages whose width changes within a block, an attention pool.
QUICK = (
    ("vpt_deep", "DINOv3"),
    ("lora", "EVA-02 split"),
    ("bitfit", "BEiT"),
    ("adapter", "Hiera"),
    ("ssf", "Swin V2"),
    ("meat", "SigLIP"),
)
INSERTING = ("vpt_deep", "lora", "adapter", "ssf")
FAMILIES = ("DINOv3 plus", "DINOv2 registers", "EVA", "EVA-CLIP", "CLIP", "AIMv2", "Hiera", "Swin V2")
SPECIAL = ("BEiT", "EVA-02 split", "DINOv3", "AIMv2", "Hiera", "Swin V2")
PEFT = {"all": ("lora", {"targets": "all"}), "qv": ("lora", {"targets": "qv"}), "ia3": ("ia3", {})}


def case(method: str, family: str, **options: object) -> Case:
    return Case(method, random(family), "task", tuple(options.items()))


@pytest.mark.parametrize(("method", "family"), QUICK)
def test_a_method_keeps_its_promises_on_another_family(method: str, family: str) -> None:
    contract.hold(case(method, family))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", INSERTING)
def test_what_is_inserted_keeps_its_promises_on_every_family(method: str, family: str) -> None:
    tried = case(method, family)
    if tried.refusal is None:
        contract.hold(tried)
    else:
        assert "lacks that" in tried.refusal


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[] if name in SPECIAL else [pytest.mark.slow])
        for name in MEMBERS
        if name not in ("parallel", "ConvNeXt", "ResNet")
    ],
)
@pytest.mark.parametrize("method", ["adapter", "bitfit", "ln_tuning", "ssf", "vpt_deep", *PEFT])
def test_all_that_trains_is_reached_by_the_loss(method: str, family: str) -> None:
    """A layer whose weight is read and which is never called would leave its update without a gradient."""
    name, options = PEFT.get(method, (method, {}))
    tried = case(name, family, **options)
    if tried.refusal is not None:
        assert "lacks that" in tried.refusal
        return
    made = lab.make(tried)
    made.backbone.train()
    shown = torch.randn(3, 3, *made.backbone.info.input_size, generator=torch.Generator().manual_seed(0))
    made.features(shown).square().sum().backward()
    trains = {n: p for n, p in made.backbone.net.named_parameters() if p.requires_grad}
    assert trains
    idle = {n for n, p in trains.items() if p.grad is None}
    assert not idle


def test_a_refusal_names_what_is_missing() -> None:
    refused = {
        ("vpt_deep", "BEiT"): "takes further tokens",
        ("meat", "DINOv3"): "timm's Attention over one sequence",
        ("meat", "DINOv2 giant"): "an MLP of two Linears",
        ("toast", "EVA"): "stages that run one by one",
        ("adapter", "parallel"): "an MLP that takes and returns tokens",
        ("lora", "ResNet"): "Linears that make queries, keys and values",
    }
    for (method, family), said in refused.items():
        reason = case(method, family).refusal
        assert reason is not None
        assert said in reason
        assert describe(random(family)).name in reason


def test_a_rotary_network_leaves_prompts_without_codes() -> None:
    """With prompts that nothing reads, every other token is what it was: codes stay with their patches."""
    made = lab.make(case("vpt_deep", "DINOv3", prompts=3, dropout=0.0))
    plain = lab.backbone(random("DINOv3"))
    before, after = (net.sites()[0].attention.num_prefix_tokens for net in (plain, made.backbone))
    assert after == before + 3
    images = torch.randn(2, 3, *plain.info.input_size, generator=torch.Generator().manual_seed(0))
    seen: dict[str, torch.Tensor] = {}
    for key, net in (("plain", plain), ("prompted", made.backbone)):
        net.sites()[0].attention.q_norm.register_forward_hook(
            lambda m, given, out, key=key: seen.setdefault(key, given[0])
        )
        with torch.no_grad():
            net(images)
    kept = [*range(before), *range(after, seen["prompted"].shape[2])]
    torch.testing.assert_close(seen["prompted"][:, :, kept], seen["plain"])
