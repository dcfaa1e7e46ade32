"""TOAST: transfer learning via top-down attention steering (Shi, Gai, Darrell & Wang, arXiv 2305.15542).

The backbone is frozen and runs twice. The tokens X of the first pass are selected by a prompt xi, sent
back through the network, and steer the values of every attention in the second:

    g   = (clamp(cos(X, xi), 0, 1) X) P
    g  <- g A_l^T,  t_l = g C_l^T          for l from the last block to the first
    v_l <- v_l + W_v t_l                   q and k see the block's own input only

`toast` trains A, C and xi (P stays at I); `toast_lite` xi, P and low-rank updates of A and C (r = 4,
scaling 0.25). *Not* identity at init: A and C start at random, and their feedback is small but
not zero. `prepare` takes the feedback that ships for the network, or pre-tunes on a stream's pool; without
either the paper itself finds TOAST below VPT, so a record says which it was.

ConvNets (ResNet, ConvNeXt) send maps back through transposed convolutions and add them to each stage's
input. The Swin form is this project's extension, not the paper's: within a stage as in a ViT, between
stages a transposed convolution.

Stored: what trains, once or (per_task) for each task; where pre-tuned, what per_task starts from and the
matrices that `toast_lite` keeps; the heads.

- `chains`     a network in units that can run alone; W_v t, added to the values
- `feedback`   xi, P, A and C, and L_var
- `passes`     the two passes; the first one from the store
- `pretuning`  the stage before the first task
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from backbones.backbone import Backbone, BackboneInfo
from backbones.training import Fit, ParameterGroup
from benchmarks.errors import RequestError
from benchmarks.images import Inputs
from benchmarks.seeds import derive
from benchmarks.stream import Pool, StreamInfo, Task
from methods.base import Context, GradientMethod
from methods.base.card import Setting
from methods.base.efficient import missing
from methods.base.method import below
from methods.base.prepared import PreparedMethod
from methods.base.step import Parts, Stage
from methods.toast.chains import CONVNET_STAGES, ValueBias, chain_of
from methods.toast.feedback import Feedback
from methods.toast.passes import FirstPass, TwoPasses
from methods.toast.pretuning import Plan, pretune

Origin = Literal["none", "pool", "file"]  # of the feedback
ORIGINS: tuple[Origin, ...] = ("none", "pool", "file")  # their positions are what a state holds
START = "start."


class TOAST(PreparedMethod, GradientMethod):
    name = "toast"
    identity_at_init: ClassVar[bool] = False
    lite: ClassVar[bool] = False
    file_option = "feedback"
    file_needs = "value_bias", "early", "late"
    shipped = Path(__file__).parent / "feedback_files"
    untrained = "none"
    optional = True
    warning = "the feedback was not pre-tuned; the paper finds TOAST without pre-tuning below VPT"

    @dataclass(frozen=True)
    class Config(GradientMethod.Config):
        """
        value_bias: "single", or "reference", as the released code has it: b_v twice in the second pass
        early: the feedback's source is the output of the first so many blocks (a ViT's); 0: of all
        late: feedback goes only to blocks from this one on (stages of a ConvNet), counted from 0
        per_task: feedback of its own for each task (true), with which nothing is forgotten, or one for
            all (false); if not said, the first wherever the task of a test image is known
        feedback: where it starts: "" (the file that ships for the network and these options, else
            pre-tuned on the stream's pool, else at random), "none" (at random), "train" (pre-tuned on the
            pool), or the path of a safetensors file with its card
        cache: whether the first pass of images that are not augmented is kept and read again
        pretune_epochs: passes over the pool; 0: 30 on an accelerator, 3 without augmentation on a CPU
        pretune_lr: AdamW's learning rate in pre-tuning
        pretune_weight_decay: and its weight decay
        variational: the weight of L_var; negative: 0.1, and 0.01 for a ConvNet
        """

        value_bias: ValueBias = "single"
        early: int = 0
        late: int = 0
        per_task: bool | None = None
        feedback: str = ""
        cache: bool = True
        pretune_epochs: int = 0
        pretune_lr: float = 1e-3
        pretune_weight_decay: float = 0.01
        variational: float = -1.0

    config: Config

    @classmethod
    def supports(cls, config: Config, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        family, name = backbone.family, backbone.name
        if config.per_task and info.scenario != "task":
            return (
                f"per_task=true has to know the task of a test image, and the stream is {info.scenario}-"
                "incremental; leave per_task out, or take a task-incremental stream"
            )
        if refusal := missing(cls.name, "value feedback", backbone):
            return refusal
        if cls.lite and family == "convnet":
            return f"toast_lite updates matrices, and the feedback of {name} is convolutions; take toast"
        if config.early and family != "vit":
            return f"early={config.early} needs blocks of one width, a ViT's; {name} is a {family}"
        blocks = CONVNET_STAGES if family == "convnet" else backbone.blocks
        if not 0 <= config.early <= blocks:
            return f"early={config.early} must be from 0 to {blocks}, the blocks of {name}"
        if not 0 <= config.late < (config.early or blocks):
            last = (config.early or blocks) - 1
            return f"late={config.late} must be from 0 to {last}, the last block that is fed"
        return super().supports(config, info, backbone)

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        said = config.per_task
        self.per_task = context.info.scenario == "task" if said is None else said
        super().__init__(config, backbone, context)

    def attach(self, backbone: Backbone) -> None:
        config = self.config
        backbone.freeze()
        self._first = FirstPass(backbone)
        self._known: Iterator[Tensor] | None = None
        self._trained_on: Tensor | None = None
        self.origin: Origin = "none"
        chain = chain_of(backbone.net, config.value_bias)
        top = chain.unit_of(config.early) if config.early else len(chain.units)
        self.feedback = Feedback(chain, chain.unit_of(config.late), top, self.lite)
        self.feedback.reset(torch.Generator().manual_seed(self.context.seeds.own("feedback")))
        backbone.net.add_module("toast", self.feedback)
        self.two_passes = TwoPasses(chain, self.feedback, backbone.numerics)

    def groups(self) -> list[ParameterGroup]:
        """The paper's weight decay is on xi too."""
        trained = [p for p in self.feedback.parameters() if p.requires_grad]
        return [ParameterGroup(trained, self.config.lr, self.config.weight_decay), *self.head_groups()]

    def features(self, images: Tensor) -> Tensor:
        if self.backbone.training:
            self.backbone.eval()  # frozen: neither dropout nor stochastic depth
        maps = None
        if self._known is not None:
            maps = next(self._known)
        elif self._trained_on is not None and self.step is not None:
            maps = self._trained_on[torch.from_numpy(self.step.positions)]
        if maps is not None:
            maps = self.two_passes.chain.shaped(maps.to(images.device), self.backbone.info.grid)
        with self.backbone.numerics.autocast():
            out = self.two_passes(images, maps)
            return self.backbone.net.forward_head(out, pre_logits=True).float()  # type: ignore[operator]

    def _fit(self, stage: Stage, parts: Parts, task: Task) -> Fit:
        if self.config.augment == "none" or not self.context.info.mirror:
            self._trained_on = self.first_pass(Inputs.join([data.inputs for _, data in parts]))
        try:
            return super()._fit(stage, parts, task)
        finally:
            self._trained_on = None

    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        maps = self.first_pass(inputs)
        if maps is None:
            return super().predict(inputs, task_id)
        # Prediction walks through its images in their order, in batches of this size.
        self._known = iter(maps.split(self.context.eval_batch))
        try:
            return super().predict(inputs, task_id)
        finally:
            self._known = None

    def first_pass(self, inputs: Inputs, *, pool: bool = False) -> Tensor | None:
        """The result of the first pass for all of `inputs`, on the CPU; None if it is computed each time.

        pool: whether they are those of the pool, which come again.
        """
        if not self.config.cache or not self.two_passes.whole or not len(inputs):
            return None
        # An episode's images come together once: kept, they would fill the store and not be read again.
        kept = pool or not self.context.info.episodes
        return self._first(inputs, self.context.eval_batch, self.context.progress, kept=kept)

    def prepare(self, pool: Pool | None) -> None:
        super().prepare(pool)
        if self.card is not None:
            self.origin = "file" if self.card.sha256 else "pool"
        if self.per_task:
            self._initial = {name: t.detach().clone() for name, t in self.backbone.changing().items()}

    def plan(self, pool: Pool) -> Plan:
        """The plan to pre-tune the feedback on `pool`, seeded by the network, the pool and the options."""
        config, backbone = self.config, self.backbone
        on_cpu = backbone.device.type == "cpu"
        convnet = backbone.info.family == "convnet"
        plan = Plan(
            epochs=config.pretune_epochs or (3 if on_cpu else 30),
            batch_size=config.batch_size,
            lr=config.pretune_lr,
            weight_decay=config.pretune_weight_decay,
            variational=config.variational if config.variational >= 0 else (0.01 if convnet else 0.1),
            augment="none" if on_cpu else config.augment,
            mirror=pool.mirror,
            seed=0,
        )
        options = (self.lite, config.value_bias, config.early, config.late, plan)
        images = pool.images.fingerprint
        seed = derive("toast pre-tuning", backbone.identity, backbone.weights, images, repr(options))
        return replace(plan, seed=seed)

    def key_parts(self, pool: Pool) -> tuple[object, ...]:
        return (self.plan(pool),)

    def train_once(self, pool: Pool) -> None:
        """From what is drawn for the network, the pool and the options, low-rank updates too."""
        self.feedback.reset(torch.Generator().manual_seed(self.plan(pool).seed))
        super().train_once(pool)

    def train_on(self, pool: Pool) -> tuple[str, dict[str, Setting]]:
        context, plan, images = self.context, self.plan(pool), pool.images
        maps = self.first_pass(images.inputs, pool=True) if plan.augment == "none" else None
        how = context.journal, context.progress, context.workers
        pretune(self.two_passes, self.backbone, images, plan, *how, maps)
        found = {"images": len(images), "classes": len(images.class_names)}
        pictures = f"{found['images']:,} images of {found['classes']} classes"
        return f"feedback pre-tuned for {plan.epochs} epochs ({pictures})", asdict(plan) | found

    def trained(self) -> dict[str, Tensor]:
        """xi, A and C."""
        return {name: tensor.detach() for name, tensor in self.feedback.pretuned().items()}

    def written(self) -> dict[str, Tensor]:
        """In half precision, for `toast` and `toast_lite` alike; not P, which pre-tuning leaves at I."""
        half = {name: tensor.half() for name, tensor in self.trained().items()}
        if not all(bool(torch.isfinite(tensor).all()) for tensor in half.values()):
            raise RequestError(
                "the feedback holds values that half precision does not reach; take a lower pretune_lr"
            )
        return half

    def file_ending(self) -> str:
        return ".toast"

    def take(self, tensors: dict[str, Tensor]) -> None:
        """P and low-rank updates stay as they are: pre-tuning does not touch them."""
        trained = self.trained()
        rest = {name: t for name, t in self.feedback.state_dict().items() if name not in trained}
        self.feedback.load_state_dict(rest | tensors)

    def _kept(self) -> dict[str, Tensor]:
        """The origin of the feedback, and the part of it that training does not change."""
        if self.origin == "none":
            return {}
        links = self.feedback.links.named_parameters()
        kept = {f"toast.links.{name}": t.detach() for name, t in links if not t.requires_grad}
        if self.per_task:
            kept |= self._initial
        origin = torch.tensor([ORIGINS.index(self.origin)], dtype=torch.uint8)
        return {"pretuned": origin} | {START + n: t for n, t in kept.items()}

    def state(self) -> dict[str, Tensor]:
        return super().state() | {name: tensor.cpu() for name, tensor in self._kept().items()}

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        return super().state_for(task_id) | self._kept()

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        start = below(START, state)
        parameters = dict(self.backbone.net.named_parameters())
        for name, tensor in start.items():
            parameters[name].copy_(tensor)
        self.origin = ORIGINS[int(state["pretuned"])] if "pretuned" in state else "none"
        if self.per_task and start:
            self._initial = {name: start[name].to(t.device) for name, t in self._initial.items()}
        super().restore(state)

    def observations(self) -> dict[str, float]:
        """Whether the feedback was pre-tuned, whether it was read from a file, and whether its form is this
        project's extension (Swin's)."""
        extension = self.backbone.info.family == "swin"
        return {
            "pretuned": float(self.origin != "none"),
            "from_file": float(self.origin == "file"),
            "swin_extension": float(extension),
        }


class TOASTLite(TOAST):
    """TOAST-Lite: low-rank changes of the feedback, and a trained selection of channels."""

    name = "toast_lite"
    lite = True
