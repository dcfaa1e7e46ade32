"""Any scikit-learn classifier, by its import path, on the features of the frozen backbone.

    carryover run --method sklearn:sklearn.svm.LinearSVC -o C=0.1

Its options are those of the classifier (`random_state` is drawn from the method's seed). In a
task-incremental stream each task has a classifier; otherwise one classifier is fitted again on the features
of all tasks so far. The logits are `decision_function`, or `predict_proba`, or one-hot of `predict`.

Stored per task: the features it was fitted on, 32 bits per value, and their classes; no images. After a
restore it is fitted again, on one thread and with the same seed, with the same result.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.backbone import Backbone, BackboneInfo
from benchmarks.errors import RequestError
from benchmarks.images import Inputs
from benchmarks.stream import StreamInfo, Task
from methods.base import Context, Footprint, Method
from methods.base.method import learnt_tensor, stored_bits

Value = bool | int | float | str | None
# Set here, or without a bearing on what is predicted.
CLOSED = ("random_state", "n_jobs", "verbose")
NEVER = -1e9  # the logit of a class without a training image


class SklearnClassifier(Method):
    """A subclass names its classifier (`classifier_method` makes one)."""

    classifier: type

    @dataclass(frozen=True)
    class Config(Method.Config):
        """The classifier's own options; "0.1", "true" and "none" mean what they mean in Python."""

        def __post_init__(self) -> None:
            for field in dataclasses.fields(self):
                object.__setattr__(self, field.name, _value(getattr(self, field.name)))

    config: Config

    @classmethod
    def supports(cls, config: Any, info: StreamInfo, backbone: BackboneInfo) -> str | None:
        """Fits four points to check the options, since scikit-learn checks them only in `fit`."""
        points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        with warnings.catch_warnings(action="ignore"):
            try:
                cls._new(config, 0).fit(points, [0, 1, 0, 1])
            except (ValueError, TypeError) as error:
                if type(error).__name__ == "InvalidParameterError":
                    return f"{error}".partition("\n")[0]
            except Exception:  # four points are too few for it
                return None
        return None

    def __init__(self, config: Any, backbone: Backbone, context: Context) -> None:
        super().__init__(config, backbone, context)
        backbone.freeze()
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}  # by task: features (N, C), global classes (N,)
        self._fitted: dict[int | None, Any] = {}  # by task, or None: one for all

    @classmethod
    def _new(cls, config: Any, seed: int) -> Any:
        options = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        if "random_state" in inspect.signature(cls.classifier).parameters:
            options["random_state"] = seed
        return cls.classifier(**options)

    def _key(self, task_id: int | None) -> int | None:
        return task_id if self.context.info.scenario == "task" else None

    def _classes(self, key: int | None) -> tuple[int, ...]:
        return self.columns() if key is None else self.context.info.classes[key]

    def learn(self, task: Task) -> None:
        features = self.backbone.features(task.train.inputs, progress=self.context.progress)
        self._seen[task.id] = features, torch.tensor(task.classes)[torch.from_numpy(task.train.labels)]
        self.learnt.append(task.id)
        self.passes = self._fit(self._key(task.id))

    def _fit(self, key: int | None) -> int:
        """Fits the classifier of `key` and says on how many images."""
        from threadpoolctl import threadpool_limits

        parts = list(self._seen.values()) if key is None else [self._seen[key]]
        features = torch.cat([part[0] for part in parts]).numpy()
        place = {cls: column for column, cls in enumerate(self._classes(key))}
        labels = np.array([place[cls] for part in parts for cls in part[1].tolist()])
        self._fitted[key] = None
        if len(np.unique(labels)) > 1:
            seed = self.context.seeds.own("classifier", str(key), len(self.learnt)) % 2**32
            # Bits do not depend on how many threads there are.
            with threadpool_limits(1), warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                self._fitted[key] = self._new(self.config, seed).fit(features, labels)
            for one in dict.fromkeys(str(warning.message).partition("\n")[0] for warning in said):
                self.context.progress.warn(f"{self.name}: {one}")
        else:
            self._fitted[key] = int(labels[0])
        return len(labels)

    def predict(self, inputs: Inputs, task_id: int | None) -> Tensor:
        from threadpoolctl import threadpool_limits

        key = self._key(task_id)
        features = self.backbone.features(inputs, progress=self.context.progress).numpy()
        fitted = self._fitted[key]
        logits = torch.full((len(features), len(self._classes(key))), NEVER)
        if isinstance(fitted, int):  # of one class alone
            logits[:, fitted] = 0.0
            return logits
        with threadpool_limits(1):
            scores = _scores(fitted, features)
        logits[:, torch.from_numpy(fitted.classes_)] = torch.from_numpy(scores).float()
        return logits

    def state(self) -> dict[str, Tensor]:
        return {"learnt": learnt_tensor(self.learnt)} | self._stored(None)

    def state_for(self, task_id: int | None) -> dict[str, Tensor]:
        return self._stored(self._key(task_id))

    def _stored(self, key: int | None) -> dict[str, Tensor]:
        """What the classifier of `key` was fitted on; None: everything."""
        parts = self._seen if key is None else {key: self._seen[key]}
        features = {f"features.{task}": part[0] for task, part in parts.items()}
        return features | {f"classes.{task}": part[1] for task, part in parts.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        learnt = state["learnt"].tolist()
        self._seen = {task: (state[f"features.{task}"], state[f"classes.{task}"]) for task in learnt}
        if self.context.info.scenario == "task":
            for number, task in enumerate(learnt):
                self.learnt = learnt[: number + 1]
                self._fit(task)
        self.learnt = learnt
        if learnt and self.context.info.scenario != "task":
            self._fit(None)

    def footprint(self) -> Footprint:
        return Footprint(trainable=0, head=0, stored_bits=stored_bits(self._stored(None)))


def classifier_method(path: str) -> type[SklearnClassifier]:
    """The method of a classifier, by its import path; RequestError if it is not a classifier."""
    module, _, attribute = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # an import may raise anything
        near = f"; did you mean {_near(attribute)}?" if _near(attribute) else "; write sklearn:MODULE.CLASS"
        raise RequestError(f"method 'sklearn:{path}' cannot be imported: {error}{near}") from None
    if not (
        isinstance(found, type) and hasattr(found, "fit") and hasattr(found, "predict") and _classifies(found)
    ):
        raise RequestError(
            f"method 'sklearn:{path}' is not a scikit-learn classifier; take a subclass of ClassifierMixin"
        )
    options = []
    for name, parameter in inspect.signature(found).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or name in CLOSED:
            continue
        if parameter.default is parameter.empty:
            raise RequestError(
                f"method 'sklearn:{path}' needs its {name}, which cannot be typed; take a classifier whose "
                "parameters all have defaults, or write a method around it"
            )
        if isinstance(parameter.default, Value):
            options.append((name, Value, dataclasses.field(default=parameter.default)))
    config = dataclasses.make_dataclass(
        "Config", options, bases=(SklearnClassifier.Config,), frozen=True, namespace={"__module__": __name__}
    )
    body = {"name": f"sklearn:{path}", "classifier": found, "Config": config, "__module__": __name__}
    return type(f"{attribute}OnFeatures", (SklearnClassifier,), body)


def _classifies(found: type) -> bool:
    from sklearn.base import ClassifierMixin

    return issubclass(found, ClassifierMixin)


def _near(name: str) -> str:
    """The import path of the classifier of scikit-learn whose name is nearest, or ""."""
    import difflib

    from sklearn.utils import all_estimators

    known = dict(all_estimators(type_filter="classifier"))
    for cls in difflib.get_close_matches(name, known, n=1):
        public = known[cls].__module__.partition("._")[0]
        return f"sklearn:{public}.{cls}"
    return ""


def _scores(fitted: Any, features: np.ndarray) -> np.ndarray:
    """(N, classes) of features (N, C), in the order of `fitted.classes_`."""
    classes = len(fitted.classes_)
    for says in ("decision_function", "predict_proba"):
        if hasattr(fitted, says):
            scores = np.asarray(getattr(fitted, says)(features))
            if scores.ndim == 1 and classes == 2:  # the second class against the first
                scores = np.stack([-scores, scores], axis=1)
            if scores.shape == (len(features), classes):
                return scores
    return (fitted.predict(features)[:, None] == fitted.classes_).astype(np.float64)


def _value(said: object) -> object:
    """The value of a typed word: a number, true, false, none, or the word itself."""
    if not isinstance(said, str):
        return said
    words = {"true": True, "false": False, "none": None, "null": None}
    if said.lower() in words:
        return words[said.lower()]
    for kind in (int, float):
        try:
            return kind(said)
        except ValueError:
            pass
    return said
