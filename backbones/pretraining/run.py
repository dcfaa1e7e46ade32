"""One pretraining run, from a source of images to a weights file with its card and curve.

Its folder holds `NAME.plan.json`, which says what is being made there: the same command resumes after a kill,
and another command does not overwrite it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from backbones import training
from backbones.architecture import build, preprocessing_of, size_of, spec_of
from backbones.backbone import open_backbone
from backbones.families import family_of
from backbones.numerics import Numerics, set_fused
from backbones.preprocessing import Preprocessing
from backbones.pretraining.batches import Batches
from backbones.pretraining.card import Card
from backbones.pretraining.curve import Point, draw_curve, read_curve, write_curve
from backbones.pretraining.evaluation import held_out_loss, inference_rate, probe, top1
from backbones.pretraining.objectives import make_objective
from backbones.pretraining.settings import Settings, check, check_source, check_stages, size_at, stages_of
from backbones.seen import write_images
from backbones.structure import pass_through
from backbones.training import Fit, Journal, groups_of
from backbones.weights import with_classifier
from benchmarks.claim import claim
from benchmarks.errors import RequestError
from benchmarks.progress import Progress
from benchmarks.seeds import derive, generator
from benchmarks.sources.source import SourceData
from benchmarks.store import Store, write_atomic

VALIDATED = 1500  # images that the curve is drawn from; the card's number comes from all


@dataclass(frozen=True)
class Plan:
    """What is made: `name` is the file's; `source` is loaded already, `source_name` as typed."""

    name: str
    backbone: str
    objective: str
    source_name: str
    source: SourceData
    settings: Settings
    mirror: bool = True


@dataclass(frozen=True)
class RunContext:
    """Where the run leaves its files, and what it computes with."""

    folder: Path
    numerics: Numerics
    store: Store
    journal: Journal
    progress: Progress
    commit: str = ""


def pretrain(plan: Plan, context: RunContext, probes: dict[str, SourceData]) -> Card:
    """Train, keep the averaged weights in half precision, evaluate what was kept, write card and curve.

    probes: sources by name on which the result is probed. RequestError for what cannot be trained,
    before the first step.
    """
    run = Run(plan, context)
    fitted = run.fit()
    path = run.save()
    card = run.evaluate(path, fitted, probes)
    card.write(context.folder)
    write_images(context.folder, card, plan.source.train)
    return card


