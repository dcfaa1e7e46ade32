"""CrossTransformers (Doersch, Gupta & Zisserman, NeurIPS 2020), meta-trained with SimCLR episodes.

A query is compared with a class position by position: attention over all token maps of the class's support
images builds, for every position of the query, a prototype of its own, and the logit is minus the mean
squared distance of the query's values to them (`head`). W_K and W_V are all that there is to train, or,
with mode=full, the backbone as well. `prepare` takes the head that ships for the backbone, or meta-trains one
on the stream's pool, once for a network, a pool and these options; nothing trains on a task.

The paper meta-trains a ResNet-34 for weeks; a frozen ViT, Swin or ConvNet with cached token maps is this
project's extension, for which no numbers are published.

Runs in every scenario: the support of a task answers for its classes where the task is known, and
otherwise the supports of all tasks for all classes, each with all of its images.

Stored: the head (with mode=full the network too); for each task the token maps of its support in float32,
and their labels. At most `max_support` images of a task are kept, as maps, not as images.

- `head`           the equations
- `episodes`       what an episode is to meta-training; which are converted (SimCLR), and into what
- `augmentation`   the views
- `views`          cached maps, and a bank of cached views (mode=frozen)
- `network`        episodes through the backbone (mode=full), and whose moments its BatchNorms take
- `meta_training`  the loop
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from backbones.backbone import Backbone, BackboneInfo
from benchmarks.errors import RequestError
from benchmarks.images import Indices, Inputs
from benchmarks.seeds import derive, generator
from benchmarks.stream import Pool, StreamInfo, Task
from methods.base import Context, Footprint, Method
from methods.base.card import PreparedCard, Setting
from methods.base.method import below, learnt_tensor, stored_bits
from methods.base.prepared import PreparedMethod
from methods.crosstransformer.head import CrossHead, Norm, Projected
from methods.crosstransformer.meta_training import Schedule, meta_train
from methods.crosstransformer.network import NetworkEpisodes
from methods.crosstransformer.views import FrozenEpisodes

NET, HEAD = "net.", "head."
SEED = 0  # of meta-training, whatever the cell's seed: it is made once
ON_CPU, ON_ACCELERATOR = 2_000, 100_000  # updates
SIMCLR = 0.5  # the share of converted episodes that needs no word in a file's name


class CrossTransformer(PreparedMethod):
    name = "crosstransformer"
    file_option = "head"
    file_needs = "d_k", "d_v", "norm", "scale", "mode"
    shipped = Path(__file__).parent / "head_files"
    untrained = "random"
    warning = "the head was not trained at all"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """
        d_k: width of keys and queries
        d_v: width of values
        norm: of every token before W_K and W_V: "none" (the paper), "layer" or "l2"
        scale: whether the logits have a learnt factor (the paper: no)
        updates: of meta-training, an episode each; 0: 100,000 on an accelerator, 2,000 on a CPU
        simclr: share of training episodes that are converted; 0: none
        lr: Adam's learning rate in meta-training
        decay: factor on the rate after every `decay_every` updates
        decay_every: 0: a fiftieth of the updates, as in the paper without SimCLR episodes (with them: a
            hundredth, over four times as many)
        views: cached views of an image in the bank, of each kind (mode=frozen)
        bank_images: images of the pool in the bank; 0: all
        mode: "frozen" (cached token maps) or "full" (the backbone trains too)
        head: "" (the one that ships for the backbone and these options, else one trained on the pool),
            "train", the path of a .safetensors file, or "random", which is not trained at all
        max_support: the most images of a task that are kept, spread over its classes; 0: all. Episodes of
            Meta-Dataset have at most 500
        """

        d_k: int = 128
        d_v: int = 128
        norm: Norm = "none"
        scale: bool = False
        updates: int = 0
        simclr: float = SIMCLR
        lr: float = 6e-4
        decay: float = 0.915
        decay_every: int = 0
        views: int = 4
        bank_images: int = 2_000
        mode: Literal["frozen", "full"] = "frozen"
        head: str = ""
        max_support: int = 500
        search: ClassVar[Mapping[str, Sequence[Any]]] = {}

    config: Config

    @classmethod
    def supports(cls, config: Config, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        least = {"d_k": 1, "d_v": 1, "updates": 0, "decay_every": 0, "views": 1, "max_support": 0}
        for name, value in least.items():
            if getattr(config, name) < value:
                return f"{name}={getattr(config, name)} must be at least {value}"
        if not 0 <= config.simclr <= 1:
            return f"simclr={config.simclr} is a share of the episodes, from 0 to 1"
        if config.bank_images < 2 and config.bank_images != 0:
            return f"bank_images={config.bank_images} must be at least 2, or 0 for all images of the pool"
        for name in ("lr", "decay"):
            if not getattr(config, name) > 0:
                return f"{name}={getattr(config, name)} must be above 0"
        # A few-shot stream names the classes of a source; those of an episode are counted as it is learnt.
        most = 0 if info.episodes else max(map(len, info.classes), default=0)
        if 0 < config.max_support < most:
            return (
                f"max_support={config.max_support} is fewer than the {most} classes of a task; take 0 for all"
            )
        return None

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        backbone.freeze()
        options = config.d_k, config.d_v, config.norm, config.scale
        self.head = CrossHead(backbone.info.width, *options).to(backbone.device).requires_grad_(False)
        self.head.reset(torch.Generator().manual_seed(derive("crosstransformer head", SEED)))
        self._maps: dict[int, Tensor] = {}
        self._labels: dict[int, Tensor] = {}  # global class ids
        self._projected: tuple[int | None, Projected, Tensor] | None = None  # of what was predicted last

    # Preparing.

    @classmethod
    def ships(cls, config: Any, backbone: Backbone, card: PreparedCard) -> bool:
        """Where all that shapes meta-training, SimCLR's share aside, is the default."""
        plain = cls.Config(simclr=config.simclr, max_support=config.max_support)
        same = config == plain and card.settings["simclr"] == config.simclr
        return same and super().ships(config, backbone, card)

    def schedule(self) -> Schedule:
        """Of meta-training."""
        config = self.config
        updates = config.updates or (ON_CPU if self.backbone.device.type == "cpu" else ON_ACCELERATOR)
        return Schedule(updates, config.lr, config.decay, config.decay_every or max(1, updates // 50))

    def key_parts(self, pool: Pool) -> tuple[object, ...]:
        validation = "" if pool.validation is None else pool.validation.fingerprint
        return validation, replace(self.config, head="", max_support=0, updates=self.schedule().updates), SEED

    def train_on(self, pool: Pool) -> tuple[str, dict[str, Setting]]:
        config, backbone, context, schedule = self.config, self.backbone, self.context, self.schedule()
        self.head.requires_grad_(True)
        bank = 0
        try:
            if config.mode == "full":
                backbone.freeze(except_=lambda name: True)
                network = NetworkEpisodes(backbone, pool, SEED, config.simclr)
                found = meta_train(self.head, network, schedule, context.journal, context.progress)
            else:
                options = config.simclr, config.views, config.bank_images
                frozen = FrozenEpisodes(backbone, pool, SEED, *options, context.progress)
                bank = 0 if frozen.bank is None else len(frozen.bank.positions)
                found = meta_train(self.head, frozen, schedule, context.journal, context.progress)
        finally:
            self.head.requires_grad_(False)
            backbone.freeze()
            backbone.eval()
        said = f"supports of at most {found.most_support} images"
        if config.simclr:
            views = f" from {bank:,} images x {2 * config.views} views" if bank else ""
            said = f"{config.simclr:.0%} SimCLR episodes{views}, {said}"
        drawn = {"simclr": config.simclr, "bank_images": bank, "views": config.views if bank else 0}
        settings = asdict(schedule) | {"seed": SEED} | drawn | asdict(found)
        return f"head meta-trained with {found.updates:,} updates ({said})", settings

    def file_ending(self) -> str:
        return "" if self.config.simclr == SIMCLR else f".simclr-{self.config.simclr:g}"

    def trained(self) -> dict[str, Tensor]:
        """All that meta-training changes, on the CPU: the head, and with mode=full the network."""
        tensors = {HEAD + name: tensor for name, tensor in self.head.state_dict().items()}
        if self.config.mode == "full":
            tensors |= {NET + name: tensor for name, tensor in self.backbone.net.state_dict().items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def take(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `trained` gave; it is read by name, so a whole state serves as well."""
        self.head.load_state_dict(below(HEAD, tensors))
        if self.config.mode == "full":
            self.backbone.net.load_state_dict(below(NET, tensors))

    # Tasks.

    def learn(self, task: Task) -> None:
        chosen = self._support(task)
        inputs = task.train.inputs.select(chosen)
        self._maps[task.id] = self.backbone.tokens(inputs, progress=self.context.progress)
        self._labels[task.id] = torch.tensor(task.classes)[torch.from_numpy(task.train.labels[chosen])]
        self._projected = None
        self.passes = len(chosen)
        self.learnt.append(task.id)

    def _support(self, task: Task) -> Indices:
        """Positions of the images of a task that are kept, in order; RequestError for a class without any."""
        labels, most = task.train.labels, self.config.max_support
        if most == 0 or len(labels) <= most:
            return np.arange(len(labels))
        if most < len(task.classes):
            raise RequestError(
                f"max_support={most} is fewer than the {len(task.classes)} classes of an episode; "
                "take max_support=0 for all of its images"
            )
        # By what is drawn from, and not by task or stream: an episode is task 0, and one that is learnt
        # alone has a stream of its own, so that only its images are the same in a batch.
        rng = generator("support", self.context.seeds.seed, task.train.inputs.fingerprint)
        shuffled = rng.permutation(len(labels))
        shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
        counts = np.bincount(labels, minlength=len(task.classes))
        rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(shuffled[np.argsort(rank, kind="stable")][:most])

    @torch.no_grad()
    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        classes = self.columns() if task_id is None else self.context.info.classes[task_id]
        if self._projected is None or self._projected[0] != task_id:
            tasks = self.learnt if task_id is None else [task_id]
            maps = torch.cat([self._maps[task] for task in tasks])
            column = {cls: number for number, cls in enumerate(classes)}
            labels = torch.cat([self._labels[task] for task in tasks]).tolist()
            places = torch.tensor([column[cls] for cls in labels])
            self._projected = task_id, self._project(maps), places.to(self.backbone.device)
        _, support, labelled = self._projected
        maps = self.backbone.tokens(inputs, progress=self.context.progress)
        return self._logits(support, labelled, maps, len(classes))

    @torch.no_grad()
    def score_episodes(self, episodes: Sequence[tuple[Task, Inputs]]) -> list[Tensor]:
        scored = []
        for task, queries in episodes:
            chosen = self._support(task)
            support = self._project(self.backbone.tokens(task.train.inputs.select(chosen)))
            labels = torch.from_numpy(task.train.labels[chosen]).to(self.backbone.device)
            scored.append(self._logits(support, labels, self.backbone.tokens(queries), len(task.classes)))
        return scored

    def _project(self, maps: Tensor) -> Projected:
        """A few images at a time: maps are wide, and may lie in a file."""
        few = [
            self.head.project(part.to(self.backbone.device)) for part in maps.split(self.context.eval_batch)
        ]
        return Projected(torch.cat([p.keys for p in few]), torch.cat([p.values for p in few]))

    def _logits(self, support: Projected, labels: Tensor, maps: Tensor, classes: int) -> Tensor:
        found = []
        for few in maps.split(self.context.eval_batch):
            query = self.head.project(few.to(self.backbone.device))
            found.append(self.head.logits(support, labels, query, classes, "chunked").float().cpu())
        return torch.cat(found)

    # What is kept.

    def state(self) -> dict[str, Tensor]:
        stored = self.trained()
        stored |= {f"maps.{task}": maps for task, maps in self._maps.items()}
        stored |= {f"labels.{task}": labels for task, labels in self._labels.items()}
        return {"learnt": learnt_tensor(self.learnt)} | stored

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        if task_id is None:
            return self.state()
        return self.trained() | {"maps": self._maps[task_id], "labels": self._labels[task_id]}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learnt = state["learnt"].tolist()
        self.take(state)
        self._maps = {int(task): maps for task, maps in below("maps.", state).items()}
        self._labels = {int(task): labels for task, labels in below("labels.", state).items()}
        self._projected = None

    def footprint(self) -> Footprint:
        kept = {name: tensor for name, tensor in self.state().items() if name != "learnt"}
        return Footprint(trainable=0, head=0, stored_bits=stored_bits(kept))

    def observations(self) -> dict[str, float]:
        """Support images kept of the last task."""
        return {"support": float(len(self._labels[self.learnt[-1]]))} if self.learnt else {}
