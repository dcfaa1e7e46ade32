"""Promises about the stored state: what it holds, what it restores, what it costs."""

from __future__ import annotations

import itertools

import safetensors.torch
import torch
from torch import Tensor

from benchmarks.images import Labelled
from carryover.check.subject import Subject
from carryover.check.verdict import BrokenError, expect, not_applicable
from carryover.protocols.continual import state_digest
from methods.base.method import stored_bits

LEARNT, REFERENCES = (
    "learnt",
    "memory.",
)  # every state has the first; the second names exemplars without storing them


def held_by_safetensors(subject: Subject) -> None:
    """The state is a dict of tensors that safetensors can hold, `learnt` among them."""
    learnt = subject.learnt
    for step, kept in enumerate(learnt.states):
        if isinstance(kept, Exception):
            state = learnt.method.state()
            odd = [f"{n!r} is a {type(t).__name__}" for n, t in state.items() if not isinstance(t, Tensor)]
            seen = "; ".join(odd) or f"{type(kept).__name__}: {kept}"
            raise BrokenError("a dict of tensors that safetensors can hold", seen)
        found = safetensors.torch.load(kept)
        ids = list(range(step + 1))
        said = found[LEARNT].tolist() if LEARNT in found else None
        expect(said == ids, f"the tasks {ids} under 'learnt' after {step + 1} of them", f"{said}")


def restored(subject: Subject) -> None:
    """A fresh instance that restores a state predicts the same bits, in any order of tasks."""
    method, state = subject.learnt.method, subject.learnt.state(-1)
    fresh = subject.restored(state)
    same = state_digest(fresh.state()) == state_digest(safetensors.torch.load(state))
    expect(same, "the state that was restored", _differing(fresh.state(), safetensors.torch.load(state)))
    for name, found, wanted in (
        ("learnt", fresh.learnt, method.learnt),
        ("columns()", fresh.columns(), method.columns()),
        ("footprint()", fresh.footprint(), method.footprint()),
    ):
        expect(found == wanted, f"{name} = {wanted}", f"{found}")
    expected = subject.learnt.logits[-1]
    for task in reversed(expected):
        logits = fresh.predict(subject.lesson.exam.inputs(task), subject.lesson.known(task))
        same = torch.equal(logits, expected[task])
        expect(same, "the same bits as before", f"other logits for the images of task {task}")


def in_any_order(subject: Subject) -> None:
    """The order of the tensors in a state does not matter."""
    state = safetensors.torch.load(subject.learnt.state(-1))
    method = subject.prepared()
    method.restore({name: state[name] for name in sorted(state, reverse=True)})
    for task, logits in subject.logits(method).items():
        same = torch.equal(logits, subject.learnt.logits[-1][task])
        expect(same, "the same bits from the tensors in another order", f"other logits for task {task}")


def goes_on(subject: Subject) -> None:
    """Learning continues from a restored state with the same bits."""
    learnt, tasks = subject.learnt, subject.lesson.tasks
    if len(tasks) < 2:
        not_applicable("there is only one task")
    fresh = subject.restored(learnt.state(-2))
    fresh.learn(tasks[-1])
    wanted = safetensors.torch.load(learnt.state(-1))
    same = state_digest(fresh.state()) == state_digest(wanted)
    expect(same, "the state of an uninterrupted run", _differing(fresh.state(), wanted))
    found = fresh.observations()
    expect(found == learnt.observations[-1], f"observations {learnt.observations[-1]}", f"{found}")
    kept = learnt.method.footprint()
    expect(fresh.footprint() == kept, f"{kept}", f"{fresh.footprint()}")


def state_for_tells(subject: Subject) -> None:
    """If `state_for` a task stays the same, its logits do too."""
    learnt = subject.learnt
    pairs = itertools.combinations(zip(learnt.digests, learnt.logits, strict=True), 2)
    for (before, then), (after, now) in pairs:
        for task in before.keys() & after.keys():
            if before[task] == after[task]:
                same = torch.equal(then[task], now[task])
                seen = f"the same state_for but other logits for task {task}: state_for misses something"
                expect(same, "the same logits from the same state_for", seen)


def forgets_nothing(subject: Subject) -> None:
    """A method that claims zero forgetting predicts the same logits after every task."""
    if not subject.forgets_nothing:
        not_applicable("the method does not claim zero forgetting here (per_task, with the task known)")
    learnt = subject.learnt
    if len(learnt.logits) < 2:
        not_applicable("there is only one task")
    for step, logits in enumerate(learnt.logits):
        for task, then in logits.items():
            now = learnt.logits[-1][task]
            seen = f"other logits for task {task} at the end than after task {step}"
            expect(torch.equal(now, then), "the same logits after every later task", seen)
            same = learnt.digests[step][task] == learnt.digests[-1][task]
            expect(same, f"an unchanged state_for task {task}", "another state_for it at the end")


def footprint(subject: Subject) -> None:
    """`footprint` counts the bits that are really stored; exemplars count by their pixels."""
    method = subject.learnt.method
    said, state = method.footprint(), method.state()
    kept = {n: t for n, t in state.items() if n != LEARNT and not n.startswith(REFERENCES)}
    height, width = subject.lesson.info.image_size
    bits = stored_bits(kept) + said.exemplars * height * width * 24
    expect(
        said.stored_bits == bits, f"stored_bits={bits}, as in the state", f"stored_bits={said.stored_bits}"
    )
    items = state.get(f"{REFERENCES}items")
    named = items is not None and len(items) > 0
    seen = f"exemplars={said.exemplars}, and the state {'names' if named else 'names no'} {REFERENCES}*"
    expect(named == (said.exemplars > 0), "exemplars counted where the state refers to images", seen)


def trainable(subject: Subject) -> None:
    """`footprint` counts the parameters that train."""
    method = subject.learnt.method
    said = method.footprint()
    trained = sum(p.numel() for p in method.backbone.net.parameters() if p.requires_grad)
    seen = f"trainable={said.trainable}"
    expect(said.trainable == trained, f"trainable={trained}, as many as require a gradient", seen)
    expect(said.head >= 0 and said.exemplars >= 0, "no negative number", f"{said}")


def passes(subject: Subject) -> None:
    """`passes` counts every image that `learn` trained on, in every pass."""
    for task, counted in zip(subject.lesson.tasks, subject.learnt.passes, strict=True):
        data: Labelled = task.train
        seen = f"passes={counted!r} after task {task.id}"
        right = isinstance(counted, int) and counted >= len(data)
        expect(right, f"a whole number of at least {len(data)}, the images of the task", seen)


def _differing(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """The names that are missing, new, or differ in content."""
    missing, new = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    common = sorted(found.keys() & wanted.keys())
    other = [n for n in common if state_digest({"": found[n]}) != state_digest({"": wanted[n]})]
    told = (("missing", missing), ("new", new), ("different", other))
    return "; ".join(f"{what}: {', '.join(names[:4])}" for what, names in told if names) or "another state"
