"""Heads for the three scenarios.

- task    one head per task; the task id selects it
- class   one head that grows by the classes of each new task, columns in the order learnt; a class that
          returns keeps its column
- domain  one head, shared by all tasks

linear    W f + b
cosine    s <W, f> / (|W| |f|), its scale s learnt unless it is said to be fixed; no bias
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, log_softmax, normalize

from benchmarks.seeds import Seeds
from benchmarks.stream import StreamInfo

Columns = Literal["own", "seen"]
HeadKind = Literal["linear", "cosine"]
SCALE = 10.0  # of a cosine head at the start


@dataclass(frozen=True)
class Logits:
    """Logits (B, K) of a training step.

    columns: (B,) where each image's label is; allowed: (B, K), which columns the loss of an image looks at;
    None: all.
    """

    values: Tensor
    columns: Tensor
    allowed: Tensor | None = None

    def cross_entropy(self, smoothing: float = 0.0) -> Tensor:
        """The mean over images of the cross-entropy among each one's allowed columns."""
        if self.allowed is None:
            return cross_entropy(self.values, self.columns, label_smoothing=smoothing)
        found = log_softmax(self.values.masked_fill(~self.allowed, -torch.inf), dim=1)
        loss = -found.gather(1, self.columns[:, None]).squeeze(1)
        if smoothing:
            even = -found.masked_fill(~self.allowed, 0.0).sum(1) / self.allowed.sum(1)
            loss = (1 - smoothing) * loss + smoothing * even
        return loss.mean()


