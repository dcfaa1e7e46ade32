"""Two sound methods, and methods that break one promise each.

`BROKEN` has, for each, the promise that has to catch it, and the backbones and streams that it is seen on.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from backbones.backbone import Backbone
from methods.base import Footprint, GradientMethod, Method
from methods.base.method import below, learnt_tensor, stored_bits
from methods.linear_probe import LinearProbe


class Sound(Method):
    """The mean feature of each class of each task; a domain's classes have the mean over tasks."""

    name = "sound"
    per_task = True

    @dataclass(frozen=True)
    class Config(Method.Config):
        """shrink: factor on the means"""

        shrink: float = 1.0
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"shrink": (1.0, 0.9)}

    def __init__(self, config, backbone, context):
        super().__init__(config, backbone, context)
        backbone.freeze()
        self.means: dict[int, Tensor] = {}

    def means_of(self, task):
        features = self.backbone.features(task.train.inputs)
        labels = torch.from_numpy(task.train.labels)
        means = torch.zeros(len(task.classes), features.shape[1])
        for label in labels.unique().tolist():
            means[label] = features[labels == label].mean(0) * self.config.shrink
        return means

    def learn(self, task):
        self.means[task.id] = self.means_of(task)
        self.passes = len(task.train)
        self.learnt.append(task.id)

    def known(self, task_id):
        if task_id is not None:
            return self.means[task_id]
        found = [self.means[task] for task in self.learnt]
        return torch.stack(found).mean(0) if self.context.info.scenario == "domain" else torch.cat(found)

    def logits(self, features, means):
        return -(features[:, None] - means).square().sum(2)

    def predict(self, inputs, task_id):
        return self.logits(self.backbone.features(inputs), self.known(task_id))

    def score_episodes(self, episodes):
        return [self.logits(self.backbone.features(q), self.means_of(task)) for task, q in episodes]

    def state(self):
        kept = {f"means.{task}": means for task, means in self.means.items()}
        return {"learnt": learnt_tensor(self.learnt)} | kept

    def state_for(self, task_id):
        return self.state() if task_id is None else {"means": self.means[task_id]}

    def restore(self, state):
        self.learnt = state["learnt"].tolist()
        self.means = {int(name): means for name, means in below("means.", state).items()}

    def footprint(self):
        kept = {name: tensor for name, tensor in self.state().items() if name != "learnt"}
        return Footprint(trainable=0, head=0, stored_bits=stored_bits(kept))


class Trained(GradientMethod):
    """The biases, for each task."""

    name = "trained"
    per_task = True

    @classmethod
    def supports(cls, config, info, backbone):
        return None if info.scenario == "task" else "it has to be told the task of a test image"

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze(except_=lambda name: name.endswith(".bias"))


# Options.


class Undocumented(Sound):
    @dataclass(frozen=True)
    class Config(Sound.Config):
        """Nothing of it."""

        secret: int = 0


class SearchesNothing(Sound):
    @dataclass(frozen=True)
    class Config(Sound.Config):
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"lr": (0.1, 1.0)}


class SearchesWords(Sound):
    @dataclass(frozen=True)
    class Config(Sound.Config):
        search: ClassVar[Mapping[str, Sequence[Any]]] = {"shrink": ("little", "much")}


class DefaultOfAnotherType(Sound):
    @dataclass(frozen=True)
    class Config(Sound.Config):
        """rounds: unused"""

        rounds: int = "three"


class DefaultThatFails(Sound):
    """Sound once `rounds` is typed."""

    @dataclass(frozen=True)
    class Config(Sound.Config):
        """rounds: how often"""

        rounds: int = 0

    def learn(self, task):
        if not self.config.rounds:
            raise ValueError("rounds has to be above 0")
        super().learn(task)


# What is supported.


class RefusesWithoutReason(Sound):
    @classmethod
    def supports(cls, config, info, backbone):
        return "no"


class NeedsBlocks(Sound):
    def learn(self, task):
        assert self.backbone.sites()[0]
        super().learn(task)


class NeedsValidation(Sound):
    def learn(self, task):
        assert len(task.val), "nothing to validate on"
        super().learn(task)


class NeedsTheTask(Sound):
    def predict(self, inputs, task_id):
        return self.logits(self.backbone.features(inputs), self.means[task_id])


class ForgetsToSayWhatItLearnt(Sound):
    def learn(self, task):
        super().learn(task)
        self.learnt.pop()

    def known(self, task_id):
        return self.means[max(self.means) if task_id is None else task_id]


# Predictions.


class TooManyColumns(Sound):
    def known(self, task_id):
        return torch.cat([super().known(task_id), torch.zeros(1, self.backbone.info.width)])


class DoublePrecision(Sound):
    def logits(self, features, means):
        return super().logits(features, means).double()


class WithGradient(Sound):
    def logits(self, features, means):
        return super().logits(features, means.clone().requires_grad_())


class SortedColumns(Sound):
    def predict(self, inputs, task_id):
        logits = super().predict(inputs, task_id)
        return logits if task_id is not None else logits[:, np.argsort(self.columns()).copy()]


