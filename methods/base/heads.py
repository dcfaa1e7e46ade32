"""Linear heads for the three scenarios, in one place.

- task    one head per task; the task's identity picks it
- class   one head that grows by the classes of each new task; columns in the order learnt
- domain  one head, shared by all tasks
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.seeds import Seeds
from benchmarks.stream import StreamInfo


class Heads(nn.Module):
    """Heads over features (B, width); new weights are N(0, 0.02^2) from the method's own seed, biases 0."""

    def __init__(self, info: StreamInfo, width: int, seeds: Seeds) -> None:
        super().__init__()
        self.info = info
        self.width = width
        self._seeds = seeds
        self.linears = nn.ModuleDict()

    def _key(self, task_id: int | None) -> str:
        return "shared" if self.info.scenario == "domain" else str(task_id)

    def open(self, task_id: int, device: torch.device | str = "cpu") -> None:
        """Make what `task_id` needs; a head that is there stays as it is."""
        key = self._key(task_id)
        if key in self.linears:
            return
        # Drawn on the CPU, so that every device starts from the same bits.
        noise = torch.Generator().manual_seed(self._seeds.own("head", key))
        linear = nn.utils.skip_init(nn.Linear, self.width, len(self.info.classes[task_id]))
        with torch.no_grad():
            linear.weight.normal_(0.0, 0.02, generator=noise)
            linear.bias.zero_()
        self.linears[key] = linear.to(device)

    def linear(self, key: str) -> nn.Linear:
        """One of the linears, typed."""
        found = self.linears[key]
        assert isinstance(found, nn.Linear)
        return found

    def forward(self, features: Tensor, task_id: int | None) -> Tensor:
        """Logits (B, columns) of features (B, width)."""
        if self.info.scenario == "class":
            return torch.cat([linear(features) for linear in self.linears.values()], dim=1)
        return self.linears[self._key(task_id)](features)

    def trained_on(self, tasks: Sequence[int]) -> nn.ModuleDict:
        """The linears whose weights a training on `tasks` may change."""
        if self.info.scenario == "class":
            return self.linears
        return nn.ModuleDict({key: self.linears[key] for key in map(self._key, tasks)})

    def loss(self, features: Tensor, targets: Tensor, tasks: Sequence[int], smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy of features (B, width) against targets (B, 2), pairs of task id and label.

        tasks: the ids that occur. Task-incremental: each image among its own task's classes.
        Class-incremental: among all classes seen so far. Domain-incremental: among the shared ones.
        """
        if self.info.scenario != "task" or len(tasks) == 1:
            logits = self(features, tasks[0])
            return cross_entropy(logits, self._columns(targets), label_smoothing=smoothing)
        total = features.new_zeros(())
        for task_id in tasks:
            chosen = targets[:, 0] == task_id
            logits = self(features[chosen], task_id)
            labels = targets[chosen, 1]
            total = total + cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
        return total / len(features)

    def _columns(self, targets: Tensor) -> Tensor:
        if self.info.scenario != "class":
            return targets[:, 1]
        starts, width = torch.zeros(self.info.tasks, dtype=torch.int64), 0
        for key in self.linears:
            starts[int(key)] = width
            width += self.linear(key).out_features
        return targets[:, 1] + starts.to(targets.device)[targets[:, 0]]

    def state_of(self, task_id: int | None) -> dict[str, Tensor]:
        """The tensors that `forward(..., task_id)` reads."""
        if self.info.scenario == "task":
            key = self._key(task_id)
            return {f"{key}.{name}": tensor for name, tensor in self.linears[key].state_dict().items()}
        return self.linears.state_dict()

    def restore(
        self, state: dict[str, Tensor], learnt: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        """Take over `linears.state_dict()` of another instance that has learnt the tasks `learnt`."""
        self.linears = nn.ModuleDict()
        # Not in the order of `state`: a safetensors file gives its tensors in any order.
        for key in dict.fromkeys(map(self._key, learnt)):
            classes, width = state[f"{key}.weight"].shape
            self.linears[key] = nn.Linear(width, classes, device=device)
        self.linears.load_state_dict(state)
