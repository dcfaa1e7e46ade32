"""What is tried of a method in a place, and how a broken promise is told."""

from __future__ import annotations

import dataclasses

import contract_cases as cases
import contract_lab as lab
from contract_lab import Case

from carryover.check.promises import PROMISES, Promise
from carryover.check.subject import Subject
from carryover.check.verdict import NotApplicableError, expect
from methods.base import GradientMethod

# At home alone: what does not depend on the place, or takes a training of its own.
AT_HOME = {"config", "cell", "generators", "NaN", "one class", "one image", "unknown task"}
# Episodes are in the tests of the few-shot protocol; a full training by default takes minutes.
ELSEWHERE = {"episodes", "defaults"}
# Where there may be nothing to try a promise on, whatever the place.
DEPENDS = {"learns", "identity at init", "NaN", "one class", "one image"}


def promises_of(case: Case) -> list[Promise]:
    """The promises tried in a place, in the order in which one needs another."""
    at_home = case == cases.home(case.method)
    long = not case.options and case.backbone == "tiny_vit" and case.scenario != "domain"
    left_out = ELSEWHERE if at_home else AT_HOME | ELSEWHERE
    left_out = left_out if at_home or long else left_out | {"learns"}
    return [*(promise for promise in PROMISES if promise.name not in left_out), *of_the_lab(case)]


def of_the_lab(case: Case) -> list[Promise]:
    """What can be promised of these streams and options alone."""
    images = sum(len(task.train) for task in lab.opened(case.scenario)[0])
    epochs = getattr(case.config, "epochs", None)

    def heads_are_counted(subject: Subject) -> None:
        method = subject.learnt.method
        columns = {"task": 2, "class": 6, "domain": 6}[case.scenario]
        heads = getattr(method, "heads", None)
        cosine = heads is not None and heads.kind == "cosine"  # no biases, perhaps one scale for all
        each = method.backbone.info.width + (not cosine)
        said, wanted = method.footprint(), columns * each + (cosine and heads.scale.requires_grad)
        if said.head and not said.exemplars:
            expect(said.head == wanted, f"a head of {wanted} parameters", f"{said.head}")

    def every_epoch_is_counted(subject: Subject) -> None:
        counted = sum(subject.learnt.passes)
        expect(counted == epochs * images, f"{epochs} epochs of {images} images", f"passes={counted}")

    found = [Promise("heads", heads_are_counted)]
    staged = issubclass(case.cls, GradientMethod) and case.cls.stages is not GradientMethod.stages
    if epochs and not staged and not case.options:
        found.append(Promise("every epoch", every_epoch_is_counted))
    return found


def learning(case: Case) -> Subject:
    """The subject with a rate that suits the longer training of `learns`."""
    rate = 1.0 if issubclass(case.cls, lab.found("meat")) else 1e-3
    known = {"lr": rate} if hasattr(case.config, "lr") else {}
    return dataclasses.replace(lab.subject(case), config=dataclasses.replace(case.config, **known))


def broken(case: Case) -> list[Exception]:
    """What broke of the promises of a place; one that needs a broken one is not tried."""
    subject, failed, found = lab.subject(case), set[str](), list[Exception]()
    claimed = {"forgetting": case.forgets_nothing, "unknown task": case.scenario == "task"}
    for promise in promises_of(case):
        if failed.intersection(promise.after):
            failed.add(promise.name)
            continue
        try:
            promise.check(learning(case) if promise.name == "learns" else subject)
        except Exception as error:
            nothing_to_try = isinstance(error, NotApplicableError)
            if nothing_to_try and (promise.name in DEPENDS or claimed.get(promise.name) is False):
                continue
            error.add_note(f"the promise {promise.name!r} of {case}")
            failed.add(promise.name)
            found.append(error)
    return found


def hold(case: Case) -> None:
    """All broken promises in one error that names them, with the numbers of each."""
    if errors := broken(case):
        told = "; ".join(f"{error.__notes__[-1]}: {error}" for error in errors)
        raise ExceptionGroup(told, errors)