class CountsQuestions(Sound):
    asked = 0

    def predict(self, inputs, task_id):
        self.asked += len(inputs)
        return super().predict(inputs, task_id)

    def state(self):
        return super().state() | {"asked": torch.tensor(self.asked)}

    def restore(self, state):
        super().restore(state)
        self.asked = int(state["asked"])


class Guesses(Sound):
    def logits(self, features, means):
        found = super().logits(features, means)
        return found + 1e-3 * torch.rand_like(found)


class CentresTheBatch(Sound):
    def logits(self, features, means):
        return super().logits(features - 0.1 * features.mean(0), means)


class CountsPositions(Sound):
    def logits(self, features, means):
        return super().logits(features, means) + 1e-2 * torch.arange(len(features))[:, None]


class VotesInTheBatch(Sound):
    """Leans a little towards the classes that most of the batch has."""

    def logits(self, features, means):
        found = super().logits(features, means)
        return found + 0.01 * found.softmax(1).mean(0)


class NormalisesTheBatch(Sound):
    """As batch normalisation that was left in training mode."""

    def logits(self, features, means):
        deviation = (features.var(0, correction=0) + 1e-5).sqrt()
        return super().logits((features - features.mean(0)) / deviation, means)


class LeansOnTheBatch(LinearProbe):
    """On standardised features of a random network, where roundings are blown up by thousands."""

    def predict(self, inputs, task_id):
        found = super().predict(inputs, task_id)
        return found + 0.2 * found.mean(0)


class KnowsTheBatchSize(Sound):
    def predict(self, inputs, task_id):
        return super().predict(inputs, task_id) + self.context.eval_batch


class AnswersForAnyTask(Sound):
    def known(self, task_id):
        return self.means.get(task_id, self.means[self.learnt[-1]])


class MixesEpisodes(Sound):
    def score_episodes(self, episodes):
        means = torch.stack([self.means_of(task) for task, _ in episodes]).cumsum(0)
        return [self.logits(self.backbone.features(q), m) for (_, q), m in zip(episodes, means, strict=True)]


# What is kept.


class KeepsAList(Sound):
    def state(self):
        return super().state() | {"notes": [1, 2, 3]}


class KeepsSparse(Sound):
    def state(self):
        return super().state() | {"sparse": torch.eye(3).to_sparse()}


class DoesNotKeepWhatItLearnt(Sound):
    def state(self):
        return below("", {name: t for name, t in super().state().items() if name != "learnt"})

    def restore(self, state):
        super().restore({"learnt": learnt_tensor(range(len(state)))} | state)


class LeavesOutTheScale(Sound):
    scale = 1.0

    def learn(self, task):
        super().learn(task)
        self.scale = 2.0

    def logits(self, features, means):
        return self.scale * super().logits(features, means)


class RestoresByPosition(Sound):
    def restore(self, state):
        super().restore(state)
        self.means = dict(zip(self.learnt, below("means.", state).values(), strict=True))


class HidesFromReuse(Sound):
    def state_for(self, task_id):
        return {"first": self.means[0]}


class LosesItsPlace(Sound):
    """What it learns depends on how much it learnt before, which it does not keep."""

    tasks = 0

    def means_of(self, task):
        return super().means_of(task) + 0.01 * self.tasks

    def learn(self, task):
        super().learn(task)
        self.tasks += 1


class MovesOldTasks(Sound):
    """Says that it keeps each task as it was, and moves all means with each new one."""

    def learn(self, task):
        super().learn(task)
        self.means = {number: means * 1.01 for number, means in self.means.items()}


