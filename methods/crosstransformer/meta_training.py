"""Meta-training: one episode for each update, Adam on a normalised gradient.

    g  <- g + 2 * 8.86e-5 w          for W_K, W_V and every convolution's kernel
    g  <- g / sqrt(max(sum g^2, 1e-5))     over all parameters; normalised, not clipped
    Adam with the rate lr * decay^(update // decay_every), no weight decay of its own

Every 500 updates the episodes of the validation classes are scored, and the best weights are kept; without
such classes, the last. Every random number of an update is seeded by the number of the update, so a killed
run continues from its journal and ends with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from backbones.training import Journal, TrainingError
from benchmarks.progress import Progress
from methods.crosstransformer.episodes import Episodes
from methods.crosstransformer.head import CrossHead

STAGE = "meta-training"
L2 = 8.86e-5
LEAST = 1e-5  # of the squared norm that a gradient is divided by
VALIDATE_EVERY = 500
VALIDATION_EPISODES = 50


@dataclass(frozen=True)
class Schedule:
    """updates: how many; the rate is `lr`, times `decay` after every `decay_every` updates."""

    updates: int
    lr: float
    decay: float
    decay_every: int

    def rate(self, update: int) -> float:
        """The learning rate at `update`, counted from 0."""
        return self.lr * self.decay ** (update // self.decay_every)


@dataclass(frozen=True)
class MetaTrained:
    """best: the update (from 1) whose weights were kept; accuracy: mean over validation episodes then, None
    without any; most_support: images of the largest support trained on; loss: mean of the last updates."""

    updates: int
    best: int
    accuracy: float | None
    most_support: int
    loss: float


def meta_train(
    head: CrossHead, episodes: Episodes, schedule: Schedule, journal: Journal, progress: Progress
) -> MetaTrained:
    """Train `head` and what `episodes` lets train, in place; TrainingError for a loss that is not finite."""
    parameters = [*head.parameters(), *episodes.parameters]
    decayed = [head.key.weight, head.value.weight, *episodes.kernels]
    optimizer = torch.optim.Adam(parameters, lr=schedule.lr)
    changing = [*parameters, *episodes.buffers]
    run = _Run(changing, optimizer, parameters)
    run.resume(journal.load(STAGE))
    with progress.bar(STAGE, schedule.updates, "update") as bar:
        bar.advance(run.update)
        while run.update < schedule.updates:
            maps = episodes.training(run.update)
            run.most_support = max(run.most_support, len(maps.labels))
            logits = head(maps.support, maps.labels, maps.query, maps.classes, "chunked")
            loss = cross_entropy(logits, maps.answers)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            normalise(parameters, decayed)
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(run.update)
            optimizer.step()
            run.update += 1
            run.recent = [*run.recent[-99:], float(loss.detach())]
            if not math.isfinite(run.recent[-1]):
                raise TrainingError(
                    f"the loss became {run.recent[-1]} at update {run.update} of {STAGE}; "
                    "a lower learning rate is the usual way out"
                )
            last = run.update == schedule.updates
            if last or run.update % VALIDATE_EVERY == 0:
                run.choose(validate(head, episodes))
            said = "" if math.isnan(run.accuracy) else f"  best {run.accuracy:.1%}"
            bar.advance(note=f"loss {run.loss:.3f}{said}")
            if not last and journal.due():
                journal.save(STAGE, run.snapshot())
    run.put_back()
    return MetaTrained(
        run.update,
        run.best_update,
        None if math.isnan(run.accuracy) else run.accuracy,
        run.most_support,
        run.loss,
    )


def normalise(parameters: Sequence[nn.Parameter], decayed: Sequence[nn.Parameter]) -> None:
    """Add the l2 term's gradient to those of `decayed`, then divide all gradients by their common norm."""
    for weight in decayed:
        if weight.grad is not None:
            weight.grad.add_(weight.detach(), alpha=2 * L2)
    gradients = [p.grad for p in parameters if p.grad is not None]
    squared = torch.stack([g.float().square().sum() for g in gradients]).sum()
    factor = squared.clamp_min(LEAST).rsqrt()
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.dtype))


@torch.no_grad()
def validate(head: CrossHead, episodes: Episodes) -> float:
    """Mean accuracy over the validation episodes; NaN where there are none."""
    found = []
    for number in range(VALIDATION_EPISODES):
        maps = episodes.validation(number)
        if maps is None:
            return math.nan
        logits = head(maps.support, maps.labels, maps.query, maps.classes, "chunked")
        found.append(float((logits.argmax(1) == maps.answers).float().mean()))
    return sum(found) / len(found)


class _Run:
    """What a killed run needs to continue."""

    def __init__(
        self,
        changing: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
    ) -> None:
        self.update, self.most_support = 0, 0
        self.best_update, self.accuracy = 0, math.nan
        self._changing, self._optimizer, self._parameters = changing, optimizer, parameters
        self.recent: list[float] = []  # losses
        self._best: list[Tensor] | None = None

    @property
    def loss(self) -> float:
        return sum(self.recent) / len(self.recent) if self.recent else math.nan

    def choose(self, accuracy: float) -> None:
        """Keep the present weights if they are the best so far; without an accuracy, the last are."""
        if math.isnan(accuracy) or self._best is None or accuracy > self.accuracy:
            self.best_update, self.accuracy = self.update, accuracy
            self._best = [tensor.detach().clone() for tensor in self._changing]

    @torch.no_grad()
    def put_back(self) -> None:
        """The best weights into the network."""
        for tensor, best in zip(self._changing, self._best or (), strict=False):
            tensor.copy_(best)

    def snapshot(self) -> dict[str, Tensor]:
        tensors = {
            "counts": torch.tensor([self.update, self.best_update, self.most_support]),
            "accuracy": torch.tensor(self.accuracy, dtype=torch.float64),
            "recent": torch.tensor(self.recent, dtype=torch.float64),
        }
        tensors |= {f"now.{n}": tensor.detach().clone() for n, tensor in enumerate(self._changing)}
        tensors |= {f"best.{n}": tensor for n, tensor in enumerate(self._best or ())}
        for number, parameter in enumerate(self._parameters):
            for name, value in self._optimizer.state[parameter].items():
                tensors[f"adam.{number}.{name}"] = value.clone()
        return tensors

    @torch.no_grad()
    def resume(self, saved: dict[str, Tensor] | None) -> None:
        if saved is None:
            return
        self.update, self.best_update, self.most_support = saved["counts"].tolist()
        self.accuracy, self.recent = float(saved["accuracy"]), saved["recent"].tolist()
        for number, tensor in enumerate(self._changing):
            tensor.copy_(saved[f"now.{number}"])
        if "best.0" in saved:
            self._best = [saved[f"best.{n}"].to(t.device) for n, t in enumerate(self._changing)]
        for key, value in saved.items():
            if key.startswith("adam."):
                _, position, name = key.split(".")
                parameter = self._parameters[int(position)]
                place = "cpu" if name == "step" else parameter.device  # where Adam keeps its counter
                self._optimizer.state[parameter][name] = value.clone().to(place)
