"""Any scikit-learn classifier is a method: its state refits to the same, its logits are its own scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from tiny_cells import ready, stream_of, words

from benchmarks.errors import RequestError
from carryover.cells.learn import Maker
from carryover.commands.cli import cli
from carryover.plugins import catalogue
from carryover.protocols.journal import CellJournal
from methods.base import Method
from methods.sklearn_classifier import classifier_method

SVC = "sklearn:sklearn.svm.LinearSVC"
FOREST = "sklearn:sklearn.ensemble.RandomForestClassifier"  # random
NEIGHBOURS = "sklearn:sklearn.neighbors.KNeighborsClassifier"  # predict_proba
OPTIONS = {FOREST: {"n_estimators": "5"}}


def learnt(name: str, pictures: Path, scenario: str, tmp_path: Path, tasks: int = 3) -> tuple[Method, list]:
    cell = ready(name, stream_of(pictures, scenario=scenario), options=OPTIONS.get(name, {}))
    opened, exam = cell.stream.open(0)
    method = Maker(cell, CellJournal(tmp_path), _Silent())(cell.stream.info)
    for task in opened[:tasks]:
        method.learn(task)
    return method, [exam.inputs(task) for task in exam.tasks]


class _Silent:
    """No bars; warnings are kept."""

    def __init__(self) -> None:
        from benchmarks.progress import Silent

        self.bar = Silent().bar
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.parametrize("scenario", ["task", "class", "domain"])
@pytest.mark.parametrize("name", [SVC, FOREST, NEIGHBOURS])
def test_a_restored_one_is_fitted_again_to_the_same(
    name: str, scenario: str, measured: None, pictures: Path, tmp_path: Path
) -> None:
    method, exam = learnt(name, pictures, scenario, tmp_path)
    fresh, _ = learnt(name, pictures, scenario, tmp_path, tasks=0)
    fresh.restore(load(save({key: tensor.contiguous() for key, tensor in method.state().items()})))
    for task in range(3):
        known = task if scenario == "task" else None
        one, other = method.predict(exam[task], known), fresh.predict(exam[task], known)
        assert torch.equal(one, other)
        assert one.shape == (len(exam[task]), 2 if scenario == "task" else 6)
        assert one.dtype == torch.float32
    kept = {key: value for key, value in method.state().items() if key != "learnt"}
    bits = sum(tensor.numel() * tensor.element_size() * 8 for tensor in kept.values())
    assert method.footprint().stored_bits == bits
    assert method.footprint().exemplars == 0


@pytest.mark.parametrize("name", [SVC, NEIGHBOURS])
def test_the_answers_are_those_of_the_classifier(
    name: str, measured: None, pictures: Path, tmp_path: Path
) -> None:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import LinearSVC

    method, exam = learnt(name, pictures, "class", tmp_path)
    state = method.state()
    features = torch.cat([state[f"features.{task}"] for task in range(3)]).numpy()
    classes = torch.cat([state[f"classes.{task}"] for task in range(3)]).numpy()
    seed = method.context.seeds.own("classifier", "None", 3) % 2**32
    alone = LinearSVC(random_state=seed) if name == SVC else KNeighborsClassifier()
    columns = np.array(method.columns())
    places = np.array([method.columns().index(cls) for cls in classes])
    alone.fit(features, places)
    asked = method.backbone.features(exam[1]).numpy()
    assert (columns[method.predict(exam[1], None).argmax(1)] == columns[alone.predict(asked)]).all()


def test_options_are_the_classifiers_own_and_are_typed() -> None:
    made = classifier_method("sklearn.svm.SVC").Config(C="0.5", kernel="rbf", shrinking="false", gamma="auto")
    assert (made.C, made.kernel, made.shrinking, made.gamma) == (0.5, "rbf", False, "auto")
    assert not hasattr(made, "random_state")
    assert classifier_method("sklearn.ensemble.RandomForestClassifier").Config().max_depth is None


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (SVC, ["C=-1"], "The 'C' parameter of LinearSVC must be"),
        (SVC, ["CC=1"], "unknown option of sklearn:sklearn.svm.LinearSVC 'CC'; did you mean 'C'?"),
        (SVC, ["random_state=1"], "unknown option"),
        ("sklearn:sklearn.LinearSVC", [], "did you mean sklearn:sklearn.svm.LinearSVC?"),
        ("sklearn:LinearSVC", [], "did you mean sklearn:sklearn.svm.LinearSVC?"),
        ("sklearn:sklearn.svm.SVR", [], "is not a scikit-learn classifier"),
        ("sklearn:sklearn.multiclass.OneVsRestClassifier", [], "needs its estimator, which cannot be typed"),
        ("sklearn:", [], "cannot be imported"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    name: str,
    options: list[str],
    said: str,
    measured: None,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed = [word for option in options for word in ("-o", option)]
    assert cli(words(name, stream_of(pictures), tmp_path / "results", *typed)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "results" / "records").exists()


def test_a_class_that_is_alone_is_the_answer(measured: None, pictures: Path, tmp_path: Path) -> None:
    method, exam = learnt(SVC, pictures, "task", tmp_path, tasks=0)
    tasks, _ = ready(SVC, stream_of(pictures), options={}).stream.open(0)
    one = tasks[0].train.select(np.flatnonzero(tasks[0].train.labels == 1)[:1])
    from dataclasses import replace

    method.learn(replace(tasks[0], train=one))
    assert (method.predict(exam[0], 0).argmax(1) == 1).all()


def test_the_record_knows_the_package_of_the_classifier(measured: None, pictures: Path) -> None:
    cell = ready(SVC, stream_of(pictures), options={})
    assert "scikit-learn" in cell.code.packages
    assert cell.cell.method == SVC
    other = ready(NEIGHBOURS, stream_of(pictures), options={})
    assert cell.key != other.key


@pytest.mark.parametrize("path", ["sklearn.linear_model.RidgeClassifier", "sklearn.naive_bayes.GaussianNB"])
def test_a_classifier_needs_no_seed(path: str) -> None:
    plugin, found = catalogue.method_class(f"sklearn:{path}")
    assert plugin.named == (path.rpartition(".")[0],)
    assert found._new(found.Config(), 0) is not None


def test_a_classifier_that_only_predicts_gives_one_hot() -> None:
    from methods.sklearn_classifier import _scores

    class Only:
        classes_ = np.array([0, 2, 3])

        def predict(self, features: np.ndarray) -> np.ndarray:
            return np.array([2, 0])

    assert _scores(Only(), np.zeros((2, 4))).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_unknown_methods_are_told_of_both(measured: None) -> None:
    with pytest.raises(RequestError, match=r"\./FILE\.py runs a file, and sklearn:CLASS a classifier"):
        catalogue.method_class("nothing")
