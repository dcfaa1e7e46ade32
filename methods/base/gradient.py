"""`GradientMethod` holds the training loop, so that a method only says what it inserts and what trains."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from backbones.augment import Augment, augment
from backbones.backbone import Backbone, BackboneInfo
from backbones.loading import Loader, cuts
from backbones.training import (
    Batch,
    Fit,
    Optimization,
    Optimizer,
    ParameterGroup,
    Schedule,
    fit,
    groups_of,
)
from benchmarks.images import Indices, Inputs
from benchmarks.stream import StreamInfo, Task
from methods.base.heads import Columns, HeadKind, Heads
from methods.base.memory import Memory
from methods.base.method import Context, Footprint, Method, below, learnt_tensor, stored_bits
from methods.base.step import Parts, Stage, Step


def rates(lr: float) -> Mapping[str, Sequence[Any]]:
    """A search space of learning rates around a method's own, which comes first."""
    return {"lr": tuple(float(f"{lr * factor:.3g}") for factor in (1, 0.3, 3, 0.1))}


class GradientMethod(Method):
    """Trains the backbone's unfrozen parameters and the heads with cross-entropy.

    A subclass says in `attach` what is inserted into the backbone and what stays trainable; every other hook
    has a default. They are asked in this order:

        attach      once, for a fresh instance
        open        for each task before it is trained on, and again when a state is taken over: what grows
        begin       before the trainings of a task
        stages      the trainings of a task, by default one; what stands between two `yield`s runs between
        parts       what is trained on, by default the task's images
        groups      what trains, with learning rates
        features    images to features, in training and in prediction
        loss        of a step: cross-entropy, and what a subclass adds
        after_backward, after_step
        end         after the trainings of a task
        pack        what is stored for the task, with `per_task`

    With `per_task` the trained tensors (or whatever `pack` returns) are kept for each task and put back
    before it is predicted, so that nothing is forgotten; each task then starts from the tensors that
    `attach` left. Without it there is one set of tensors, trained further on every task.

    A method that keeps exemplars makes a `memory` in `attach`; `replay` of them are drawn beside each batch.
    What a killed training needs beside parameters and memory is in `held`.

    Initial heads, the order of images and torch's generator (dropout) are seeded for all methods alike, so
    that a method whose extra is turned off is full fine-tuning to the bit. `noise` is the method's own
    generator on the training device, seeded anew at each epoch.
    """

    identity_at_init: ClassVar[bool] = True  # whether the features before training are the plain network's
    memory: Memory | None = None
    replay: int = 0  # exemplars drawn beside each batch

    @dataclass(frozen=True)
    class Config(Method.Config):
        """
        epochs: passes over a task's training images; more if they would be fewer than `min_steps` steps,
            since a task of a few hundred images is not learnt in five passes
        batch_size: images per step
        lr: the learning rate of what trains inside the backbone
        head_lr: the heads' learning rate
        weight_decay: of matrices; biases, norms and other vectors have none
        optimizer: "adamw", "sgd" or "muon"
        momentum: SGD's
        schedule: of the learning rates: "cosine" to zero, "constant", or "steps", a tenth after each
            milestone
        milestones: shares of the training after which "steps" lowers the rates
        warmup_epochs: linear warm-up before the schedule
        clip_norm: the largest norm of the gradient; None: no limit
        augment: "standard" (flips where the stream's images may be mirrored), "crop" (random resized crops
            and those flips) or "none"
        crop_scale: the smallest share of an image's area that a crop shows
        label_smoothing: of the cross-entropy
        head: "linear", or "cosine" with a learnt scale
        columns: the classes in the loss of an image in class-incremental streams: all "seen" so far, or
            those of its "own" task, so that only the head of that task trains
        min_steps: the fewest steps a task is trained for
        """

        epochs: int = 5
        batch_size: int = 32
        lr: float = 1e-3
        head_lr: float = 2e-3
        weight_decay: float = 0.05
        optimizer: Optimizer = "adamw"
        momentum: float = 0.9
        schedule: Schedule = "cosine"
        milestones: tuple[float, ...] = (0.5, 0.75)
        warmup_epochs: float = 0.5
        clip_norm: float | None = None
        augment: Augment = "standard"
        crop_scale: float = 0.08
        label_smoothing: float = 0.0
        head: HeadKind = "linear"
        columns: Columns = "seen"
        min_steps: int = 200
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(1e-3)

    config: Config

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        if config.columns == "own" and info.scenario != "class":
            return (
                "columns=own applies only to class-incremental streams, and this one is "
                f"{info.scenario}-incremental; leave columns out"
            )
        return None

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        self.noise = torch.Generator(backbone.device)
        self.heads = self.fresh_heads()
        self.packs: dict[int, dict[str, Tensor]] = {}
        self.fitted: Fit | None = None
        self.step: Step | None = None  # of the training that is going on
        self._active: int | None = None
        self._training: list[int] = []
        self.attach(backbone)
        backbone.to(backbone.device)
        started = backbone.changing() if self.per_task else {}
        self._initial = {name: tensor.clone() for name, tensor in started.items()}

    # What a method says.

    @abstractmethod
    def attach(self, backbone: Backbone) -> None:
        """Insert modules, freeze, choose what trains; `identity_at_init`: the features are as before."""

    def open(self, task_id: int) -> None:
        """Make what `task_id` needs: its head, and in a subclass whatever else grows with the tasks."""
        self.heads.open(task_id, self.backbone.device)

    def begin(self, task: Task) -> None:
        """Called before the trainings of a task; with `per_task`, restores the tensors that `attach` left."""
        if self.per_task:
            self.unpack(self._initial)

    def stages(self, task: Task) -> Iterator[Stage]:
        """Yield the trainings of `task`, which run as they are yielded; a single one needs no name."""
        yield Stage()

    def parts(self, task: Task) -> Parts:
        """The training data when `task` arrives, as pairs of task id and data."""
        return [(task.id, task.train)]

    def groups(self) -> list[ParameterGroup]:
        """What trains, with learning rates and weight decays."""
        config = self.config
        inside = groups_of(self.backbone.net.named_parameters(), config.lr, config.weight_decay)
        return [*inside, *self.head_groups()]

    def features(self, images: Tensor) -> Tensor:
        """(B, C) features of prepared images (B, 3, S, S), in training and in prediction."""
        return self.backbone(images)

    def loss(self, step: Step) -> Tensor:
        """The loss of a step: cross-entropy; a subclass adds to it (distillation, penalties)."""
        return step.logits.cross_entropy(self.config.label_smoothing)

    def after_backward(self, step: Step) -> None:
        """Called between the backward pass and the optimizer's step, to change `parameter.grad`."""
        return

    def after_step(self, step: Step) -> None:
        """Called after the optimizer's step, while the gradients still exist."""
        return

    def end(self, task: Task) -> None:
        """Called after the trainings of `task`, to measure importance, keep statistics or exemplars."""
        return

    def held(self) -> dict[str, Tensor]:
        """Tensors of any shape, beside the parameters, that a killed training needs; only for its journal.

        By default the network's own buffers and the memory; add what the hooks depend on, so that a killed
        training continues as if undisturbed. Called after `begin`.
        """
        buffers = {n: t for n, t in self.backbone.changing().items() if not isinstance(t, nn.Parameter)}
        counted = {"replayed": torch.tensor(self.replayed)}
        return counted | self._memory_state() | {f"buffer.{n}": t for n, t in buffers.items()}

    def hold(self, tensors: dict[str, Tensor]) -> None:
        """Restore the tensors of `held`."""
        buffers, changing = below("buffer.", tensors), self.backbone.changing()
        with torch.no_grad():
            for name, tensor in buffers.items():
                changing[name].copy_(tensor)
        self._restore_memory(tensors)
        self.replayed = int(tensors["replayed"])

    def pack(self) -> dict[str, Tensor]:
        """What is stored for the task just learnt; the trained tensors by default."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.backbone.changing().items()}

    def unpack(self, stored: dict[str, Tensor]) -> None:
        """Put a `pack()` back into the network."""
        with torch.no_grad():
            for name, tensor in self.backbone.changing().items():
                tensor.copy_(stored[name])

    # What it gets.

    def learn(self, task: Task) -> None:
        self.begin(task)
        self.passes = self.replayed = 0
        for number in (*self.learnt, task.id):  # in this order, which is that of the columns
            self.open(number)
        for stage in self.stages(task):
            parts = self.parts(task) if stage.parts is None else stage.parts
            kept = [] if self.memory is None else self.memory.tasks
            self._training = list(dict.fromkeys([*(number for number, _ in parts), *kept]))
            self.fitted = self._fit(stage, parts, task)
        self.end(task)
        if self.per_task:
            self.packs[task.id] = self.pack()
            self._active = None  # what is predicted with is what was stored, not what was trained
        self.learnt.append(task.id)

    @torch.no_grad()
    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        if self.per_task and task_id is not None and task_id != self._active:
            self.unpack(self.packs[task_id])
            self._active = task_id
        self.backbone.eval()
        logits = []
        for _, images in self.images(inputs, self.context.eval_batch):
            with self.backbone.numerics.autocast():
                features = self.features(images)
            # The heads stay in float32: a sum of 8 bits would tie classes.
            logits.append(self.heads(features.float(), task_id).cpu())
        return torch.cat(logits)

    def images(self, inputs: Inputs, batch_size: int) -> Iterator[tuple[Indices, Tensor]]:
        """Positions and prepared images (B, 3, S, S), in order and without augmentation."""
        loader = Loader(inputs, self.backbone.device, self.context.workers)
        for positions, pixels in loader.batches(np.arange(len(inputs)), batch_size):
            yield positions, self.backbone.prepare(pixels)

    def state(self) -> dict[str, Tensor]:
        stored = {f"head.{name}": tensor for name, tensor in self.heads.stored().items()}
        if self.per_task:
            for task_id, pack in self.packs.items():
                stored |= {f"task.{task_id}.{name}": tensor for name, tensor in pack.items()}
        else:
            stored |= {f"net.{name}": tensor for name, tensor in self.backbone.changing().items()}
        stored |= self._memory_state()
        return {"learnt": learnt_tensor(self.learnt)} | {n: t.detach().cpu() for n, t in stored.items()}

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        heads = {f"head.{name}": tensor for name, tensor in self.heads.state_of(task_id).items()}
        if self.per_task and task_id is not None:
            return heads | self.packs[task_id]
        return heads | self.backbone.changing()

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learnt = state["learnt"].tolist()
        for task_id in self.learnt:
            self.open(task_id)
        self.heads.restore(below("head.", state), self.learnt, self.backbone.device)
        self._restore_memory(state)
        if self.per_task:
            self.packs = {task_id: below(f"task.{task_id}.", state) for task_id in self.learnt}
            self._active = None
        else:
            with torch.no_grad():
                for name, tensor in self.backbone.changing().items():
                    tensor.copy_(state[f"net.{name}"])

    def footprint(self) -> Footprint:
        trainable = sum(p.numel() for p in self.backbone.net.parameters() if p.requires_grad)
        replayed = [] if self.memory is None else self.memory.tasks
        head = sum(p.numel() for p in self.heads.trained([*replayed, *self.learnt[-1:]]).values())
        # The rows of exemplars stand for images, which are counted in their place.
        beside = {"learnt", *self._memory_state()}
        kept = stored_bits({name: tensor for name, tensor in self.state().items() if name not in beside})
        if self.memory is None:
            return Footprint(trainable, head, kept)
        return Footprint(trainable, head, kept + self.memory.bits, len(self.memory))

    def fresh_heads(self) -> Heads:
        """Heads without a task yet."""
        info, width = self.context.info, self.backbone.info.width
        config = self.config
        return Heads(info, width, self.context.seeds, kind=config.head, columns=config.columns)

    def head_groups(self) -> list[ParameterGroup]:
        """The heads in training, with their own learning rate."""
        heads = self.heads.trained(self._training).items()
        return groups_of(heads, self.config.head_lr, self.config.weight_decay)

    def steps(self, images: int) -> tuple[int, int]:
        """(epochs, steps per epoch) for a training on that many images."""
        per_epoch = len(cuts(images, self.config.batch_size, least=2))
        return max(self.config.epochs, math.ceil(self.config.min_steps / per_epoch)), per_epoch

    def optimization(self, epochs: int) -> Optimization:
        """The optimization that the options describe, for that many epochs."""
        config = self.config
        return Optimization(
            epochs,
            config.warmup_epochs,
            config.optimizer,
            config.schedule,
            config.milestones,
            config.momentum,
            config.clip_norm,
        )

    # How it is done.

    def _memory_state(self) -> dict[str, Tensor]:
        kept = {} if self.memory is None else self.memory.state()
        return {f"memory.{name}": tensor for name, tensor in kept.items()}

    def _restore_memory(self, state: dict[str, Tensor]) -> None:
        if self.memory is not None:
            self.memory.restore(below("memory.", state))

    def _fit(self, stage: Stage, parts: Parts, task: Task) -> Fit:
        name = " ".join(filter(None, [f"task {task.id}", stage.name]))
        seeds, training = self.context.seeds, _Training(self, stage, parts, task, name)
        self.backbone.train()
        try:
            return fit(
                training.loss_of,
                self.groups() if stage.groups is None else stage.groups,
                training.epoch_of,
                training.steps,
                self.optimization(training.epochs),
                numerics=self.backbone.numerics,
                seed_of=lambda epoch: seeds.shared("global", name, epoch),
                stage=name,
                journal=self.context.journal,
                progress=self.context.progress,
                held=self,
                keep_end=bool(stage.name),
                after_backward=lambda: self.after_backward(training.step),
                after_step=lambda _: self.after_step(training.step),
            )
        finally:
            self.step = None


class _Training:
    """One stage: its batches, and what its steps know."""

    def __init__(self, method: GradientMethod, stage: Stage, parts: Parts, task: Task, name: str) -> None:
        self.method, self.stage, self.name = method, stage, name
        config, device = method.config, method.backbone.device
        own = sum(len(data) for number, data in parts if number == task.id)
        if stage.batches is not None:
            self.epochs, self.steps = stage.epochs or config.epochs, stage.steps
            return
        self.inputs = Inputs.join([data.inputs for _, data in parts])
        self.targets = torch.cat(
            [
                torch.stack([torch.full((len(data),), number), torch.from_numpy(data.labels)], dim=1)
                for number, data in parts
            ]
        ).to(device)
        usual, self.steps = method.steps(len(self.inputs))
        self.epochs = stage.epochs or usual
        self.loader = Loader(self.inputs, device, method.context.workers)
        method.passes += self.epochs * own
        method.replayed += self.epochs * (len(self.inputs) - own)

    @property
    def step(self) -> Step:
        found = self.method.step
        assert found is not None
        return found

    def epoch_of(self, epoch: int) -> Iterator[Batch]:
        method, seeds = self.method, self.method.context.seeds
        total = self.epochs * self.steps
        method.noise.manual_seed(seeds.own("noise", self.name, epoch))
        if self.stage.batches is not None:
            for number, (features, targets) in enumerate(self.stage.batches(epoch), epoch * self.steps + 1):
                method.step = Step(None, targets, np.arange(0), epoch, number, total)
                yield features, targets
            return
        views = torch.Generator(method.backbone.device).manual_seed(seeds.shared("augment", self.name, epoch))
        again = torch.Generator(method.backbone.device).manual_seed(seeds.own("replay", self.name, epoch))
        order = np.random.default_rng(seeds.shared("order", self.name, epoch)).permutation(len(self.inputs))
        # A last image alone has no variance for a BatchNorm that trains: it joins the batch before it.
        batches = self.loader.batches(order, method.config.batch_size, least=2)
        for number, (positions, pixels) in enumerate(batches, epoch * self.steps + 1):
            images = self._view(pixels, views)
            targets = self.targets[torch.from_numpy(positions).to(images.device)]
            drawn = None if not method.replay or method.memory is None else method.memory.draw(method.replay)
            if drawn is not None:
                old, kept = drawn
                images = torch.cat([images, self._view(torch.from_numpy(old.pixels()), again)])
                targets = torch.cat([targets, torch.from_numpy(kept).to(targets)])
                method.replayed += len(old)
            method.step = Step(images, targets, positions, epoch, number, total)
            yield images, targets

    def loss_of(self, x: Tensor, targets: Tensor) -> Tensor:
        method, step = self.method, self.step
        step.features = x if self.stage.batches is not None else method.features(x)
        step.logits = method.heads.logits(step.features, targets, method._training)
        return method.loss(step) if self.stage.loss is None else self.stage.loss(step)

    def _view(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        config, images = self.method.config, self.method.backbone.prepare(pixels)
        return augment(images, config.augment, self.method.context.info.mirror, generator, config.crop_scale)
