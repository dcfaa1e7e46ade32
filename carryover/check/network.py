"""Promises about the backbone that a method gets."""

from __future__ import annotations

from functools import partial

import torch

from carryover.check.subject import Subject
from carryover.check.verdict import expect, not_applicable
from carryover.protocols.rounding import Rounding
from methods.base import GradientMethod

WRAPPED = ".base_layer."  # the name that the peft library gives to a layer that it wraps


def frozen_stays(subject: Subject) -> None:
    """Frozen tensors keep every bit, in the shared network too."""
    plain = dict(subject.backbone.net.state_dict())
    backbone = subject.learnt.method.backbone
    trained, compared = backbone.changing().keys(), 0
    for name, tensor in backbone.net.state_dict().items():
        name = name.replace(WRAPPED, ".")
        if name in plain and name not in trained:
            same = torch.equal(tensor, plain[name])
            expect(
                same, "every frozen tensor as it was loaded", f"a changed {name}, which requires no gradient"
            )
            compared += 1
    gone = len(plain) - compared - len(trained & plain.keys())
    expect(gone == 0, "every tensor of the network under its name", f"{gone} are missing")
    seen = "the network outside the method's own copy changed"
    expect(subject.backbone.pristine, "changes only in the method's own copy", seen)


def identity_at_init(subject: Subject) -> None:
    """With `identity_at_init`, the features before training are those of the plain network."""
    method = subject.prepared()
    if not (isinstance(method, GradientMethod) and method.identity_at_init):
        not_applicable("the method does not claim identity_at_init")
    plain = subject.backbone
    task = subject.lesson.exam.tasks[0]
    images = plain.prepare(torch.from_numpy(subject.lesson.exam.inputs(task).pixels()))
    method.backbone.eval()
    with torch.no_grad():
        # Inserted modules round as well, so the bound is that of the method's own features.
        apart = Rounding(partial(method.features, images)).unexplained(plain(images))
    expect(not apart, "the plain network's features before training", f"features that differ {apart}")
