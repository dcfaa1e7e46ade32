"""The training loop, shared by pretraining and all gradient-based methods.

All that is random in an epoch is drawn from seeds of (purpose, stage, epoch), so the state at the
end of an epoch is a function of the state at its start: a killed run continues from the last
journaled epoch and ends with the same bits as an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from backbones.muon import Muon
from backbones.numerics import Numerics
from benchmarks.progress import Progress


class TrainingError(RuntimeError):
    """Training cannot go on (the loss is not finite); names stage and step."""


class Journal(Protocol):
    """Where a long stage saves what it needs to resume."""

    def load(self, stage: str) -> dict[str, Tensor] | None:
        """What was last saved for `stage`, or None."""

    def due(self) -> bool:
        """Whether enough time has passed since the last save to pay for another."""

    def save(self, stage: str, tensors: dict[str, Tensor]) -> None:
        """Replace what is kept for `stage`, atomically."""


class NoJournal:
    """Keeps nothing: for scripts and tests."""

    def load(self, stage: str) -> dict[str, Tensor] | None:
        return None

    def due(self) -> bool:
        return False

    def save(self, stage: str, tensors: dict[str, Tensor]) -> None:
        pass


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with a learning rate and a weight decay of their own."""

    parameters: Sequence[nn.Parameter]
    lr: float
    weight_decay: float = 0.0
    matrices: bool = False  # Muon moves these by orthogonal steps


def groups_of(
    named: Iterable[tuple[str, nn.Parameter]], lr: float, weight_decay: float, spared: Collection[str] = ()
) -> list[ParameterGroup]:
    """The usual split: matrices decay, biases, norms and other vectors do not, nor do those named `spared`.

    Frozen ones are left out.
    """
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    matrices = [parameter for name, parameter in trained if parameter.ndim > 1 and name not in spared]
    vectors = [parameter for name, parameter in trained if parameter.ndim <= 1 or name in spared]
    kinds = (ParameterGroup(matrices, lr, weight_decay, matrices=True), ParameterGroup(vectors, lr))
    return [group for group in kinds if group.parameters]


Optimizer = Literal["adamw", "sgd", "muon"]
Schedule = Literal["cosine", "constant", "steps"]


@dataclass(frozen=True)
class Optimization:
    """How long and how parameters are moved.

    schedule: of the learning rates after a linear warm-up: a cosine to zero, constant, or a tenth after
    each of `milestones` (shares of the training); momentum: SGD's; clip_norm: the gradient's largest norm
    """

    epochs: int
    warmup_epochs: float = 0.0
    optimizer: Optimizer = "adamw"
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    momentum: float = 0.9
    clip_norm: float | None = None

    def rate(self, step: int, steps: int) -> float:
        """The learning rate's factor in (0, 1] at `step` of `steps`, both counted from 0."""
        warmup = min(steps - 1, round(self.warmup_epochs * steps / self.epochs))
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.schedule == "steps":
            return 0.1 ** sum(step >= share * steps for share in self.milestones)
        if self.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