class CountsHalf(Sound):
    def footprint(self):
        return Footprint(0, 0, super().footprint().stored_bits // 2)


class HidesExemplars(Sound):
    def state(self):
        return super().state() | {"memory.items": torch.zeros(3, 4, dtype=torch.int64)}

    def footprint(self):
        return Footprint(0, 0, stored_bits({n: t for n, t in super().state().items() if n != "learnt"}))


class ForgetsToFreeze(Sound):
    def __init__(self, config, backbone, context):
        super().__init__(config, backbone, context)
        for parameter in backbone.net.parameters():
            parameter.requires_grad_(True)


class CountsNoPasses(Sound):
    def learn(self, task):
        super().learn(task)
        self.passes = 0


class ObservesWords(Sound):
    def observations(self):
        return {"mood": "good"}


# Randomness.


class DrawsFromNumPy(Sound):
    def means_of(self, task):
        return super().means_of(task) + 1e-3 * float(np.random.rand())  # noqa: NPY002


class DrawsFromTorch(Sound):
    def means_of(self, task):
        return super().means_of(task) + 1e-3 * torch.rand(1)


class DrawsAnew(Sound):
    def means_of(self, task):
        return super().means_of(task) + 1e-3 * float(np.random.default_rng().random())


class DependsOnWorkers(Sound):
    def means_of(self, task):
        return super().means_of(task) + 1e-3 * self.context.workers


# The network.


class MovesTheNetwork(Sound):
    def __init__(self, config, backbone, context):
        super().__init__(config, backbone, context)
        with torch.no_grad():
            next(backbone.net.parameters()).add_(0.01)


class StartsElsewhere(Trained):
    def attach(self, backbone):
        super().attach(backbone)
        with torch.no_grad():
            for tensor in backbone.changing().values():
                tensor.add_(0.01)


class SwallowsNaN(Trained):
    def features(self, images):
        return super().features(images.nan_to_num())


# The answers.


class LooksForTheExam(Sound):
    def learn(self, task):
        super().learn(task)
        for thing in gc.get_objects():
            if type(thing).__name__.endswith("Exam"):
                try:
                    thing.score(task.id, np.zeros(10, np.int64))
                except Exception:
                    continue


class TakesTheExamHome(Sound):
    def learn(self, task):
        super().learn(task)
        frame = sys._getframe(1)
        while frame is not None:
            lesson = frame.f_locals.get("lesson")
            if lesson is not None:
                self.found = [lesson.exam]
            frame = frame.f_back


# At the edge.


def variance(values: Tensor) -> Tensor:
    """Of one value: 0 / 0."""
    return (values - values.mean(0)).square().sum(0) / (len(values) - 1)


class NeedsTwoClasses(Sound):
    def means_of(self, task):
        means = super().means_of(task)
        return means / (1 + 1e-3 * variance(means))


class NeedsTwoImages(Sound):
    def means_of(self, task):
        spread = variance(self.backbone.features(task.train.inputs))
        return super().means_of(task) / (1 + 1e-3 * spread)


@dataclass(frozen=True)
class Case:
    cls: type[Method]
    promise: str
    kinds: tuple[str, ...] = ("task",)
    backbones: tuple[str, ...] = ("tiny_vit",)
    options: tuple[tuple[str, str], ...] = ()


BROKEN = (
    Case(Undocumented, "config"),
    Case(SearchesNothing, "config"),
    Case(SearchesWords, "config"),
    Case(DefaultOfAnotherType, "config"),
    Case(DefaultThatFails, "defaults", options=(("rounds", "1"),)),
    Case(RefusesWithoutReason, "supports"),
    Case(NeedsBlocks, "supports", backbones=("tiny_vit", "tiny_convnet")),
    Case(NeedsValidation, "supports", kinds=("task", "few_shot")),
    Case(NeedsTheTask, "supports", kinds=("task", "class")),
    Case(ForgetsToSayWhatItLearnt, "supports"),
    Case(TooManyColumns, "columns"),
    Case(DoublePrecision, "columns"),
    Case(WithGradient, "columns"),
    Case(SortedColumns, "learns", kinds=("class",)),
    Case(CountsQuestions, "predict"),
    Case(Guesses, "predict"),
    Case(CentresTheBatch, "image alone"),
    Case(CountsPositions, "image alone"),
    Case(VotesInTheBatch, "image alone"),
    Case(NormalisesTheBatch, "image alone"),
    Case(LeansOnTheBatch, "image alone", backbones=("tiny_external_attention",)),
    Case(KnowsTheBatchSize, "image alone"),
    Case(AnswersForAnyTask, "unknown task"),
    Case(MixesEpisodes, "episodes", kinds=("few_shot",)),
    Case(KeepsAList, "state"),
    Case(KeepsSparse, "state"),
    Case(DoesNotKeepWhatItLearnt, "state"),
    Case(LeavesOutTheScale, "restore"),
    Case(RestoresByPosition, "tensor order"),
    Case(HidesFromReuse, "state_for", kinds=("class",)),
    Case(LosesItsPlace, "goes on"),
    Case(MovesOldTasks, "forgetting"),
    Case(CountsHalf, "footprint"),
    Case(HidesExemplars, "footprint"),
    Case(ForgetsToFreeze, "trainable"),
    Case(CountsNoPasses, "passes"),
    Case(ObservesWords, "cell"),
    Case(DrawsFromNumPy, "generators"),
    Case(DrawsFromTorch, "generators"),
    Case(DrawsAnew, "again"),
    Case(DependsOnWorkers, "again"),
    Case(MovesTheNetwork, "frozen"),
    Case(StartsElsewhere, "identity at init"),
    Case(SwallowsNaN, "NaN"),
    Case(LooksForTheExam, "answers"),
    Case(TakesTheExamHome, "answers"),
    Case(NeedsTwoClasses, "one class"),
    Case(NeedsTwoImages, "one image"),
)


# What cannot be checked at all.


class WithoutConfig(Method):
    name = "without"
    learn = predict = state = restore = footprint = lambda self, *given: None


class ConfigWithoutDataclass(Sound):
    class Config(Sound.Config):
        """rounds: how often"""

        rounds: int = 3


class OptionOfAnotherKind(Sound):
    @dataclass(frozen=True)
    class Config(Sound.Config):
        """weights: of the classes"""

        weights: dict[str, Tensor] | None = None


class OptionWithoutDefault(Method):
    name = "undecided"
    learn = predict = state = restore = footprint = lambda self, *given: None

    @dataclass(frozen=True)
    class Config(Method.Config):
        """rounds: how often"""

        rounds: int
