"""The interface of a method, for continual, few-shot and transfer protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from backbones.backbone import Backbone, BackboneInfo
from backbones.training import Journal, NoJournal
from benchmarks.images import Chunk, Inputs, Pixels
from benchmarks.progress import Progress, Silent
from benchmarks.seeds import Seeds
from benchmarks.stream import Pool, StreamInfo, Task


@dataclass(frozen=True)
class Context:
    """What the harness gives to a method beside the backbone.

    tables: the image tables of the tasks handed over so far, by content fingerprint, so that a
    method that keeps exemplars can store which rows they are and find their pixels again.
    """

    info: StreamInfo
    seeds: Seeds
    progress: Progress = field(default_factory=Silent)
    journal: Journal = field(default_factory=NoJournal)
    tables: Mapping[str, Pixels] = field(default_factory=dict)
    eval_batch: int = 256
    workers: int = 2

    def recall(self, chunks: Sequence[tuple[str, np.ndarray]]) -> Inputs:
        """The images at (content fingerprint, rows) of each pair."""
        return Inputs([Chunk(self.tables[content], rows, content) for content, rows in chunks])


@dataclass(frozen=True)
class Footprint:
    """The cost of keeping a method.

    trainable: parameters that train on one task, heads excluded; head: parameters of the heads
    that train on one task; stored_bits: everything kept beside the frozen backbone after the tasks
    learnt so far; exemplars: images kept.
    """

    trainable: int
    head: int
    stored_bits: int
    exemplars: int = 0


@dataclass(frozen=True)
class Preparation:
    """digest: sha256 of the tensors that the first task starts from; said: what they are, in words."""

    digest: str
    said: str


class Method(ABC):
    """A method: learns tasks one after another and predicts.

    Subclasses set `name`, declare a frozen dataclass `Config` with a default for every option and a
    `search` space, and may set `reference` (a row that every table should have). One whose preparation can
    be kept in a file says by which option it is read again (`file_option`), and which options it fits only
    as they were (`file_needs`). `per_task` says that what predicts a task is stored for it alone, so that
    nothing is forgotten where the task of an image is known.

    The backbone is the method's own copy; it may change it. Logits are float32 on the CPU. Their
    columns are the task's classes when the task is known, otherwise all classes seen so far in the
    order learnt (`columns`). `predict` changes nothing that `state` holds. `passes` is how many of its
    task's images the last `learn` was trained with, counted anew in every pass, `replayed` how many exemplars
    beside them; a search's budget bounds the former.
    """

    name: ClassVar[str]
    reference: ClassVar[bool] = False
    file_option: ClassVar[str] = ""
    file_needs: ClassVar[tuple[str, ...]] = ()
    per_task: bool = False  # a class says it, or an instance before `__init__` of the class that reads it
    passes: int = 0
    replayed: int = 0

    @dataclass(frozen=True)
    class Config:
        """search: what is tried of each option where options are searched for, its own value first."""

        search: ClassVar[Mapping[str, Sequence[Any]]] = {}

        def space(self) -> Mapping[str, Sequence[Any]]:
            """What of `search` is tried with these options."""
            return self.search

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        """The reason if this method cannot run with `config` on that stream and backbone, otherwise None."""
        return None

    @classmethod
    def files(cls, config: Any, backbone: Backbone) -> tuple[Path, ...]:
        """Files that a result depends on, such as a trained head; their contents enter the key."""
        return ()

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        self.config = config
        self.backbone = backbone
        self.context = context
        self.learnt: list[int] = []  # ids of the tasks learnt, in order

    def prepare(self, pool: Pool | None) -> None:
        """Meta-training or pre-tuning on the stream's pool, before the first task; nothing by default.

        Every fresh instance is prepared (in few-shot streams one for each episode), so what takes time is
        made once and kept in the backbone's store.
        """
        return

    @abstractmethod
    def learn(self, task: Task) -> None:
        """Learn `task` from its train part; ends with its id appended to `learnt`."""

    @abstractmethod
    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        """Logits (N, columns) of `inputs`; `task_id` is given in task-incremental streams only."""

    def preparation(self) -> Preparation | None:
        """What `prepare` made or read, for the record; None if it did neither."""
        return None

    def export(self, pool: Pool, folder: Path, *, stream: str, terms: str, commit: str) -> Path:
        """Write what `prepare(pool)` has just made, and its card; returns the file (`file_option`).

        RequestError where nothing was made: it was read from a file, say.
        """
        raise NotImplementedError(f"{self.name} has a file_option and no export")

    def score_episodes(self, episodes: Sequence[tuple[Task, Inputs]]) -> list[Tensor] | None:
        """Logits (Q, N) of each episode's queries, learnt from its task (id 0, N classes) alone.

        None, the default, where every episode needs a fresh instance that learns and predicts. Nothing of
        one episode may be left in another or in `state`.
        """
        return None

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything learnt, as tensors that safetensors can hold; `learnt` under its own name."""

    @abstractmethod
    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore a `state()`, in a fresh instance with an equal config, backbone and context."""

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        """The part of the state on which `predict(..., task_id)` depends; all of it by default.

        While it is unchanged the harness may reuse an evaluation.
        """
        return self.state()

    @abstractmethod
    def footprint(self) -> Footprint:
        """The cost of keeping this method."""

    def observations(self) -> dict[str, float]:
        """Numbers about the last task for the record, such as a keep ratio; none by default."""
        return {}

    def columns(self) -> tuple[int, ...]:
        """Global ids of the classes seen so far, in the order learnt."""
        seen = dict.fromkeys(c for task in self.learnt for c in self.context.info.classes[task])
        return tuple(seen)


def episode_features(
    backbone: Backbone, episodes: Sequence[tuple[Task, Inputs]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (S, C) of the support and (Q, C) of the queries of each episode, read in one go."""
    parts = [part for task, queries in episodes for part in (task.train.inputs, queries)]
    features = iter(backbone.features(Inputs.join(parts)).split([len(part) for part in parts]))
    return zip(features, features, strict=True)


def stored_bits(tensors: Mapping[str, Tensor]) -> int:
    """The bits that the tensors take on disk."""
    return sum(tensor.numel() * tensor.element_size() * 8 for tensor in tensors.values())


def learnt_tensor(learnt: Sequence[int]) -> Tensor:
    """`learnt` as a tensor for the state."""
    return torch.tensor(learnt, dtype=torch.int64)


def below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of `state` whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
