"""`GradientMethod` owns the training, so that a method's file says only what is inserted and what trains."""

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
from backbones.backbone import Backbone
from backbones.loading import Loader, cuts
from backbones.training import Batch, Fit, ParameterGroup, Recipe, fit, groups_of
from benchmarks.images import Indices, Inputs, Labelled
from benchmarks.stream import Task
from methods.base.heads import Heads
from methods.base.method import Context, Footprint, Method, below, learnt_tensor, stored_bits


def rates(lr: float) -> Mapping[str, Sequence[Any]]:
    """A search space of learning rates around a method's own, which comes first."""
    return {"lr": tuple(float(f"{lr * factor:.3g}") for factor in (1, 0.3, 3, 0.1))}


class GradientMethod(Method):
    """Trains the backbone's unfrozen parameters and the heads with cross-entropy.

    A subclass says in `attach` what is inserted into the backbone and what stays trainable. With
    `per_task` the trained tensors (or whatever `pack` returns) are kept for each task and put back
    before it is predicted, so that nothing is forgotten; each task then starts from the tensors that
    `attach` left. Without it there is one set of tensors, trained on and on.

    `noise` is the method's own generator on the training device, seeded anew at each epoch; `positions` is
    where the images of a step are among all that are being trained on.
    """

    per_task: bool = False  # a class says it, or an instance before `__init__` of this class
    starts_plain: ClassVar[bool] = True  # whether the features are the plain network's at step 0

    @dataclass(frozen=True)
    class Config(Method.Config):
        """
        epochs: passes over a task's training images; more where they would be fewer than
            `min_steps` steps, since a task of a few hundred images is not learnt in five passes
        batch_size: images per step
        lr: AdamW's learning rate of what trains inside the backbone
        head_lr: the heads' learning rate
        weight_decay: of matrices; biases, norms and other vectors have none
        warmup_epochs: linear warm-up before the cosine
        augment: "standard" (flips where the stream's images may be mirrored) or "none"
        label_smoothing: of the cross-entropy
        min_steps: the fewest steps a task is trained for
        """

        epochs: int = 5
        batch_size: int = 32
        lr: float = 1e-3
        head_lr: float = 2e-3
        weight_decay: float = 0.05
        warmup_epochs: float = 0.5
        augment: Augment = "standard"
        label_smoothing: float = 0.0
        min_steps: int = 200
        search: ClassVar[Mapping[str, Sequence[Any]]] = rates(1e-3)

    config: Config

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        self.noise = torch.Generator(backbone.device)
        self.positions: Indices = np.arange(0)
        self.heads = Heads(context.info, backbone.info.width, context.seeds)
        self.packs: dict[int, dict[str, Tensor]] = {}
        self.fitted: Fit | None = None
        self._active: int | None = None
        self._training: list[int] = []
        self.attach(backbone)
        backbone.to(backbone.device)
        started = backbone.changing() if self.per_task else {}
        self._initial = {name: tensor.clone() for name, tensor in started.items()}

    # What a method says.

    @abstractmethod
    def attach(self, backbone: Backbone) -> None:
        """Insert modules, freeze, choose what trains; `starts_plain` says if the features are as before."""

    def begin(self, task: Task) -> None:
        """Before a task is trained on: with `per_task`, back to the tensors that `attach` left."""
        if self.per_task:
            self.unpack(self._initial)

    def parts(self, task: Task) -> list[tuple[int, Labelled]]:
        """The data trained on when `task` arrives, with the task each part belongs to."""
        return [(task.id, task.train)]

    def groups(self) -> list[ParameterGroup]:
        """What trains, with learning rates and weight decays."""
        config = self.config
        inside = groups_of(self.backbone.net.named_parameters(), config.lr, config.weight_decay)
        return [*inside, *self.head_groups()]

    def features(self, images: Tensor) -> Tensor:
        """(B, C) features of prepared images (B, 3, S, S), in training and in evaluation."""
        return self.backbone(images)

    def penalty(self) -> Tensor | None:
        """A term added to the cross-entropy, from the last forward pass."""
        return None

    def after_step(self, step: int, steps: int) -> None:
        """After the optimizer's step `step` (from 1) of `steps`, while its gradients are still there."""
        return

    def buffers(self) -> list[Tensor]:
        """What a training changes in place beside the parameters, for its journal alone.

        The network's own buffers by default; with what `after_step` goes by, a killed training goes on as if
        undisturbed. Asked for after `begin`.
        """
        return [t for t in self.backbone.changing().values() if not isinstance(t, nn.Parameter)]

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
        parts = self.parts(task)
        self._training = [task_id for task_id, _ in parts]
        for task_id in self._training:
            self.heads.open(task_id, self.backbone.device)
        self.fitted = self._fit(parts, stage=f"task {task.id}")
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
        loader = Loader(inputs, self.backbone.device, self.context.workers)
        logits = []
        for _, pixels in loader.batches(np.arange(len(inputs)), self.context.eval_batch):
            with self.backbone.numerics.autocast():
                features = self.features(self.backbone.prepare(pixels))
            # The heads stay in float32: a sum of 8 bits would tie classes.
            logits.append(self.heads(features.float(), task_id).cpu())
        return torch.cat(logits)

    def state(self) -> dict[str, Tensor]:
        stored = {f"head.{name}": tensor for name, tensor in self.heads.linears.state_dict().items()}
        if self.per_task:
            for task_id, pack in self.packs.items():
                stored |= {f"task.{task_id}.{name}": tensor for name, tensor in pack.items()}
        else:
            stored |= {f"net.{name}": tensor for name, tensor in self.backbone.changing().items()}
        return {"learnt": learnt_tensor(self.learnt)} | {n: t.detach().cpu() for n, t in stored.items()}

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        heads = {f"head.{name}": tensor for name, tensor in self.heads.state_of(task_id).items()}
        if self.per_task and task_id is not None:
            return heads | self.packs[task_id]
        return heads | self.backbone.changing()

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learnt = state["learnt"].tolist()
        self.heads.restore(below("head.", state), self.learnt, self.backbone.device)
        if self.per_task:
            self.packs = {task_id: below(f"task.{task_id}.", state) for task_id in self.learnt}
            self._active = None
        else:
            with torch.no_grad():
                for name, tensor in self.backbone.changing().items():
                    tensor.copy_(state[f"net.{name}"])

    def footprint(self) -> Footprint:
        trainable = sum(p.numel() for p in self.backbone.net.parameters() if p.requires_grad)
        head = sum(p.numel() for p in self.heads.trained_on(self.learnt[-1:]).parameters())
        kept = {name: tensor for name, tensor in self.state().items() if name != "learnt"}
        return Footprint(trainable, head, stored_bits(kept))

    def head_groups(self) -> list[ParameterGroup]:
        """The heads in training, at their own rate."""
        heads = self.heads.trained_on(self._training)
        return groups_of(heads.named_parameters(), self.config.head_lr, self.config.weight_decay)

    def steps(self, images: int) -> tuple[int, int]:
        """(epochs, steps per epoch) for a training on that many images."""
        per_epoch = len(cuts(images, self.config.batch_size, least=2))
        return max(self.config.epochs, math.ceil(self.config.min_steps / per_epoch)), per_epoch

    # How it is done.

    def _fit(self, parts: Sequence[tuple[int, Labelled]], stage: str) -> Fit:
        config, seeds, device = self.config, self.context.seeds, self.backbone.device
        inputs = Inputs.join([data.inputs for _, data in parts])
        targets = torch.cat(
            [
                torch.stack([torch.full((len(data),), task_id), torch.from_numpy(data.labels)], dim=1)
                for task_id, data in parts
            ]
        ).to(device)
        epochs, steps = self.steps(len(inputs))
        self.passes = epochs * len(inputs)
        loader = Loader(inputs, device, self.context.workers)

        def epoch_of(epoch: int) -> Iterator[Batch]:
            self.noise.manual_seed(seeds.own("noise", stage, epoch))
            flips = torch.Generator(device).manual_seed(seeds.shared("augment", stage, epoch))
            order = np.random.default_rng(seeds.shared("order", stage, epoch)).permutation(len(inputs))
            # A last image alone has no variance for a BatchNorm that trains: it joins the batch before it.
            for positions, pixels in loader.batches(order, config.batch_size, least=2):
                self.positions = positions
                images = self.backbone.prepare(pixels)
                images = augment(images, config.augment, self.context.info.mirror, flips)
                yield images, targets[torch.from_numpy(positions).to(device)]

        def loss_of(images: Tensor, wanted: Tensor) -> Tensor:
            features = self.features(images)
            loss = self.heads.loss(features, wanted, self._training, config.label_smoothing)
            extra = self.penalty()
            return loss if extra is None else loss + extra

        self.backbone.train()
        return fit(
            loss_of,
            self.groups(),
            epoch_of,
            steps,
            Recipe(epochs, config.warmup_epochs),
            numerics=self.backbone.numerics,
            seed_of=lambda epoch: seeds.own("global", stage, epoch),
            stage=stage,
            journal=self.context.journal,
            progress=self.context.progress,
            buffers=self.buffers(),
            after_step=lambda step: self.after_step(step, epochs * steps),
        )
