"""`carryover check`: a broken method is caught by the promise that it breaks and by no other."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import replace
from pathlib import Path

import broken_methods
import numpy as np
import pytest
from broken_methods import BROKEN, Sound, Trained

from benchmarks.errors import RequestError
from carryover.check import command
from carryover.check.pictures import Pictures
from carryover.check.promises import PROMISES
from carryover.check.streams import check_stream
from carryover.check.suite import check_method
from carryover.commands import cli
from carryover.protocols import rounding


def verdicts(cls, kinds=("task",), backbones=("tiny_vit",), options=()):
    found = check_method(cls.name, cls, dict(options), backbones=backbones, kinds=kinds)
    return {verdict.promise: verdict for verdict in found}


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.cls.__name__)
def test_a_broken_method_is_caught_by_its_promise_and_by_no_other(case):
    found = verdicts(case.cls, case.kinds, case.backbones, case.options)
    failed = [verdict for verdict in found.values() if verdict.status == "failed"]
    # Whether an image is scored by itself is measured in every cell as well.
    also = {"cell"} if case.promise == "image alone" else set()
    assert [verdict.promise for verdict in failed if verdict.promise not in also] == [case.promise], failed
    assert all(verdict.expected and verdict.seen for verdict in failed)


ROUNDED = [case for case in BROKEN if case.promise in ("image alone", "episodes", "identity at init")]


@pytest.mark.parametrize("case", ROUNDED, ids=lambda case: case.cls.__name__)
def test_what_rounding_explains_is_far_below_what_a_broken_method_does(case, monkeypatch):
    monkeypatch.setattr(rounding, "MARGIN", 10 * rounding.MARGIN)
    found = verdicts(case.cls, case.kinds, case.backbones, case.options)
    assert found[case.promise].status == "failed"


def test_every_promise_has_a_method_that_breaks_it():
    assert {promise.name for promise in PROMISES} == {case.promise for case in BROKEN}


def test_a_sound_method_keeps_every_promise():
    found = verdicts(Sound, ("task", "class", "domain", "few_shot", "transfer"))
    told = {name: v.reason for name, v in found.items() if v.status == "not applicable"}
    assert [v for v in found.values() if v.status == "failed"] == []
    assert set(told) == {"identity at init", "NaN"}, "a claim it does not make, a loss it does not have"


def test_a_sound_trained_method_keeps_every_promise():
    found = verdicts(Trained)
    assert [v for v in found.values() if v.status == "failed"] == []
    assert {n for n, v in found.items() if v.status != "passed"} == {"episodes"}


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (broken_methods.WithoutConfig, "has no Config; give it one"),
        (
            broken_methods.ConfigWithoutDataclass,
            r"is not in a dataclass, so rounds cannot be typed; write @dataclass",
        ),
        (broken_methods.OptionOfAnotherKind, "option weights of the type .* cannot be typed"),
        (broken_methods.OptionWithoutDefault, "option rounds without a default; give it one"),
    ],
)
def test_what_cannot_be_checked_names_file_line_and_way_out(cls, said):
    with pytest.raises(RequestError, match=said) as raised:
        verdicts(cls)
    place, number = re.match(r".*?: (/.*?):(\d+) ", str(raised.value)).groups()
    assert place == broken_methods.__file__
    line = Path(place).read_text().splitlines()[int(number) - 1]
    assert "class " in line or ": " in line
    assert "\n" not in str(raised.value)


@pytest.fixture
def small(monkeypatch):
    """One backbone, one stream."""
    fewer = functools.partial(check_method, backbones=("tiny_vit",), kinds=("task",))
    monkeypatch.setattr(command, "check_method", fewer)


def test_a_line_for_each_promise_and_a_summary(small, capsys):
    assert cli.cli(["check", "ncm"]) == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert re.match(r"method ncm, from carryover \(.*ncm.py\)", head)
    assert len(lines) == len(PROMISES)
    assert all(line.split(maxsplit=1)[0] in ("passed", "not") for line in lines)
    assert re.match(rf"{len(PROMISES)} promises: \d+ passed, \d+ not applicable \(\d+ s\)", last)


def test_a_broken_promise_says_what_was_expected_and_seen_and_is_exit_code_1(small, capsys, monkeypatch):
    loaded = command.catalogue.method_class("ncm")[0]
    monkeypatch.setattr(command.catalogue, "method_class", lambda name: (loaded, broken_methods.CountsHalf))
    assert cli.cli(["check", "ncm"]) == 1
    said = capsys.readouterr().out
    assert re.search(
        r"failed +footprint .*\n +expected +stored_bits=\d+.*\n +seen +stored_bits=\d+\n +where +tiny_vit",
        said,
    )
    assert cli.cli(["check", "ncm", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["failed"], len(told["promises"])) == ("method", 1, len(PROMISES))
    (broken,) = (promise for promise in told["promises"] if promise["status"] == "failed")
    assert broken["promise"] == "footprint"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "maet"], "unknown plugin 'maet'; did you mean 'meat'"),
        (["check", "ncm", "-o", "metric"], "'metric' is not of the form KEY=VALUE; write -o KEY=VALUE"),
        (["check", "ncm?metric"], "write metric=VALUE"),
        (["check", "ncm", "-o", "metrik=cosine"], "did you mean 'metric'"),
        (["check", "ncm?metrik=cosine"], "did you mean 'metric'"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(words, said, capsys):
    assert cli.cli(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_convnet", "split-digits?tasks=2"])
def test_backbones_and_streams_keep_their_promises(name, capsys):
    assert cli.cli(["check", name]) == 0
    assert " failed" not in capsys.readouterr().out


class Overlapping(Pictures):
    """Validation images are training images too."""

    def open(self, seed):
        tasks, exam = super().open(seed)
        first = tasks[0].train.select(np.arange(len(tasks[0].val)))
        return [replace(tasks[0], val=first), *tasks[1:]], exam


class Unseeded(Pictures):
    def open(self, seed):
        tasks, exam = super().open(seed)
        order = np.random.default_rng().permutation(len(tasks[0].train))
        return [replace(tasks[0], train=tasks[0].train.select(order)), *tasks[1:]], exam


class Unsealed(Pictures):
    def open(self, seed):
        tasks, exam = super().open(seed)
        tasks[0].train.__dict__["exam"] = exam
        return tasks, exam


@pytest.mark.parametrize(
    ("cls", "promise"),
    [(Overlapping, "disjoint"), (Unseeded, "same seed"), (Unsealed, "sealed")],
)
def test_a_broken_stream_is_caught(cls, promise, monkeypatch):
    monkeypatch.setattr(Pictures, "accepts", classmethod(lambda cls, name: True))
    failed = [v.promise for v in check_stream("pictures", lambda: cls("task")) if v.status == "failed"]
    assert failed == [promise]
    assert not [v for v in check_stream("pictures", lambda: Pictures("task")) if v.status == "failed"]
