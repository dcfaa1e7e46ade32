"""Pretraining: every objective on every family, killed runs, and what cannot be trained."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.backbone import open_backbone
from backbones.numerics import Numerics
from backbones.pretraining.augmentation import Augmentation, Mixing
from backbones.pretraining.card import Card, read_card
from backbones.pretraining.curve import read_curve
from backbones.pretraining.evaluation import top1
from backbones.pretraining.run import Plan, RunContext, pretrain
from backbones.pretraining.settings import DEFAULTS, Settings, Stage, size_at, stages_of
from backbones.pretraining.supervised import Supervised
from backbones.training import NoJournal
from backbones.weights import with_classifier
from benchmarks.errors import RequestError
from benchmarks.progress import Silent
from benchmarks.sources.lookup import open_source
from benchmarks.sources.source import SourceData
from benchmarks.store import Store

NUMERICS = Numerics()
SHORT = {"epochs": 3, "batch_size": 16, "warmup_epochs": 1.0}
PAIRS = [
    ("supervised", "tiny_vit"),
    ("supervised", "tiny_swin"),
    ("supervised", "tiny_convnet"),
    ("mae", "tiny_vit"),
    ("simclr", "tiny_vit"),
    ("simclr", "tiny_swin"),
    ("simclr", "tiny_convnet"),
]


class Stopped(Exception):
    """The process died here."""


class Kept:
    """A journal in memory that may die right after a save; like a file, it keeps no strides."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, Tensor]] = {}
        self.left = 0  # saves until it dies; 0: it does not

    def load(self, stage: str) -> dict[str, Tensor] | None:
        return self.stages.get(stage)

    def due(self) -> bool:
        return True

    def save(self, stage: str, tensors: dict[str, Tensor]) -> None:
        self.stages[stage] = {
            name: tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        self.left -= 1
        if self.left == 0:
            raise Stopped


@pytest.fixture(scope="module")
def source(pictures: Path) -> SourceData:
    return open_source(f"folder:{pictures}").load(Store.default(), Silent())


def make(
    folder: Path,
    source: SourceData,
    backbone: str = "tiny_vit",
    objective: str = "supervised",
    journal: object = None,
    probes: dict[str, SourceData] | None = None,
    **settings: object,
) -> Card:
    chosen = Settings(**{**DEFAULTS[objective], **SHORT, **settings})  # type: ignore[arg-type]
    plan = Plan("made", backbone, objective, "pictures", source, chosen)
    context = RunContext(folder, NUMERICS, Store.default(), journal or NoJournal(), Silent())  # type: ignore[arg-type]
    return pretrain(plan, context, probes or {})


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture of the curve, which takes as long as such a training."""
    monkeypatch.setattr("backbones.pretraining.run.draw_curve", lambda *_: None)


@pytest.mark.parametrize(("objective", "backbone"), PAIRS)
def test_every_objective_leaves_weights_that_open_by_name(
    tmp_path: Path, source: SourceData, objective: str, backbone: str
) -> None:
    card = make(tmp_path, source, backbone, objective, probes={"pictures": source})
    path = tmp_path / "made.safetensors"
    opened = open_backbone(f"{backbone}?weights={path}", numerics=NUMERICS)
    plain = open_backbone(backbone, numerics=NUMERICS)
    assert opened.weights != plain.weights
    assert opened.info.parameters == card.parameters
    learnt = {name for name, _ in opened.net.named_parameters()}
    assert all(tensor.dtype == torch.float16 for name, tensor in load_file(path).items() if name in learnt)
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_card(tmp_path / "made.json") == card
    assert card.backbone in (tmp_path / "made.md").read_text()
    assert 0 <= card.probes["pictures"]["linear"] <= 1
    assert (tmp_path / "made.png").stat().st_size > 1000
    points = read_curve(tmp_path / "made.csv")
    assert [point.epoch for point in points] == [1, 2, 3]
    assert all(np.isfinite(point.validation) for point in points)
    assert (card.top1 is not None) == (objective == "supervised")


@pytest.mark.usefixtures("undrawn")
def test_the_card_s_accuracy_is_that_of_the_file(tmp_path: Path, source: SourceData) -> None:
    # Long enough, without what regularises, to know its training images: chance is 1/6.
    plain = {"augment": "none", "mixup": 0.0, "cutmix": 0.0, "ema": 0.0, "label_smoothing": 0.0}
    card = make(tmp_path, source, "tiny_convnet", epochs=12, lr=0.01, **plain)
    name = f"tiny_convnet?weights={tmp_path}/made.safetensors"
    preprocessing = open_backbone(name, numerics=NUMERICS).preprocessing
    assert card.top1 == top1(with_classifier(name), source.test, preprocessing, NUMERICS, Silent())
    assert card.top1 is not None
    assert card.top1 > 0.5


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("backbone", "objective", "settings"),
    [
        ("tiny_vit", "supervised", {}),
        ("tiny_vit?drop_path_rate=0.2", "supervised", {"sizes": "16:2,32:1"}),
        ("tiny_convnet", "supervised", {"ema": 0.9}),
        ("tiny_vit", "mae", {}),
        ("tiny_convnet", "simclr", {"ema": 0.0}),
    ],
)
def test_a_run_killed_after_each_epoch_ends_with_the_same_bytes(
    tmp_path: Path,
    source: SourceData,
    backbone: str,
    objective: str,
    settings: dict[str, object],
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = make(whole, source, backbone, objective, **settings)
    journal = Kept()
    for _ in range(2):
        journal.left = 1
        with pytest.raises(Stopped):
            make(parts, source, backbone, objective, journal, **settings)
        assert not (parts / "made.safetensors").exists()
        torch.manual_seed(99)  # another process's global state
    found = make(parts, source, backbone, objective, journal, **settings)
    assert found.sha256 == expected.sha256
    lost = [dataclasses.replace(point, seconds=0) for point in read_curve(parts / "made.csv")]
    assert lost == [dataclasses.replace(point, seconds=0) for point in read_curve(whole / "made.csv")]


@pytest.mark.usefixtures("undrawn")
def test_the_seed_and_nothing_else_changes_the_weights(tmp_path: Path, source: SourceData) -> None:
    hashes = [
        make(tmp_path / name, source, seed=seed).sha256 for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_swin", "tiny_convnet"])
def test_resolution_grows_over_the_epochs(tmp_path: Path, source: SourceData, backbone: str) -> None:
    make(tmp_path, source, backbone, sizes="16:1,24:1,32:1")
    assert [point.size for point in read_curve(tmp_path / "made.csv")] == [16, 24, 32]
    assert open_backbone(f"{backbone}?weights={tmp_path}/made.safetensors").info.input_size == (32, 32)


def test_stages_are_read_as_written() -> None:
    stages = stages_of(Settings(sizes="32:22,64:6"), 64)
    assert stages == (Stage(32, 22), Stage(64, 6))
    assert [size_at(stages, epoch) for epoch in (0, 21, 22, 27)] == [32, 32, 64, 64]
    assert stages_of(Settings(epochs=7), 64) == (Stage(64, 7),)


@pytest.mark.usefixtures("undrawn")
def test_training_goes_on_from_weights_that_are_named(tmp_path: Path, source: SourceData) -> None:
    make(tmp_path / "first", source, objective="mae")
    start = f"tiny_vit?weights={tmp_path}/first/made.safetensors"
    card = make(tmp_path / "second", source, start, lr=0.0, weight_decay=0.0, ema=0.0)
    assert card.backbone == "tiny_vit"  # the file that it started from does not name the network
    before = open_backbone(start, numerics=NUMERICS)
    after = open_backbone(f"tiny_vit?weights={tmp_path}/second/made.safetensors", numerics=NUMERICS)
    for name, tensor in after.net.state_dict().items():  # a rate of 0: it is where it began
        assert torch.equal(tensor, before.net.state_dict()[name])


# Objectives and what they are given.


def classifier(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5))


def test_the_loss_of_a_pupil_is_that_of_the_formula() -> None:
    net, teacher = classifier(0), classifier(1)
    images, labels = torch.randn(6, 3, 4, 4), torch.tensor([0, 1, 2, 3, 4, 0])
    logits, wanted = net(images), teacher(images)
    p, q = (F.softmax(x / 2, 1) for x in (logits, wanted))
    expected = 0.7 * F.cross_entropy(logits, labels) + 0.3 * 4 * (q * (q / p).log()).sum(1).mean()
    objective = Supervised(net, 0.0, teacher, distill=0.3, temperature=2.0)
    torch.testing.assert_close(objective(images, labels), expected)
    assert {name for name, _ in objective.named_parameters()} == {"net.1.weight", "net.1.bias"}
    objective(images, labels).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize(("smallest", "asked"), [(5, False), (4, True)])
def test_a_teacher_is_not_asked_about_images_smaller_than_said(smallest: int, asked: bool) -> None:
    images, labels = torch.randn(6, 3, 4, 4), torch.tensor([0, 1, 2, 3, 4, 0])
    taught = Supervised(classifier(0), 0.1, classifier(1), taught_from=smallest)
    alone = Supervised(classifier(0), 0.1)
    assert torch.equal(taught(images, labels), alone(images, labels)) is not asked


def test_a_pupil_equal_to_its_teacher_has_nothing_to_match() -> None:
    objective = Supervised(classifier(0), 0.0, classifier(0), distill=1.0)
    loss = objective(torch.randn(6, 3, 4, 4), torch.zeros(6, dtype=torch.long)).detach()
    torch.testing.assert_close(loss, torch.zeros(()))


def pixels() -> Tensor:
    drawn = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    return torch.from_numpy(drawn)


def augmentation(strong: bool = False, mirror: bool = True, **settings: object) -> Augmentation:
    half = (0.5, 0.5, 0.5)
    return Augmentation(Settings(**settings), half, half, strong=strong, mirror=mirror)  # type: ignore[arg-type]


def test_without_augmentation_images_are_only_normalised() -> None:
    torch.testing.assert_close(
        augmentation(augment="none")(pixels(), 32), pixels().permute(0, 3, 1, 2) / 127.5 - 1
    )


def test_views_are_drawn_for_each_image_from_the_global_generator() -> None:
    augment = augmentation(strong=True)
    same = pixels()[:1].expand(6, -1, -1, -1)
    torch.manual_seed(1)
    first = augment(same, 16, views=2)
    torch.manual_seed(1)
    assert torch.equal(augment(same, 16, views=2), first)
    assert first.shape == (12, 3, 16, 16)
    assert len({bytes(view.numpy().tobytes()) for view in first}) == 12  # no two alike
    assert float(first.abs().max()) <= 1 + 1e-5


def test_images_that_must_not_be_mirrored_are_not() -> None:
    image = torch.zeros(64, 32, 32, 3, dtype=torch.uint8)
    image[:, :, 16:] = 255  # dark left, bright right
    for mirror in (False, True):
        torch.manual_seed(0)
        views = augmentation(mirror=mirror, augment="crop", crop=0.99)(image, 32)
        left, right = views[..., :8].mean((1, 2, 3)), views[..., -8:].mean((1, 2, 3))
        assert bool((left < right).all()) is not mirror


def test_mixed_targets_are_shares_of_classes() -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(8, 3, 4, 4), torch.arange(8) % 4
    mixed, targets = Mixing(Settings(), 4)(images, labels)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert not torch.equal(mixed, images)
    kept, same = Mixing(Settings(mixup=0, cutmix=0), 4)(images, labels)
    assert kept is images
    assert same is labels


# Bad input.


def small(source: SourceData, classes: int) -> SourceData:
    """The first classes of a source."""
    names = source.class_names[:classes]

    def part(data: object) -> object:
        rows = np.flatnonzero(data.labels < classes)  # type: ignore[attr-defined]
        chosen = data.select(rows)  # type: ignore[attr-defined]
        return dataclasses.replace(chosen, class_names=names)

    return dataclasses.replace(
        source,
        train=part(source.train),  # type: ignore[arg-type]
        test=part(source.test),  # type: ignore[arg-type]
        class_names=names,
        fingerprint=f"{classes} classes",
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"backbone": "tiny_vit?img_size=64&patch_size=64"},
            "have 32 pixels a side, less than the network's",
        ),
        ({"sizes": "20:2,32:1"}, "patch 8x8 does not divide images of 20 px; take a multiple of 8"),
        ({"sizes": "16:2"}, "ends at 16 px, but the network is used at 32"),
        ({"sizes": "16x2,32:1"}, "'16x2' is not SIZE:EPOCHS"),
        ({"objective": "mae", "backbone": "tiny_swin"}, "mae"),
        ({"objective": "mae", "sizes": "16:1,32:1"}, "position code for one size"),
        ({"crop": 0.0}, "crop=0.0 lies outside"),
        ({"batch_size": 1}, "batch_size=1 lies outside"),
        ({"teacher": "tiny_vit"}, "no weights file with a classifier"),
        ({"backbone": "tiny_vit?img_size=32,64"}, "square images"),
        ({"backbone": "tiny_vit?weights=/nowhere.safetensors"}, "does not exist"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_written(
    tmp_path: Path, source: SourceData, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(RequestError) as caught:
        make(tmp_path / "out", source, **settings)  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_one_class_is_nothing_to_tell_apart_but_enough_for_mae(tmp_path: Path, source: SourceData) -> None:
    with pytest.raises(RequestError, match="has one class"):
        make(tmp_path / "a", small(source, 1))
    assert make(tmp_path / "b", small(source, 1), objective="mae").classes == 1


@pytest.fixture(scope="module")
def trained(source: SourceData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make(folder, source, "tiny_convnet")
    return folder


@pytest.mark.usefixtures("undrawn")
def test_a_teacher_must_know_the_classes_and_see_the_same_pixels(
    tmp_path: Path, source: SourceData, trained: Path
) -> None:
    teacher = f"tiny_convnet?weights={trained}/made.safetensors"
    plain, taught = make(tmp_path / "plain", source), make(tmp_path / "taught", source, teacher=teacher)
    assert plain.sha256 != taught.sha256
    with pytest.raises(RequestError, match="has 6 classes, but the source has 4"):
        make(tmp_path / "four", small(source, 4), teacher=teacher)
    with pytest.raises(RequestError, match="give both the same mean and std"):
        make(tmp_path / "other", source, "tiny_vit?mean=imagenet", teacher=teacher)
    headless = load_file(trained / "made.safetensors")
    from safetensors.torch import save_file

    save_file({n: t for n, t in headless.items() if not n.startswith("fc.")}, tmp_path / "bare.safetensors")
    with pytest.raises(RequestError, match="hold no classifier"):
        make(tmp_path / "bare", source, teacher=f"tiny_convnet?weights={tmp_path}/bare.safetensors")


@pytest.mark.usefixtures("undrawn")
def test_another_run_does_not_write_over_this_one(tmp_path: Path, source: SourceData) -> None:
    make(tmp_path, source)
    before = (tmp_path / "made.safetensors").read_bytes()
    with pytest.raises(RequestError, match=r"belongs to another run \(it differs in settings"):
        make(tmp_path, source, lr=0.5)
    assert (tmp_path / "made.safetensors").read_bytes() == before


@pytest.mark.usefixtures("undrawn")
def test_weights_that_differ_from_their_card_are_refused(tmp_path: Path, source: SourceData) -> None:
    make(tmp_path, source)
    name = f"tiny_vit?weights={tmp_path}/made.safetensors"
    card = json.loads((tmp_path / "made.json").read_text())
    (tmp_path / "made.json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    for door in (open_backbone, with_classifier):
        with pytest.raises(RequestError, match="their card says 000000000000"):
            door(name)
    (tmp_path / "made.json").write_text("{")
    with pytest.raises(RequestError, match="is damaged"):
        open_backbone(name)