class Heads(nn.Module):
    """Heads over features (B, width).

    New weights are N(0, 0.02^2) from a seed that every method shares, biases 0. In class-incremental streams
    `columns` says what the loss of an image is among: the classes of its own task, which alone train then, or
    all classes seen. scale: of a cosine head; learn_scale: whether it trains.
    """

    def __init__(
        self,
        info: StreamInfo,
        width: int,
        seeds: Seeds,
        *,
        kind: HeadKind = "linear",
        columns: Columns = "seen",
        scale: float = SCALE,
        learn_scale: bool = True,
    ) -> None:
        super().__init__()
        self.info = info
        self.width = width
        self.kind = kind
        self.columns = columns
        self._seeds = seeds
        self._classes: dict[str, tuple[int, ...]] = {}  # global ids of the columns of each linear
        self._order: list[int] = []  # of the classes that have a column, as they came
        self.linears = nn.ModuleDict()
        self.scale = nn.Parameter(torch.tensor(scale), requires_grad=kind == "cosine" and learn_scale)

    def _key(self, task_id: int | None) -> str:
        return "shared" if self.info.scenario == "domain" else str(task_id)

    def open(self, task_id: int, device: torch.device | str = "cpu") -> None:
        """Make what `task_id` needs; existing parts stay unchanged."""
        if self.scale.device != torch.device(device):
            self.scale = nn.Parameter(self.scale.detach().to(device), self.scale.requires_grad)
        key, classes = self._key(task_id), self.info.classes[task_id]
        if self.info.scenario == "class":
            self._part(classes)
            classes = tuple(cls for cls in classes if cls not in self._order)
        if not classes or key in self.linears:
            return
        # Drawn on the CPU, so that every device starts from the same bits.
        noise = torch.Generator().manual_seed(self._seeds.shared("head", key))
        made = nn.utils.skip_init(nn.Linear, self.width, len(classes), bias=self.kind == "linear")
        with torch.no_grad():
            made.weight.normal_(0.0, 0.02, generator=noise)
            if made.bias is not None:
                made.bias.zero_()
        self._classes[key] = classes
        self._order += classes
        self.linears[key] = made.to(device)

    def _part(self, classes: Sequence[int]) -> None:
        """Move returning classes among `classes` to a linear of their own, so that they can train alone."""
        for key, known in list(self._classes.items()):
            back = [place for place, cls in enumerate(known) if cls in classes]
            if not back or len(back) == len(known):
                continue
            rest = [place for place in range(len(known)) if place not in back]
            old = self.linear(key)
            for name, places in ((key, rest), (f"{key}-{len(self.linears)}", back)):
                self.linears[name] = _rows(old, places)
                self._classes[name] = tuple(known[place] for place in places)

    def linear(self, key: str) -> nn.Linear:
        """One of the linears, typed."""
        found = self.linears[key]
        assert isinstance(found, nn.Linear)
        return found

    def _logits(self, key: str, features: Tensor) -> Tensor:
        found = self.linear(key)
        if self.kind == "linear":
            return found(features)
        return self.scale * linear(normalize(features, dim=1), normalize(found.weight, dim=1))

    def forward(self, features: Tensor, task_id: int | None) -> Tensor:
        """Logits (B, columns) of features (B, width): the task's classes, or all seen in the order learnt."""
        if self.info.scenario != "class":
            return self._logits(self._key(task_id), features)
        found = torch.cat([self._logits(key, features) for key in self.linears], dim=1)
        side_by_side = [cls for key in self.linears for cls in self._classes[key]]
        if side_by_side == self._order:
            return found
        # Classes that came back moved to a linear of their own; the columns stay where they were.
        return found[:, [side_by_side.index(cls) for cls in self._order]]

    def logits(self, features: Tensor, targets: Tensor, tasks: Sequence[int]) -> Logits:
        """For a training step: features (B, width), targets (B, 2), pairs of task id and label.

        tasks: the ids that may occur. Task-incremental: an image is among the classes of its own task.
        Class-incremental: as `columns` says. Domain-incremental: among the shared ones.
        """
        scenario = self.info.scenario
        if scenario == "domain" or (scenario == "task" and len(tasks) == 1):
            return Logits(self(features, tasks[0]), targets[:, 1])
        if scenario == "task":
            known = list(tasks)
            values = torch.cat([self(features, task) for task in known], dim=1)
            sizes = {task: len(self.info.classes[task]) for task in known}
            starts, width = torch.zeros(self.info.tasks, dtype=torch.int64), 0
            allowed = torch.zeros(self.info.tasks, values.shape[1], dtype=torch.bool)
            for task in known:
                starts[task] = width
                allowed[task, width : width + sizes[task]] = True
                width += sizes[task]
            own = targets[:, 0]
            columns = targets[:, 1] + starts.to(targets.device)[own]
            return Logits(values, columns, allowed.to(targets.device)[own])
        place = {cls: number for number, cls in enumerate(self._order)}
        table = torch.zeros(self.info.tasks, max(map(len, self.info.classes)), dtype=torch.int64)
        for task in tasks:
            for label, cls in enumerate(self.info.classes[task]):
                table[task, label] = place[cls]
        columns = table.to(targets.device)[targets[:, 0], targets[:, 1]]
        values = self(features, None)
        if self.columns == "seen":
            return Logits(values, columns)
        allowed = torch.zeros(self.info.tasks, values.shape[1], dtype=torch.bool)
        for task in tasks:
            allowed[task, [place[cls] for cls in self.info.classes[task]]] = True
        return Logits(values, columns, allowed.to(targets.device)[targets[:, 0]])

    def loss(self, features: Tensor, targets: Tensor, tasks: Sequence[int], smoothing: float = 0.0) -> Tensor:
        """The mean cross-entropy of `logits`."""
        return self.logits(features, targets, tasks).cross_entropy(smoothing)

    def trained_on(self, tasks: Sequence[int]) -> nn.ModuleDict:
        """The linears whose weights a training on `tasks` may change."""
        if self.info.scenario == "class":
            if self.columns == "seen":
                return self.linears
            classes = {cls for task in tasks for cls in self.info.classes[task]}
            own = [key for key, known in self._classes.items() if classes & set(known)]
        else:
            own = [self._key(task) for task in tasks]
        return nn.ModuleDict({key: self.linears[key] for key in own})

    def trained(self, tasks: Sequence[int]) -> dict[str, nn.Parameter]:
        """The parameters that a training on `tasks` changes, by name."""
        named = dict(self.trained_on(tasks).named_parameters())
        return named | ({"scale": self.scale} if self.scale.requires_grad else {})

    def stored(self) -> dict[str, Tensor]:
        """Every tensor of the heads, for `restore`."""
        return self.linears.state_dict() | ({"scale": self.scale.data} if self.kind == "cosine" else {})

    def state_of(self, task_id: int | None) -> dict[str, Tensor]:
        """The tensors that `forward(..., task_id)` reads."""
        if self.info.scenario != "task":
            return self.stored()
        key = self._key(task_id)
        named = {f"{key}.{name}": tensor for name, tensor in self.linears[key].state_dict().items()}
        return named | ({"scale": self.scale.data} if self.kind == "cosine" else {})

    @torch.no_grad()
    def restore(
        self, state: dict[str, Tensor], learnt: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        """Restore what `stored` returned for an instance that learnt the tasks `learnt`."""
        self.linears, self._classes, self._order = nn.ModuleDict(), {}, []
        for task in learnt:  # not in the order of `state`: a safetensors file gives its tensors in any order
            self.open(task, device)
        for name, tensor in self.stored().items():
            tensor.copy_(state[name])


def _rows(old: nn.Linear, places: Sequence[int]) -> nn.Linear:
    """A linear of some rows of another."""
    chosen = torch.tensor(places, device=old.weight.device)
    made = nn.utils.skip_init(nn.Linear, old.in_features, len(places), bias=old.bias is not None)
    made = made.to(old.weight.device)
    with torch.no_grad():
        made.weight.copy_(old.weight[chosen])
        if made.bias is not None:
            made.bias.copy_(old.bias[chosen])
    return made
