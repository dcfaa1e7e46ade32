"""What a training of a task is made of: its stages, and what each of their steps knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from backbones.training import Batch, ParameterGroup
from benchmarks.images import Indices, Labelled
from methods.base.heads import Logits

Parts = Sequence[tuple[int, Labelled]]


@dataclass(frozen=True)
class Stage:
    """One training of a task, of which there may be several, each journaled under its own name.

    parts, groups, loss, epochs: the method's own unless said otherwise; batches: (features, targets) of an
    epoch, with `steps` in each, in place of images, for a training of the heads alone.
    """

    name: str = ""
    parts: Parts | None = None
    groups: Sequence[ParameterGroup] | None = None
    loss: Callable[[Step], Tensor] | None = None
    epochs: int | None = None
    batches: Callable[[int], Iterator[Batch]] | None = None
    steps: int = 1


@dataclass(eq=False)
class Step:
    """The data of one training step, passed to the hooks.

    images: (B, 3, S, S), prepared and augmented, None where features are trained on; targets: (B, 2), pairs
    of task id and label; positions: (new,), where the new images, which come first, are among all that are
    trained on; the rest were drawn from the memory. epoch from 0; number from 1, of `total` in this stage.
    features: (B, C) and logits, once they are computed.
    """

    images: Tensor | None
    targets: Tensor
    positions: Indices
    epoch: int
    number: int
    total: int
    features: Tensor = field(init=False)
    logits: Logits = field(init=False)

    @property
    def tasks(self) -> Tensor:
        """(B,) the task of each image."""
        return self.targets[:, 0]

    @property
    def labels(self) -> Tensor:
        """(B,) the label of each image, a position in the classes of its task."""
        return self.targets[:, 1]

    @property
    def new(self) -> int:
        """How many images are new."""
        return len(self.positions)