class Held(Protocol):
    """What a training changes beside the parameters (statistics, a memory), of any shape, for its journal."""

    def held(self) -> dict[str, Tensor]:
        """All of it, by name."""

    def hold(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `held` gave."""


@dataclass(frozen=True)
class Fit:
    """The totals of a training run; `loss` is the mean over the last epoch's steps."""

    steps: int
    images: int
    seconds: float
    loss: float


Batch = tuple[Tensor, Tensor]
Epoch = Callable[[int], Iterator[Batch]]


def fit(
    loss_of: Callable[[Tensor, Tensor], Tensor],
    groups: Sequence[ParameterGroup],
    epoch_of: Epoch,
    steps_per_epoch: int,
    optimization: Optimization,
    *,
    numerics: Numerics,
    seed_of: Callable[[int], int],
    stage: str,
    journal: Journal,
    progress: Progress,
    held: Held | None = None,
    keep_end: bool = False,
    after_backward: Callable[[], None] = lambda: None,
    after_step: Callable[[int], None] = lambda step: None,
    after_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Fit:
    """Minimise `loss_of(x, y)` over the epochs of `epoch_of(epoch)`, which yields (x, y) batches.

    seed_of(epoch) seeds torch's global generator at the start of each epoch (dropout draws from it).
    held: what changes beside the parameters (BatchNorm's statistics, a moving average of the weights),
    journaled with them. keep_end: journal the end as well, so that what follows within one task need not be
    preceded by this training again. after_backward() is called between the gradients and the optimizer's
    step. after_step(step) and after_epoch(epoch, mean loss) are called with numbers from 1; what
    `after_epoch` leaves must be journaled by itself or be a function of the epoch.
    Raises TrainingError for a loss that is not finite, checked after every step on a CPU and after every
    `check` steps on an accelerator, where checking means waiting for it.
    """
    started = time.monotonic()
    total = steps_per_epoch * optimization.epochs
    optimizer = _optimizer(groups, optimization, numerics)
    parameters = [parameter for group in groups for parameter in group.parameters]
    first = _resume(journal.load(stage), optimizer, parameters, held)
    check = 1 if numerics.device == "cpu" else 20
    images, mean, step = 0, float("nan"), first * steps_per_epoch
    with progress.bar(stage, total, "step") as bar:
        bar.advance(step)
        for epoch in range(first, optimization.epochs):
            torch.manual_seed(seed_of(epoch))
            losses: list[Tensor] = []
            for x, y in epoch_of(epoch):
                factor = optimization.rate(step, total)
                for settings, group in zip(optimizer.param_groups, groups, strict=True):
                    settings["lr"] = group.lr * factor
                with numerics.autocast():
                    loss = loss_of(x, y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                after_backward()
                if optimization.clip_norm is not None:
                    nn.utils.clip_grad_norm_(parameters, optimization.clip_norm)
                optimizer.step()
                losses.append(loss.detach().float())
                images += len(x)
                step += 1
                after_step(step)
                if step % check == 0:
                    shown = _finite(losses[-check:], stage, step)
                    bar.advance(check, note=f"epoch {epoch + 1}/{optimization.epochs}  loss {shown:.3f}")
            mean = _finite(losses, stage, step)
            after_epoch(epoch + 1, mean)
            if keep_end if epoch + 1 == optimization.epochs else journal.due():
                journal.save(stage, _snapshot(optimizer, parameters, held, epoch + 1))
    return Fit(step, images, time.monotonic() - started, mean)


def _optimizer(
    groups: Sequence[ParameterGroup], optimization: Optimization, numerics: Numerics
) -> torch.optim.Optimizer:
    settings = [
        {
            "params": list(group.parameters),
            "lr": group.lr,
            "weight_decay": group.weight_decay,
            "matrices": group.matrices,
        }
        for group in groups
    ]
    if optimization.optimizer == "muon":
        return Muon(settings, lr=0.0, dtype=getattr(torch, numerics.dtype))
    if optimization.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=0.0, momentum=optimization.momentum)
    return torch.optim.AdamW(settings, lr=0.0, fused=True)


def _finite(losses: list[Tensor], stage: str, step: int) -> float:
    """The mean of `losses`, the last of which belongs to step `step` (from 1)."""
    values = torch.stack(losses)
    bad = torch.nonzero(~torch.isfinite(values))
    if len(bad):
        where = step - len(losses) + int(bad[0]) + 1
        raise TrainingError(
            f"the loss became {float(values[int(bad[0])])} at step {where} of {stage}; "
            "lower the learning rate"
        )
    return float(values.mean())


def _snapshot(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    held: Held | None,
    epoch: int,
) -> dict[str, Tensor]:
    tensors = {"epoch": torch.tensor(epoch)}
    tensors |= {f"held.{name}": tensor for name, tensor in (held.held() if held else {}).items()}
    for number, parameter in enumerate(parameters):
        tensors[f"parameter.{number}"] = parameter.detach()
        for name, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
    return tensors


def _resume(
    saved: dict[str, Tensor] | None,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    held: Held | None,
) -> int:
    """Put a snapshot back; returns the epoch to go on with."""
    if saved is None:
        return 0
    with torch.no_grad():
        for number, parameter in enumerate(parameters):
            parameter.copy_(saved[f"parameter.{number}"])
    if held is not None:
        held.hold({name.removeprefix("held."): t for name, t in saved.items() if name.startswith("held.")})
    for key, value in saved.items():
        if key.startswith("optimizer."):
            _, position, name = key.split(".", 2)
            parameter = parameters[int(position)]
            optimizer.state[parameter][name] = _like(parameter, value)
    return int(saved["epoch"])


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` where the parameter is, and laid out as it is: fused optimisers walk through both in memory."""
    if value.shape != parameter.shape:  # Adam's step counter
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
