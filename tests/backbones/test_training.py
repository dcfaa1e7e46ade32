"""The training loop: its schedule, its errors, and that a killed one ends with the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from backbones.numerics import Numerics
from backbones.training import Batch, Fit, NoJournal, Optimization, TrainingError, fit, groups_of
from benchmarks.progress import Bar, Silent

EPOCHS, STEPS = 4, 3


class Kept:
    """A journal in memory: due after every epoch, and copying, as a disk does."""

    def __init__(self, due: bool = True) -> None:
        self.stages: dict[str, dict[str, Tensor]] = {}
        self.saved = 0
        self._due = due

    def load(self, stage: str) -> dict[str, Tensor] | None:
        found = self.stages.get(stage)
        return None if found is None else {name: tensor.clone() for name, tensor in found.items()}

    def due(self) -> bool:
        return self._due

    def save(self, stage: str, tensors: dict[str, Tensor]) -> None:
        self.saved += 1
        self.stages[stage] = {name: tensor.detach().clone() for name, tensor in tensors.items()}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 3))


def epoch_of(epoch: int) -> Iterator[Batch]:
    draw = torch.Generator().manual_seed(epoch)
    for _ in range(STEPS):
        yield torch.randn(5, 6, generator=draw), torch.randint(0, 3, (5,), generator=draw)


def train(
    model: nn.Module,
    journal: object = None,
    *,
    stage: str = "task 0",
    loss_of: Callable[[Tensor, Tensor], Tensor] | None = None,
    batches: Callable[[int], Iterator[Batch]] = epoch_of,
    progress: object = None,
    **recipe: object,
) -> Fit:
    return fit(
        loss_of or (lambda x, y: nn.functional.cross_entropy(model(x), y)),
        groups_of(model.named_parameters(), 0.05, 0.1),
        batches,
        STEPS,
        Optimization(**{"epochs": EPOCHS, "warmup_epochs": 0.5, **recipe}),
        numerics=Numerics(),
        seed_of=lambda epoch: 100 + epoch,
        stage=stage,
        journal=journal or NoJournal(),
        progress=progress or Silent(),
    )


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("killed_at", range(1, EPOCHS * STEPS + 1))
def test_killed_at_any_step_it_ends_with_the_same_bits(optimizer: str, killed_at: int) -> None:
    undisturbed = net()
    whole = train(undisturbed, optimizer=optimizer)
    model, journal, steps = net(), Kept(), 0

    def dying(x: Tensor, y: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == killed_at:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(model(x), y)

    with pytest.raises(KeyboardInterrupt):
        train(model, journal, loss_of=dying, optimizer=optimizer)
    assert journal.saved == (killed_at - 1) // STEPS
    again = net()  # a new process starts from the same initial tensors
    torch.randn(7)  # and from any random state
    resumed = train(again, journal, optimizer=optimizer)
    assert same(again, undisturbed)
    assert (resumed.steps, resumed.loss) == (whole.steps, whole.loss)


def test_dropout_is_drawn_from_the_epochs_seed_alone() -> None:
    first, second = net(), net()
    train(first)
    torch.randn(99)
    train(second)
    assert same(first, second)


def test_a_journal_of_another_stage_is_not_taken() -> None:
    journal = Kept()
    train(net(), journal, stage="task 1")
    fresh, plain = net(), net()
    train(fresh, journal, stage="task 10")
    train(plain)
    assert same(fresh, plain)


def test_nothing_is_saved_before_it_is_due_or_after_the_last_epoch() -> None:
    rare, often = Kept(due=False), Kept()
    train(net(), rare)
    train(net(), often)
    assert (rare.saved, often.saved) == (0, EPOCHS - 1)


def test_the_schedule_is_a_warm_up_and_a_cosine_to_zero() -> None:
    recipe = Optimization(epochs=10, warmup_epochs=1)
    rates = [recipe.rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("warmup", [0, 0.5, 1, 5])
def test_every_step_of_any_schedule_moves(steps: int, warmup: float) -> None:
    recipe = Optimization(epochs=2, warmup_epochs=warmup)
    assert all(0 < recipe.rate(step, steps) <= 1 for step in range(steps))


def test_the_optimiser_gets_the_groups_rates_times_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *arguments: object) -> object:
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    model, recipe = net(), Optimization(EPOCHS, 0.5)
    train(model)
    total = EPOCHS * STEPS
    assert seen == [[pytest.approx(0.05 * recipe.rate(s, total))] * 2 for s in range(total)]


def test_matrices_decay_and_vectors_do_not_and_frozen_ones_do_not_train() -> None:
    model = net()
    model[0].weight.requires_grad_(False)
    decayed, plain = groups_of(model.named_parameters(), 0.1, 0.5)
    assert (decayed.weight_decay, plain.weight_decay) == (0.5, 0.0)
    assert [p.ndim for p in decayed.parameters] == [2]
    assert [p.ndim for p in plain.parameters] == [1, 1]
    assert {group.lr for group in (decayed, plain)} == {0.1}
    assert groups_of([], 0.1, 0.5) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [1, 5, 12])
def test_a_loss_that_is_not_finite_names_stage_and_step(bad: float, at: int) -> None:
    model, steps = net(), 0

    def breaking(x: Tensor, y: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        loss = nn.functional.cross_entropy(model(x), y)
        return loss * bad if steps == at else loss

    with pytest.raises(
        TrainingError, match=rf"the loss became {bad} at step {at} of task 3; lower the learning rate"
    ):
        train(model, loss_of=breaking, stage="task 3")
    assert steps == at


def test_a_network_that_turned_nan_is_never_journaled() -> None:
    model, journal, steps = net(), Kept(), 0

    def breaking(x: Tensor, y: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        return nn.functional.cross_entropy(model(x), y) * (float("nan") if steps >= STEPS else 1)

    with pytest.raises(TrainingError):
        train(model, journal, loss_of=breaking)
    assert journal.saved == 0


def test_clipping_bounds_the_gradient() -> None:
    model = net()
    train(model, clip_norm=1e-3)
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert norm <= 1.001e-3


def test_it_learns_and_reports_what_it_did() -> None:
    model = net()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(3))
    y = torch.tensor([0, 1, 2, 0, 1])
    ran = train(model, batches=lambda epoch: iter([(x, y)] * STEPS), epochs=40)
    assert (ran.steps, ran.images) == (120, 600)
    assert ran.loss < 0.7 < math.log(3)
    assert ran.seconds > 0


def test_progress_counts_every_step_once_also_after_a_resume() -> None:
    class Counting(Silent):
        def __init__(self) -> None:
            super().__init__()
            self.total, self.done, self.notes = 0, 0, []

        @contextmanager
        def bar(self, title: str, total: int, unit: str = "") -> Iterator[Bar]:
            self.total = total
            yield self  # type: ignore[misc]

        def advance(self, amount: int = 1, note: str = "") -> None:
            self.done += amount
            self.notes.append(note)

    journal = Kept()
    train(net(), journal)
    for kept in (NoJournal(), journal):
        counting = Counting()
        train(net(), kept, progress=counting)
        assert counting.done == counting.total == EPOCHS * STEPS
        assert counting.notes[-1].startswith(f"epoch {EPOCHS}/{EPOCHS}  loss ")
