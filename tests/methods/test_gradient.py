"""What `GradientMethod` promises those who write a method on it: hooks, stages, exemplars, heads, seeds."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import contract_lab as lab
import numpy as np
import pytest
import torch
from rounding import assert_same_to_rounding
from torch import Tensor

from backbones.augment import augment, crop
from backbones.training import NoJournal, Optimization
from benchmarks.images import Chunk, Inputs, Labelled
from benchmarks.naming import typed
from benchmarks.seeds import Seeds
from benchmarks.stream import StreamInfo
from carryover.new import TEMPLATES
from carryover.plugins.catalogue import method_class
from methods.base import Context, GradientMethod, Heads, Memory, Method

SMALL = Path(__file__).parent / "small"
SHORT = {"epochs": 3, "min_steps": 0, "batch_size": 16}


def template(kind: str, folder: Path) -> str:
    """A method as `carryover new method --kind KIND` writes it, as a file."""
    name = f"small_{kind}"
    text = (TEMPLATES / f"{kind}.py").read_text().replace("new_method", name)
    (folder / f"{name}.py").write_text(text.replace("NewMethod", f"Small{kind.title()}"))
    return str(folder / f"{name}.py")


def made(name: str, scenario: str, journal: Any = None, **options: object) -> GradientMethod:
    """A fresh instance on tiny_vit, with every image table at hand."""
    plugin, cls = method_class(name)
    config = typed(plugin.name, "option", cls.Config, {**SHORT, **options})
    info = lab.stream(scenario).info
    assert cls.supports(config, info, lab.backbone("tiny_vit").info) is None
    tables = {}
    for task in lab.opened(scenario)[0]:
        for chunk in task.train.inputs.chunks:
            tables[chunk.content] = chunk.table
    seeds = Seeds(info.identity, 0, cls.name)
    context = Context(info, seeds, journal=journal or NoJournal(), tables=tables, workers=0)
    torch.manual_seed(0)
    method = cls(config, lab.backbone("tiny_vit").copy(), context)
    assert isinstance(method, GradientMethod)
    return method


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[n]) for n, tensor in one.items())


# Stages, memory and gradient hooks, killed and gone on with


class KilledError(BaseException):
    pass


class Journal:
    """Keeps everything, and dies after the save of number `last`."""

    def __init__(self, last: int | None = None) -> None:
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.saves, self.last = 0, last

    def due(self) -> bool:
        return True

    def load(self, stage: str) -> dict[str, Tensor] | None:
        return self.kept.get(stage)

    def save(self, stage: str, tensors: dict[str, Tensor]) -> None:
        self.kept[stage] = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self.saves += 1
        if self.saves == self.last:
            raise KilledError


SCENARIOS = [
    pytest.param("task", marks=pytest.mark.slow),
    "class",
    pytest.param("domain", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", ["replay", "averaged_gradient", "two_stages", "penalty", "distillation"])
def test_killed_at_every_save_of_a_task_it_ends_the_same(name: str, scenario: str, tmp_path: Path) -> None:
    path = f"{SMALL / name}.py" if (SMALL / f"{name}.py").exists() else template(name, tmp_path)
    options = {"replay": {"memory": 10, "replayed": 4}}.get(name, {})
    first, second, _ = lab.opened(scenario)[0]
    calm = made(path, scenario, Journal(), **options)
    calm.learn(first)
    begun = {name: tensor.clone() for name, tensor in calm.state().items()}
    calm.context.journal.kept.clear()  # type: ignore[attr-defined]
    before = calm.context.journal.saves  # type: ignore[attr-defined]
    calm.learn(second)
    saves = calm.context.journal.saves - before  # type: ignore[attr-defined]
    assert saves >= 2
    for last in range(1, saves + 1):
        journal = Journal(last)
        killed = made(path, scenario, journal, **options)
        killed.restore(begun)
        with pytest.raises(KilledError):
            killed.learn(second)
        again = made(path, scenario, journal, **options)
        again.restore(begun)
        again.learn(second)
        assert same(again.state(), calm.state()), f"killed after save {last}"
        assert (again.passes, again.replayed) == (calm.passes, calm.replayed)
        assert dataclasses.astuple(again.footprint()) == dataclasses.astuple(calm.footprint())


def test_a_stage_that_is_over_is_not_trained_again() -> None:
    first = lab.opened("class")[0][0]
    calm = made(f"{SMALL / 'two_stages'}.py", "class", Journal())
    seen = type(calm).seen
    seen.clear()
    calm.learn(first)
    assert [stage for stage, _ in itertools.groupby(seen)] == ["warm-up", "all", "rest", "alignment"]
    of_all = seen.count("all")
    journal = Journal(2)  # of the first epoch of the second stage: the first stage's end is the first save
    killed = made(f"{SMALL / 'two_stages'}.py", "class", journal)
    with pytest.raises(KilledError):
        killed.learn(first)
    seen.clear()
    made(f"{SMALL / 'two_stages'}.py", "class", journal).learn(first)
    assert "warm-up" not in seen
    assert seen.count("all") < of_all


def test_the_gradient_hook_is_asked_between_gradient_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_moves(self: GradientMethod, step: Any) -> None:
        for group in self.groups():
            for parameter in group.parameters:
                if parameter.grad is not None:
                    parameter.grad.zero_()

    plain = method_class("full_finetune")[1]
    monkeypatch.setattr(plain, "after_backward", nothing_moves)
    method = made("full_finetune", "task", optimizer="sgd", weight_decay=0.0)
    before = {name: tensor.clone() for name, tensor in method.backbone.changing().items()}
    method.learn(lab.opened("task")[0][0])
    assert same(before, method.backbone.changing())


def test_a_gradient_that_would_hurt_is_projected_and_no_other() -> None:
    method = made(f"{SMALL / 'averaged_gradient'}.py", "class", lr=0.05, head_lr=0.05)
    first, second, _ = lab.opened("class")[0]
    method.learn(first)
    assert method.projected == 0  # type: ignore[attr-defined]
    assert len(method.memory) == 12  # type: ignore[arg-type]
    method.learn(second)
    assert method.projected > 0  # type: ignore[attr-defined]


# Two methods start alike


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(
    ("kind", "off"),
    [("replay", {"memory": 0}), ("distillation", {"strength": 0.0}), ("penalty", {"strength": 0.0})],
)
def test_with_its_extra_turned_off_a_method_is_full_fine_tuning_to_the_bit(
    kind: str, off: dict[str, object], scenario: str, tmp_path: Path
) -> None:
    shared = {"lr": 5e-4, "head_lr": 2e-3}
    plain, other = (
        made("full_finetune", scenario, **shared),
        made(template(kind, tmp_path), scenario, **shared, **off),
    )
    for task in lab.opened(scenario)[0]:
        plain.learn(task)
        other.learn(task)
    found = {name: tensor for name, tensor in other.state().items() if name in plain.state()}
    assert same(plain.state(), found)
    assert (plain.passes, other.replayed) == (other.passes, 0)


def test_the_first_task_of_a_penalty_is_full_fine_tuning_and_the_second_is_not(tmp_path: Path) -> None:
    plain = made("full_finetune", "class", lr=5e-4)
    other = made(template("penalty", tmp_path), "class", lr=5e-4, strength=1e4)
    first, second, _ = lab.opened("class")[0]
    for method in (plain, other):
        method.learn(first)
    assert torch.equal(*(m.state()["net.blocks.0.attn.qkv.weight"] for m in (plain, other)))
    for method in (plain, other):
        method.learn(second)
    assert not torch.equal(*(m.state()["net.blocks.0.attn.qkv.weight"] for m in (plain, other)))


@pytest.mark.parametrize(("kind", "most"), [("replay", 40), ("distillation", 40), ("penalty", 50)])
def test_a_small_method_is_small(kind: str, most: int) -> None:
    text = (TEMPLATES / f"{kind}.py").read_text()
    bare = re.sub(r'"""(?:.|\n)*?"""', "", text)
    lines = [line for line in bare.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(lines) <= most


# Columns


def test_with_own_columns_old_rows_keep_their_bits_and_alone_the_new_head_trains() -> None:
    own, seen = made("full_finetune", "class", columns="own"), made("full_finetune", "class")
    first, second, _ = lab.opened("class")[0]
    for method in (own, seen):
        method.learn(first)
    rows = {name: tensor.clone() for name, tensor in own.heads.linears["0"].state_dict().items()}
    for method in (own, seen):
        method.learn(second)
    assert same(rows, own.heads.linears["0"].state_dict())
    assert not same(rows, seen.heads.linears["0"].state_dict())
    assert own.footprint().head == 2 * (own.backbone.info.width + 1)


@pytest.mark.parametrize("scenario", ["task", "domain"])
def test_where_there_is_no_choice_of_columns_it_is_refused(scenario: str) -> None:
    for name in ("full_finetune", "lora", "vpt_deep", "toast", "bitfit"):
        cls = method_class(name)[1]
        config = typed(name, "option", cls.Config, {"columns": "own"})
        said = cls.supports(config, lab.stream(scenario).info, lab.backbone("tiny_vit").info)
        assert said is not None
        assert "columns=own" in said


def info_of(*tasks: tuple[int, ...], scenario: str = "class") -> StreamInfo:
    names = tuple(f"class {number}" for number in range(1 + max(map(max, tasks))))
    sizes = tuple((10, 0, 10) for _ in tasks)
    return StreamInfo("told", "continual", scenario, tasks, names, 0, "data", "rule", (2, 2), sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", ["own", "seen"])
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_class_that_comes_back_keeps_its_column(kind: Any, columns: Any) -> None:
    info, seeds = info_of((3, 1), (0, 3, 2)), Seeds("stream", 0, "method")
    heads = Heads(info, 4, seeds, kind=kind, columns=columns)
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    heads.open(0)
    before = heads(features, None)
    heads.open(1)
    after = heads(features, None)
    assert after.shape == (5, 4)  # 3, 1, 0, 2: in the order in which they came
    assert_same_to_rounding(lambda: heads(features, None)[:, :2], before)  # of a wider product
    targets = torch.tensor([[1, 0], [1, 1], [1, 2], [0, 0], [0, 1]])
    assert heads.logits(features, targets, [0, 1]).columns.tolist() == [2, 0, 3, 0, 1]
    trained = heads.trained([1])
    rows = sum(parameter.numel() for name, parameter in trained.items() if name.endswith("weight")) // 4
    assert rows == (3 if columns == "own" else 4)
    other = Heads(info, 4, Seeds("stream", 1, "method"), kind=kind, columns=columns)
    other.restore({name: tensor.clone() for name, tensor in heads.stored().items()}, [0, 1])
    assert torch.equal(other(features, None), after)


def test_own_columns_alone_are_in_the_loss() -> None:
    info = info_of((0, 1), (2, 3))
    heads = Heads(info, 4, Seeds("stream", 0, "method"), columns="own")
    heads.open(0)
    heads.open(1)
    features = torch.randn(6, 4)
    targets = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1], [1, 0], [1, 1]])
    found = heads.logits(features, targets, [0, 1])
    logits = heads(features, None)
    wanted = torch.stack(
        [
            torch.nn.functional.cross_entropy(logits[i : i + 1, 2 * t : 2 * t + 2], label[None])
            for i, (t, label) in enumerate(targets)
        ]
    ).mean()
    assert found.cross_entropy().item() == pytest.approx(wanted.item(), rel=1e-5)
    smooth = torch.stack(
        [
            torch.nn.functional.cross_entropy(
                logits[i : i + 1, 2 * t : 2 * t + 2], label[None], label_smoothing=0.2
            )
            for i, (t, label) in enumerate(targets)
        ]
    ).mean()
    assert found.cross_entropy(0.2).item() == pytest.approx(smooth.item(), rel=1e-5)


def test_a_cosine_head_is_learnt_with_its_scale() -> None:
    method = made("full_finetune", "class", head="cosine")
    before = float(method.heads.scale)
    method.learn(lab.opened("class")[0][0])
    assert float(method.heads.scale) != before
    logits = method.predict(lab.opened("class")[1].inputs(0), None)
    assert float(logits.abs().max()) <= abs(float(method.heads.scale)) * (1 + 1e-5)
    fresh = made("full_finetune", "class", head="cosine")
    fresh.restore(method.state())
    assert torch.equal(fresh.predict(lab.opened("class")[1].inputs(0), None), logits)


def test_who_starts_over_has_the_columns_in_the_order_learnt() -> None:
    method = made("joint", "class", epochs=150, lr=1e-3, head_lr=0.02)  # enough, whatever is drawn
    tasks, _ = lab.opened("class")
    for task in tasks:
        method.learn(task)
    assert list(method.columns()) == method.heads._order
    fresh = made("joint", "class")
    fresh.restore(method.state())
    right = []
    for task in tasks:
        logits = method.predict(task.train.inputs, None)
        assert torch.equal(logits, fresh.predict(task.train.inputs, None))
        chosen = np.asarray(method.columns())[logits.numpy().argmax(1)]
        right.append((chosen == np.asarray(task.classes)[task.train.labels]).mean())
    assert np.mean(right) > 0.6  # of six classes; columns in another order would leave chance or less


# Exemplars


def data_of(images: int, content: str = "pictures") -> tuple[Labelled, Chunk]:
    chunk = Chunk(np.zeros((images, 2, 2, 3), np.uint8), np.arange(images), content)
    labels = np.arange(images) % 2
    return Labelled(Inputs([chunk]), labels, ("a", "b")), chunk


def memory_of(capacity: int | None, rule: Any, seed: int = 0, images: int = 40) -> tuple[Memory, Labelled]:
    data, chunk = data_of(images)
    tables = {chunk.content: chunk.table}
    context = Context(info_of((0, 1), (2, 3), (4, 5)), Seeds("stream", seed, "method"), tables=tables)
    return Memory(context, capacity, rule), data


def rows_of(memory: Memory) -> list[int]:
    return [row for _, row, _, _ in memory.state()["items"].tolist()]


def test_every_image_is_as_likely_in_a_reservoir() -> None:
    runs, capacity, images = 600, 10, 40
    counts = np.zeros(images)
    for seed in range(runs):
        memory, data = memory_of(capacity, "reservoir", seed)
        memory.offer(0, data)
        assert len(memory) == capacity
        counts[rows_of(memory)] += 1
    expected = capacity / images
    error = np.sqrt(expected * (1 - expected) / runs)
    assert np.abs(counts / runs - expected).max() < 4.5 * error


def test_a_balanced_memory_gives_every_class_its_share_and_takes_from_the_last() -> None:
    memory, data = memory_of(10, "class_balanced")
    memory.offer(0, data)
    first = memory.state()["items"]
    assert torch.bincount(first[:, 3]).tolist() == [5, 5]
    memory.offer(1, data)
    items = memory.state()["items"]
    shares = [
        int(((items[:, 2] == task) & (items[:, 3] == label)).sum()) for task in (0, 1) for label in (0, 1)
    ]
    assert shares == [3, 3, 2, 2]
    for label in (0, 1):  # what stays is what was first
        kept = items[(items[:, 2] == 0) & (items[:, 3] == label)]
        assert torch.equal(kept, first[first[:, 3] == label][:3])


@pytest.mark.parametrize("rule", ["all", "reservoir", "class_balanced"])
def test_a_memory_that_is_restored_goes_on_alike(rule: Any) -> None:
    capacity = None if rule == "all" else 7
    one, data = memory_of(capacity, rule)
    one.offer(0, data)
    one.draw(3)
    other, _ = memory_of(capacity, rule)
    other.restore(one.state())
    for memory in (one, other):
        memory.offer(1, data, np.array([5, 3, 8]))
    assert same(one.state(), other.state())
    drawn = [memory.draw(4) for memory in (one, other)]
    assert drawn[0] is not None
    assert drawn[1] is not None
    assert np.array_equal(drawn[0][0].ids, drawn[1][0].ids)
    assert np.array_equal(drawn[0][1], drawn[1][1])
    assert one.bits == len(one) * 2 * 2 * 24


def test_a_draw_holds_no_image_twice_and_never_more_than_there_are() -> None:
    memory, data = memory_of(6, "reservoir")
    assert memory.draw(3) is None
    memory.offer(0, data)
    for count in (3, 6, 50):
        drawn = memory.draw(count)
        assert drawn is not None
        assert len(set(drawn[0].ids.tolist())) == len(drawn[0]) == min(count, 6)


def test_images_of_several_tables_come_back_with_their_labels() -> None:
    memory, data = memory_of(None, "all")
    other, chunk = data_of(6, "others")
    memory.context.tables[chunk.content] = chunk.table  # type: ignore[index]
    memory.offer(0, data)
    memory.offer(1, other)
    inputs, targets = memory.draw(46)  # type: ignore[misc]
    assert sorted(zip(targets[:, 0], inputs.ids, strict=True)) == [
        *((0, row) for row in range(40)),
        *((1, row) for row in range(6)),
    ]
    assert (targets[:, 1] == inputs.ids % 2).all()


def test_what_a_method_replays_is_counted_and_stored_in_pixels(tmp_path: Path) -> None:
    method = made(template("replay", tmp_path), "class", memory=10, replayed=4)
    plain = made("full_finetune", "class")
    for task in lab.opened("class")[0][:2]:
        method.learn(task)
        plain.learn(task)
    steps = 3 * 2  # epochs of 22 images in batches of 16
    assert method.passes == plain.passes == 3 * 22
    assert method.replayed == 4 * steps
    assert method.footprint().exemplars == 10
    assert method.footprint().stored_bits - plain.footprint().stored_bits == 10 * 32 * 32 * 24


# Recipes as options


def test_schedules() -> None:
    steps = Optimization(10, schedule="steps", milestones=(0.5, 0.75))
    assert [round(steps.rate(step, 20), 4) for step in (0, 9, 10, 14, 15, 19)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert {Optimization(10, schedule="constant").rate(step, 20) for step in range(20)} == {1.0}
    assert Optimization(10, 1.0, schedule="constant").rate(0, 20) < 1


def test_random_crops() -> None:
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def cropped(seed: int, scale: float = 0.2) -> Tensor:
        return crop(images, scale, torch.Generator().manual_seed(seed))

    assert torch.equal(cropped(1), cropped(1))
    assert not torch.equal(cropped(1), cropped(2))
    assert cropped(1).shape == images.shape
    assert float(cropped(1).min()) >= float(images.min()) - 1e-6
    assert float(cropped(1).max()) <= float(images.max()) + 1e-6
    flat = torch.full((4, 3, 8, 8), 0.25)
    assert torch.allclose(crop(flat, 0.1, torch.Generator().manual_seed(0)), flat, atol=1e-6)
    ramp = torch.arange(16.0).expand(200, 3, 16, 16)
    shown = crop(ramp, 0.25, torch.Generator().manual_seed(0))
    across = (shown[:, 0, 0, -1] - shown[:, 0, 0, 0]) / 15  # the share of the width that is shown
    assert 0.4 < float(across.min()) < 0.6
    assert float(across.max()) <= 1
    plain = augment(images, "crop", False, torch.Generator().manual_seed(1), 0.2)
    assert torch.equal(plain, cropped(1))


@pytest.mark.parametrize(
    "options",
    [
        {"augment": "crop"},
        {"optimizer": "sgd", "momentum": 0.0, "schedule": "steps"},
        {"clip_norm": 0.1, "schedule": "constant"},
    ],
)
def test_a_paper_s_recipe_is_options(options: dict[str, object]) -> None:
    found: list[Method] = []
    for _ in range(2):
        method = made("full_finetune", "class", **options)
        method.learn(lab.opened("class")[0][0])
        found.append(method)
    plain = made("full_finetune", "class")
    plain.learn(lab.opened("class")[0][0])
    assert same(found[0].state(), found[1].state())
    assert not same(found[0].state(), plain.state())
