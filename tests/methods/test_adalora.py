"""AdaLoRA's allocation of ranks: the paper's equations, its phases, and that a killed training loses none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import contract_lab as lab
import pytest
import torch
from contract_lab import Case
from torch import Tensor, nn

from backbones.backbone import describe
from methods.adalora import AdaLoRA, Allocation, Layer, budget

LAYERS = {"tiny_vit": 2, "tiny_swin": 4}
# Four epochs of two steps: pruned after each of the first four, fixed in the last four.
LIVELY = {"epochs": 4, "interval": 1, "lr": 0.01}


def made(backbone: str = "tiny_vit", scenario: str = "task", **options: object) -> AdaLoRA:
    method = lab.make(Case("adalora", backbone, scenario, tuple((LIVELY | options).items())))
    assert isinstance(method, AdaLoRA)
    return method


def task(number: int) -> Any:
    return lab.opened("task")[0][number]


def lambdas(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for name, tensor in tensors.items() if ".lora_E." in name])


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


# The equations


def test_the_budget_is_everything_then_falls_with_the_cube_and_ends_at_the_target() -> None:
    found = [budget(step, first=10, last=60, start=72, target=48) for step in range(1, 101)]
    assert found[:10] == [72] * 10  # to t_i, where the cube is still 1
    assert found[10] < 72
    assert found[34] == 48 + 24 // 8  # halfway
    assert found[58:] == [48] * 42  # from T - t_f
    assert found == sorted(found, reverse=True)


def test_a_budget_without_time_or_reason_to_fall() -> None:
    assert [budget(step, 5, 5, 9, 6) for step in (4, 5, 6)] == [9, 6, 6]
    assert [budget(step, 0, 4, 6, 6) for step in range(1, 7)] == [6] * 6
    assert budget(1, 0, 1, 9, 6) == 6


def layers_of(shapes: Sequence[tuple[int, int, int]]) -> list[Layer]:
    """Layers of shapes (out, r, in)."""
    sizes = [((rows, r), (r, 1), (r, columns)) for rows, r, columns in shapes]
    return [Layer(*(nn.Parameter(torch.empty(size)) for size in of_layer)) for of_layer in sizes]


def test_scores_are_those_of_equations_7_to_11() -> None:
    beta1, beta2 = 0.85, 0.7
    layers = layers_of([(5, 2, 3), (2, 3, 4)])
    allocation = Allocation(layers, beta1, beta2)
    smooth: dict[tuple[int, str, int, int], float] = {}
    unsure: dict[tuple[int, str, int, int], float] = {}
    draw = torch.Generator().manual_seed(0)
    for _ in range(3):
        for k, layer in enumerate(layers):
            for name, weight in zip(("P", "Lambda", "Q"), layer.weights, strict=True):
                weight.data = torch.randn(weight.shape, generator=draw)
                weight.grad = torch.randn(weight.shape, generator=draw)
                for row in range(weight.shape[0]):
                    for column in range(weight.shape[1]):
                        at = k, name, row, column
                        felt = abs(weight[row, column].item() * weight.grad[row, column].item())
                        smooth[at] = beta1 * smooth.get(at, 0.0) + (1 - beta1) * felt
                        unsure[at] = beta2 * unsure.get(at, 0.0) + (1 - beta2) * abs(felt - smooth[at])
        allocation.observe()
    expected = []
    for k, layer in enumerate(layers):
        (rows, rank), columns = layer.P.shape, layer.Q.shape[1]
        s = {at: smooth[at] * unsure[at] for at in smooth}
        expected += [
            s[k, "Lambda", i, 0]
            + sum(s[k, "P", j, i] for j in range(rows)) / rows
            + sum(s[k, "Q", i, j] for j in range(columns)) / columns
            for i in range(rank)
        ]
    torch.testing.assert_close(allocation.scores(), torch.tensor(expected))

    before = torch.cat([layer.Lambda.detach().flatten() for layer in layers])
    allocation.choose(3)
    allocation.prune()
    best = sorted(range(5), key=lambda i: -expected[i])[:3]
    after = torch.cat([layer.Lambda.detach().flatten() for layer in layers])
    assert after.tolist() == [before[i].item() if i in best else 0.0 for i in range(5)]
    assert sum(allocation.ranks()) == 3


def test_of_equal_triplets_those_of_the_earlier_layer_are_kept() -> None:
    allocation = Allocation(layers_of([(5, 2, 3), (2, 3, 4)]), 0.85, 0.85)
    allocation.choose(3)
    assert allocation.kept.tolist() == [True, True, True, False, False]


# The phases, led by hand: what the loss feels of each lambda is `felt`, and nothing of P and Q.


def lead(method: AdaLoRA, felt: Tensor, step: int, steps: int) -> Tensor:
    """Every lambda trained to 1 by step `step`; the lambdas after the hook."""
    places = iter(felt.split([len(layer.Lambda) for layer in method._layers]))
    for layer in method._layers:
        for weight in layer.weights:
            weight.grad = torch.zeros_like(weight)
        layer.Lambda.data.fill_(1.0)
        layer.Lambda.grad = next(places)[:, None].clone()
    method.allocate(step, steps)
    return lambdas(method.backbone.changing()).detach().clone()


def test_a_pruned_triplet_comes_back_before_the_final_phase_and_not_in_it() -> None:
    method = made(rank=2, initial_rank=3, warmup=0.0, final=0.5)
    felt = torch.ones(6)
    felt[4] = 0.0
    assert lead(method, felt, 1, 20).tolist() == [1, 1, 1, 1, 0, 1]
    felt[4] = 10.0
    found = lead(method, felt, 2, 20)
    assert found[4] == 1
    for step in range(3, 11):
        found = lead(method, felt, step, 20)
        assert found[4] == 1
    assert found.sum() == 4
    for step in range(11, 21):
        assert torch.equal(lead(method, 1000 * (1 - found), step, 20), found)


def test_between_two_choices_pruned_triplets_train() -> None:
    method = made(rank=1, initial_rank=2, warmup=0.2, final=0.5, interval=3)
    felt = torch.tensor([1.0, 2.0, 3.0, 4.0])
    kept = [int(lead(method, felt, step, 20).sum()) for step in range(1, 21)]
    # t_i is 4 and T - t_f is 10; chosen at 3, 6, 9 and 10.
    assert kept[:5] == [4] * 5
    assert kept[5] == budget(6, 4, 10, 4, 2) == 2
    assert kept[6:8] == [4, 4]
    assert kept[8:] == [2] * 12


def test_ranks_move_to_the_layer_that_the_loss_feels() -> None:
    method = made(rank=4, final=0.2)
    felt = torch.tensor([1.0] * 6 + [5.0] * 6)
    for step in range(1, 11):
        found = lead(method, felt, step, 10)
    assert found.tolist() == [1, 1, 0, 0, 0, 0, *[1] * 6]
    assert method.observations() == {"triplets": 8, "rank_min": 2, "rank_max": 6}


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize(("warmup", "final"), [(0.0, 0.99), (0.99, 0.0), (0.15, 0.5)])
def test_the_shortest_training_ends_at_the_target(steps: int, warmup: float, final: float) -> None:
    method = made(rank=1, warmup=warmup, final=final, interval=10)
    for step in range(1, steps + 1):
        found = lead(method, torch.rand(4), step, steps)
    assert found.sum() == 2


# A training


@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_swin"])
@pytest.mark.parametrize("per_task", ["true", "false"])
def test_a_training_ends_with_exactly_the_target(backbone: str, per_task: str) -> None:
    method = made(backbone, rank=3, per_task=per_task)
    assert not lambdas(method.backbone.changing()).any()
    for number in (0, 1):
        method.learn(task(number))
        found = lambdas(method.packs[number] if per_task == "true" else method.backbone.changing())
        assert len(found) == 5 * LAYERS[backbone]
        assert (found != 0).sum() == method.observations()["triplets"] == 3 * LAYERS[backbone]


def test_the_hook_is_told_each_step_while_gradients_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int, bool]] = []

    def watched(self: AdaLoRA, step: int, steps: int) -> None:
        told.append((step, steps, all(w.grad is not None for layer in self._layers for w in layer.weights)))

    monkeypatch.setattr(AdaLoRA, "allocate", watched)
    made().learn(task(0))
    assert told == [(step, 8, True) for step in range(1, 9)]


def test_a_task_starts_anew_where_each_has_its_own() -> None:
    method, fresh = made(), made()
    method.learn(task(0))
    method.learn(task(1))
    fresh.learn(task(1))
    assert same(method.packs[1], fresh.packs[1])


def test_what_the_choice_rests_on_is_not_stored() -> None:
    method = made()
    method.learn(task(0))
    trained = sum(parameter.numel() for layer in method._layers for parameter in layer.weights)
    cost = method.footprint()
    assert cost.trainable == sum(tensor.numel() for tensor in method.pack().values()) == trained
    assert cost.stored_bits == 32 * (trained + cost.head)


class Dying:
    """A journal in memory; the process dies once it has saved the epoch `last`."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.kept: dict[str, dict[str, Tensor]] = {}

    def load(self, stage: str) -> dict[str, Tensor] | None:
        return self.kept.get(stage)

    def due(self) -> bool:
        return True

    def save(self, stage: str, tensors: dict[str, Tensor]) -> None:
        self.kept[stage] = {name: tensor.clone() for name, tensor in tensors.items()}
        if int(tensors["epoch"]) == self.last:
            raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize(
    ("backbone", "scenario", "per_task"),
    [("tiny_vit", "task", "true"), ("tiny_vit", "class", "false"), ("tiny_swin", "task", "false")],
)
def test_killed_after_an_epoch_it_ends_with_the_same_bits(
    epoch: int, backbone: str, scenario: str, per_task: str
) -> None:
    options = {"per_task": per_task, "rank": 3, "warmup": 0.0, "final": 0.4}
    calm = made(backbone, scenario, **options)
    calm.learn(task(0))
    journal = Dying(epoch)
    killed = made(backbone, scenario, **options)
    killed.context = replace(killed.context, journal=journal)
    with pytest.raises(KeyboardInterrupt):
        killed.learn(task(0))
    resumed = made(backbone, scenario, **options)
    journal.last = 0
    resumed.context = replace(resumed.context, journal=journal)
    resumed.learn(task(0))
    assert same(resumed.state(), calm.state())
    assert resumed.observations() == calm.observations()
    assert same(resumed.held(), calm.held())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 4, "initial_rank": 3}, "initial_rank=3 is below rank=4"),
        ({"beta1": 1.0}, "beta1=1"),
        ({"beta2": -0.1}, "beta2=-0.1"),
        ({"warmup": 0.5, "final": 0.5}, "warmup=0.5, final=0.5"),
        ({"warmup": -0.1}, "warmup=-0.1"),
        ({"interval": 0}, "interval=0"),
        ({"rank": 0}, "rank=0"),
    ],
)
def test_what_cannot_be_pruned_is_refused_with_a_reason(options: dict[str, object], said: str) -> None:
    case = Case("adalora", "tiny_vit", "task", tuple(options.items()))
    assert said in str(AdaLoRA.supports(case.config, lab.stream("task").info, describe("tiny_vit")))
