"""Selection: which candidates there are, which of them is taken, and that a choice is made once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from backbones.training import TrainingError
from benchmarks.errors import RequestError
from benchmarks.progress import Silent
from carryover.cells.selection import Rule, candidates, select
from carryover.protocols.work import NothingToChooseError, PredictionError, ValidationRun
from carryover.records.record import Candidate, Selection
from methods.base import Method

KEY = "0" * 64
IMAGES = 100
RULE = Rule(candidates=8, epochs=5)
Score = Callable[["Config"], "tuple[float, int]"]


@dataclass(frozen=True)
class Config(Method.Config):
    lr: float = 0.5
    head_lr: float = 0.5
    epochs: int = 30
    min_steps: int = 100
    layers: Sequence[int] = ()
    search: ClassVar[Mapping[str, Sequence[Any]]] = {"lr": (0.1, 0.01, 0.001)}


def config_of(**search: Sequence[Any]) -> Config:
    """The defaults, with a search space."""
    kind = dataclass(frozen=True)(type("Other", (Config,), {"search": search, "__annotations__": {}}))
    return kind()


class Trials:
    """Trials whose candidates are counted; `score` says how a config does."""

    def __init__(self, score: Score, names: Sequence[str] = ("dtd",)) -> None:
        self.fitted: list[tuple[str, Config]] = []
        self.trials = [ValidationRun(name, IMAGES, self._scored(name, score)) for name in names]

    def _scored(self, name: str, score: Score) -> Score:
        def scored(config: Config) -> tuple[float, int]:
            self.fitted.append((name, config))
            return score(config)

        return scored

    def select(
        self,
        folder: Path,
        config: Config | None = None,
        rule: Rule = RULE,
        fixed: Any = (),
        progress: Any = None,
    ) -> tuple[dict[str, Config], Selection]:
        path = folder / f"{KEY}.json"
        return select(self.trials, config or Config(), dict(fixed), rule, path, progress or Silent())


def scores(of: Mapping[float, float]) -> Score:
    """By learning rate, within the budget."""
    return lambda config: (of[config.lr], RULE.epochs * IMAGES)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("default", None),
        ("search", Rule()),
        ("search?candidates=28", Rule(candidates=28)),
        ("search?epochs=0&candidates=1", Rule(1, 0)),
    ],
)
def test_rules_are_read_as_typed(text: str, rule: Rule | None) -> None:
    assert Rule.typed(text) == rule
    assert rule is None or Rule.typed(rule.name) == rule


@pytest.mark.parametrize(
    "text",
    ["best", "search?candidates=0", "search?epochs=-1", "search?tasks=3", "default?epochs=2", "search?x"],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        Rule.typed(text)


def test_a_bad_number_is_named() -> None:
    with pytest.raises(RequestError, match=r"^search: candidates=0 is below 1$"):
        Rule.typed("search?candidates=0")


def test_the_first_option_varies_fastest_and_the_rule_cuts_off() -> None:
    config = config_of(lr=(0.1, 0.01), head_lr=(1.0, 2.0))
    points = [(options["lr"], options["head_lr"]) for options, _ in candidates(config, {}, Rule(3, 5))]
    assert points == [(0.1, 1.0), (0.01, 1.0), (0.1, 2.0)]
    assert len(candidates(config, {}, Rule(9, 5))) == 4


def test_every_candidate_has_the_rules_epochs_and_no_least_number_of_steps() -> None:
    assert {(made.epochs, made.min_steps) for _, made in candidates(Config(), {}, Rule(8, 5))} == {(5, 0)}
    assert {(made.epochs, made.min_steps) for _, made in candidates(Config(), {}, Rule(8, 0))} == {(30, 100)}


def test_options_typed_by_hand_are_not_searched() -> None:
    config = Config(lr=0.3, epochs=2)
    ((options, made),) = candidates(config, {"lr": 0.3, "epochs": 2}, RULE)
    assert (options, made.lr, made.epochs, made.min_steps) == ({}, 0.3, 2, 0)


def test_the_best_on_validation_data_is_chosen_for_each_trial(tmp_path: Path) -> None:
    trials = Trials(scores({0.1: 0.4, 0.01: 0.7, 0.001: 0.6}), names=("dtd", "svhn"))
    configs, selection = trials.select(tmp_path)
    assert {name: config.lr for name, config in configs.items()} == {"dtd": 0.01, "svhn": 0.01}
    assert configs["dtd"].epochs == 5, "the refit has the epochs of the candidates"
    assert selection.chosen == {"dtd": {"lr": 0.01}, "svhn": {"lr": 0.01}}
    assert selection.choice == KEY
    assert selection.budget == 3 * 5 * IMAGES
    assert [(c.trial, c.options["lr"], c.score, c.passes) for c in selection.candidates] == [
        (name, lr, score, 500)
        for name in ("dtd", "svhn")
        for lr, score in ((0.1, 0.4), (0.01, 0.7), (0.001, 0.6))
    ]


@pytest.mark.parametrize("order", [(0.1, 0.01, 0.001), (0.001, 0.1, 0.01)])
def test_of_equal_scores_the_smallest_rate_is_taken(order: tuple[float, ...], tmp_path: Path) -> None:
    configs, _ = Trials(lambda config: (0.5, 0)).select(tmp_path, config_of(lr=order))
    assert configs["dtd"].lr == 0.001


def test_lr_counts_before_other_rates_and_then_the_first_candidate(tmp_path: Path) -> None:
    same = Trials(lambda config: (0.5, 0))
    configs, _ = same.select(tmp_path / "a", config_of(head_lr=(2.0, 1.0), lr=(0.1, 0.01)))
    assert (configs["dtd"].lr, configs["dtd"].head_lr) == (0.01, 1.0)
    configs, _ = same.select(tmp_path / "b", config_of(min_steps=(3, 2, 1)))
    assert configs["dtd"].min_steps == 3


@pytest.mark.parametrize("error", [TrainingError, PredictionError, FloatingPointError])
def test_a_candidate_that_diverges_is_recorded_and_never_chosen(
    error: type[Exception], tmp_path: Path
) -> None:
    def score(config: Config) -> tuple[float, int]:
        if config.lr == 0.1:
            raise error("the loss became nan at step 2")
        return 0.0, 500

    configs, selection = Trials(score).select(tmp_path)
    assert configs["dtd"].lr == 0.001
    bad = Candidate(trial="dtd", options={"lr": 0.1}, reason="diverged: the loss became nan at step 2")
    assert selection.candidates[0] == bad


def test_a_candidate_that_trains_beyond_its_budget_is_never_chosen(tmp_path: Path) -> None:
    passes = {0.1: 501, 0.01: 500, 0.001: 1}
    trials = Trials(lambda config: (1.0 if config.lr == 0.1 else 0.1, passes[config.lr]))
    configs, selection = trials.select(tmp_path)
    assert configs["dtd"].lr == 0.001
    assert selection.candidates[0].score == 1.0
    assert selection.candidates[0].reason == "over the budget: 501 image passes of 500"
    assert {candidate.reason for candidate in selection.candidates[1:]} == {""}


def test_a_single_candidate_keeps_to_the_budget_too(tmp_path: Path) -> None:
    said = r"the defaults: over the budget: 900 image passes of 500\); .* --selection 'search\?epochs=0'"
    with pytest.raises(NothingToChooseError, match=said):
        Trials(lambda config: (1.0, 900)).select(tmp_path, config_of())


def test_without_a_bound_on_epochs_no_candidate_is_over_it(tmp_path: Path) -> None:
    configs, selection = Trials(lambda config: (config.lr, 10**6)).select(tmp_path, rule=Rule(8, 0))
    assert configs["dtd"].lr == 0.1
    assert selection.budget == 0
    assert "the epochs of their Config" in selection.rule


def test_where_none_can_be_chosen_the_error_names_all_reasons_and_later_trials_are_not_begun(
    tmp_path: Path,
) -> None:
    def score(config: Config) -> tuple[float, int]:
        if config.lr == 0.1:
            return 0.9, 501
        raise TrainingError(f"the loss became inf at step {1 / config.lr:.0f}")

    trials = Trials(score, names=("dtd", "svhn"))
    said = (
        "dtd: no candidate can be chosen .*lr=0.1: over the budget.*lr=0.01: diverged: .* step 100; lr=0.001"
    )
    for _ in range(2):  # what was tried is kept, and is not tried again
        with pytest.raises(NothingToChooseError, match=said):
            trials.select(tmp_path)
    assert [name for name, _ in trials.fitted] == ["dtd"] * 3
    kept = json.loads((tmp_path / f"{KEY}.json").read_bytes())
    assert [made["reason"][:8] for made in kept["candidates"]] == ["over the", "diverged", "diverged"]


def test_an_error_of_many_candidates_stays_short(tmp_path: Path) -> None:
    config = config_of(lr=[0.1 / n for n in range(1, 29)])
    with pytest.raises(NothingToChooseError, match=r"24 more in choices/0+\.json") as caught:
        Trials(lambda config: (1.0, 501)).select(tmp_path, config, rule=Rule(28, 5))
    assert len(str(caught.value)) < 500


def test_any_other_error_is_no_divergence(tmp_path: Path) -> None:
    def score(config: Config) -> tuple[float, int]:
        raise ZeroDivisionError("a method's mistake")

    with pytest.raises(ZeroDivisionError):
        Trials(score).select(tmp_path)
    assert not (tmp_path / f"{KEY}.json").exists()


def test_a_score_of_nothing_is_no_score(tmp_path: Path) -> None:
    with pytest.raises(NothingToChooseError, match="dtd: the score on validation data is nan"):
        Trials(lambda config: (float("nan"), 0)).select(tmp_path)


def test_killed_at_any_candidate_it_goes_on_after_the_last(tmp_path: Path) -> None:
    space = config_of(lr=(0.1, 0.01), layers=((1, 2), (3,)))  # a file gives lists back

    def score(config: Config) -> tuple[float, int]:
        return config.lr * len(config.layers), 500

    calm = Trials(score, names=("dtd", "svhn"))
    expected = calm.select(tmp_path / "calm", space)
    budget = iter(range(100))

    def killed(config: Config) -> tuple[float, int]:
        if next(budget) % 2:
            raise KeyboardInterrupt
        return score(config)

    trials, deaths = Trials(killed, names=("dtd", "svhn")), 0
    while True:
        try:
            found = trials.select(tmp_path / "killed", space)
            break
        except KeyboardInterrupt:
            deaths += 1
            assert deaths < 20
    assert deaths == 7
    assert found[1] == expected[1]
    assert {name: config.lr for name, config in found[0].items()} == {"dtd": 0.1, "svhn": 0.1}
    files = [(tmp_path / name / f"{KEY}.json").read_bytes() for name in ("calm", "killed")]
    assert files[0] == files[1]
    again = Trials(killed, names=("dtd", "svhn"))
    assert again.select(tmp_path / "killed", space)[1] == expected[1]
    assert again.fitted == [], "a choice is made once"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b'{"rule": "search", "cand',
        b"\xff\xfe\x00",
        b'{"rule": "search?epochs=9", "candidates": []}',
        b'{"rule": "search?candidates=8", "candidates": [{"trial": 3}]}',
    ],
)
def test_a_broken_choice_is_made_again_and_said_to_be(broken: bytes, tmp_path: Path) -> None:
    score = scores({0.1: 0.4, 0.01: 0.7, 0.001: 0.6})
    _, expected = Trials(score).select(tmp_path)
    (tmp_path / f"{KEY}.json").write_bytes(broken)
    progress, trials = Silent(), Trials(score)
    assert trials.select(tmp_path, progress=progress)[1] == expected
    assert len(trials.fitted) == 3
    assert "cannot be read" in progress.warnings[0]
    assert "made again" in progress.warnings[0]


def test_two_that_need_one_choice_try_its_candidates_beside_each_other(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def score(config: Config) -> tuple[float, int]:
        together.wait(60)  # passes only while another candidate is being tried
        return config.lr, 500

    space = config_of(lr=(0.1, 0.01), head_lr=(0.5, 0.25))
    trials, found = Trials(score, names=("dtd", "svhn")), []
    first = threading.Thread(target=lambda: found.append(trials.select(tmp_path, space)))
    first.start()
    second = trials.select(tmp_path, space)
    first.join()
    assert found == [second]
    assert len(trials.fitted) == 8, "each was tried once"
    calm = Trials(lambda config: (config.lr, 500), names=("dtd", "svhn"))
    assert calm.select(tmp_path / "calm", space) == second
    files = [(folder / f"{KEY}.json").read_bytes() for folder in (tmp_path, tmp_path / "calm")]
    assert files[0] == files[1]
    assert not (tmp_path / f"{KEY}.claims").exists()


def test_what_another_is_trying_is_waited_for_and_tried_again_if_that_one_died(tmp_path: Path) -> None:
    working, waiting, dies = threading.Event(), threading.Event(), [True]

    def score(config: Config) -> tuple[float, int]:
        if config.lr == 0.1 and dies.pop():
            working.set()
            assert waiting.wait(60)
            raise KeyboardInterrupt
        return config.lr, 500

    class Telling(Silent):
        def warn(self, message: str) -> None:
            super().warn(message)
            dies.append(False)
            waiting.set()

    def die() -> None:
        with pytest.raises(KeyboardInterrupt):
            trials.select(tmp_path)

    trials = Trials(score)
    first = threading.Thread(target=die)
    first.start()
    assert working.wait(60)
    telling = Telling()
    configs, _ = trials.select(tmp_path, progress=telling)
    first.join()
    assert configs["dtd"].lr == 0.1
    assert sorted(config.lr for _, config in trials.fitted) == [0.001, 0.01, 0.1, 0.1]
    assert telling.warnings == [f"another process is trying a candidate of choice {KEY}; waiting for it"]


def test_the_selection_says_that_options_were_typed(tmp_path: Path) -> None:
    trials = Trials(lambda config: (0.5, 500))
    assert trials.select(tmp_path / "a")[1].rule == RULE.describe()
    assert (
        trials.select(tmp_path / "b", fixed={"head_lr": 1.0})[1].rule == f"{RULE.describe()}; others manual"
    )