class Run:
    """The parts of one run, made and checked; `fit`, `save`, `evaluate` in that order."""

    def __init__(self, plan: Plan, context: RunContext) -> None:
        check(plan.settings)
        context.numerics.apply()
        self.plan, self.context = plan, context
        self.spec = spec_of(plan.backbone)
        self.train, self.valid = plan.source.train, plan.source.test
        self.classes = len(plan.source.class_names) if plan.objective == "supervised" else 0
        check_source(plan.source_name, plan.source, plan.objective)
        with torch.device("meta"):
            sketch = build(self.spec)
        height, width = size_of(sketch, self.spec)
        if height != width:
            raise RequestError(
                f"pretraining takes square images, but {plan.backbone} has {height}x{width}; set img_size"
            )
        self.size = height
        self.stages = stages_of(plan.settings, self.size)
        check_stages(self.stages, sketch, plan.source_name, plan.source, plan.objective)
        self.preprocessing = preprocessing_of(sketch, self.spec)
        self.objective = make_objective(
            plan.objective, self.spec, plan.settings, self.classes, any_size=len(self.stages) > 1
        ).to(context.numerics.device)
        self._claim_folder()  # after the last check, since it writes
        if family_of(pass_through(sketch, (height, width))) == "convnet":
            self.objective = self.objective.to(memory_format=torch.channels_last)
        decay = plan.settings.ema
        self.average = ModelEmaV3(self.objective.net, decay, use_warmup=True) if decay else None
        self.points = read_curve(self._curve)

    @property
    def kept(self) -> nn.Module:
        """The network whose weights are kept."""
        return self.average.module if self.average is not None else self.objective.net

    def fit(self) -> Fit:
        """Train through all stages."""
        settings, numerics = self.plan.settings, self.context.numerics
        net = self.objective.net
        for module in self.objective.modules():
            set_fused(module, numerics, differentiable=True)
        spare: set[str] = getattr(net, "no_weight_decay", set)()
        groups = groups_of(
            self.objective.named_parameters(),
            settings.lr,
            settings.weight_decay,
            {f"net.{name}" for name in spare},
        )
        batches = Batches(
            self.train,
            settings,
            self.stages,
            self.preprocessing,
            numerics.device,
            classes=self.classes,
            views=self.objective.views,
            mirror=self.plan.mirror,
        )
        epochs = sum(stage.epochs for stage in self.stages)
        optimization = training.Optimization(
            epochs, settings.warmup_epochs, settings.optimizer, clip_norm=settings.clip_norm or None
        )
        self.objective.train()
        self._started = time.monotonic()
        return training.fit(
            self.objective,
            groups,
            batches.epoch,
            batches.steps,
            optimization,
            numerics=numerics,
            seed_of=lambda epoch: derive("pretrain", "global", settings.seed, epoch),
            stage="pretraining",
            journal=self.context.journal,
            progress=self.context.progress,
            held=self,
            after_step=self._after_step,
            after_epoch=self._after_epoch,
        )

    def held(self) -> dict[str, Tensor]:
        """The network's buffers and the average of its weights."""
        buffers = {f"buffer.{name}": buffer for name, buffer in self.objective.named_buffers()}
        average = {} if self.average is None else self.average.module.state_dict()
        return buffers | {f"average.{name}": tensor for name, tensor in average.items()}

    @torch.no_grad()
    def hold(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.held().items():
            tensor.copy_(tensors[name])

    def save(self) -> Path:
        """The kept weights as NAME.safetensors: parameters in half precision, statistics in single."""
        tensors = {}
        learnt = dict(self.kept.named_parameters())
        for name, tensor in self.kept.state_dict().items():
            small = name in learnt and tensor.is_floating_point()
            tensors[name] = (tensor.half() if small else tensor).detach().cpu().contiguous().clone()
        path = self.context.folder / f"{self.plan.name}.safetensors"
        write_atomic(path, safetensors.torch.save(tensors, {"format": "pt"}))
        return path

    def evaluate(self, path: Path, fitted: Fit, probes: dict[str, SourceData]) -> Card:
        """The card of what was saved, measured on the file."""
        plan, context = self.plan, self.context
        bare = self.spec.with_weights(None)
        saved = self.spec.with_weights(str(path)).canonical
        backbone = open_backbone(saved, store=context.store, numerics=context.numerics)
        accuracy = None
        if self.classes:
            net = with_classifier(saved).to(context.numerics.device)
            accuracy = top1(net, self.valid, self.preprocessing, context.numerics, context.progress)
        found = {
            name: dict(
                zip(("linear", "nearest class mean"), probe(backbone, data, context.progress), strict=True)
            )
            for name, data in probes.items()
        }
        seconds = sum(point.seconds for point in self.points)
        draw_curve(
            context.folder / f"{plan.name}.png",
            self.points,
            plan.name,
            "validation top-1" if self.classes else "validation loss",
        )
        return Card(
            name=plan.name,
            backbone=bare.canonical,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            parameters=backbone.info.parameters,
            objective=plan.objective,
            settings=dataclasses.asdict(plan.settings),
            mirror=plan.mirror,
            source=plan.source_name,
            fingerprint=plan.source.fingerprint,
            terms=plan.source.terms,
            images=len(self.train),
            classes=len(plan.source.class_names),
            epochs=sum(stage.epochs for stage in self.stages),
            seconds=seconds,
            machine=context.numerics.describe(),
            commit=context.commit,
            versions={"torch": str(torch.__version__), "timm": timm.__version__},
            loss=fitted.loss,
            top1=accuracy,
            probes=found,
            training_rate=len(self.train) * len(self.points) / max(seconds, 1e-9),
            inference_rate=inference_rate(backbone),
        )

    # Below: how it is done.

    @property
    def _curve(self) -> Path:
        return self.context.folder / f"{self.plan.name}.csv"

    def _after_step(self, step: int) -> None:
        if self.average is not None:
            self.average.update(self.objective.net, step=step)

    def _after_epoch(self, epoch: int, loss: float) -> None:
        seconds = time.monotonic() - self._started
        size = size_at(self.stages, epoch - 1)
        point = Point(epoch, size, loss, self._validation(size), seconds)
        # After a kill, an epoch may be run again whose point was written already.
        self.points = [*(point for point in self.points if point.epoch < epoch), point]
        write_curve(self._curve, self.points)
        self.objective.train()
        self._started = time.monotonic()

    def _validation(self, size: int) -> float:
        """Top-1 of what is kept, or the objective's loss where there is no classifier."""
        preprocessing = Preprocessing((size, size), self.preprocessing.mean, self.preprocessing.std)
        rows = generator("pretrain", "validation").permutation(len(self.valid))[:VALIDATED]
        part = self.valid.select(np.sort(rows))
        if self.classes:
            return top1(self.kept, part, preprocessing, self.context.numerics, self.context.progress)
        return held_out_loss(self.objective, part.inputs, preprocessing, self.context.numerics)

    def _claim_folder(self) -> None:
        """Say in the folder what is made there; RequestError if it already says something else."""
        plan = self.plan
        said = {
            "backbone": self.spec.canonical,
            "objective": plan.objective,
            "source": plan.source.fingerprint,
            "settings": dataclasses.asdict(plan.settings),
            "mirror": plan.mirror,
        }
        claim(self.context.folder / f"{plan.name}.plan.json", said)
