"""Promises about the backbone that a method is given."""

from __future__ import annotations

from functools import partial

import torch

from carryover.check.rounding import Rounding
from carryover.check.subject import Subject
from carryover.check.verdict import expect, not_applicable
from methods.base import GradientMethod

WRAPPED = ".base_layer."  # where the peft library puts a layer that it wraps


def frozen_stays(subject: Subject) -> None:
    """What is frozen stays bit by bit as it was loaded, in the shared network too."""
    plain = dict(subject.backbone.net.state_dict())
    backbone = subject.learnt.method.backbone
    trained, compared = backbone.changing().keys(), 0
    for name, tensor in backbone.net.state_dict().items():
        name = name.replace(WRAPPED, ".")
        if name in plain and name not in trained:
            same = torch.equal(tensor, plain[name])
            expect(
                same, "every frozen tensor as it was loaded", f"another {name}, which requires no gradient"
            )
            compared += 1
    gone = len(plain) - compared - len(trained & plain.keys())
    expect(gone == 0, "every tensor of the network under its name", f"{gone} are gone")
    seen = "the network outside the method's own copy was changed"
    expect(subject.backbone.pristine, "changes in the method's own copy alone", seen)


def identity_at_init(subject: Subject) -> None:
    """With `identity_at_init` the features before learning are those of the plain network."""
    method = subject.prepared()
    if not (isinstance(method, GradientMethod) and method.identity_at_init):
        not_applicable("no claim that the first features are the plain network's (identity_at_init)")
    plain = subject.backbone
    task = subject.lesson.exam.tasks[0]
    images = plain.prepare(torch.from_numpy(subject.lesson.exam.inputs(task).pixels()))
    method.backbone.eval()
    with torch.no_grad():
        # What is inserted rounds as well, so it is the method's own features that are tried.
        apart = Rounding(partial(method.features, images)).unexplained(plain(images))
    expect(not apart, "the plain network's features before learning", f"features that differ {apart}")
