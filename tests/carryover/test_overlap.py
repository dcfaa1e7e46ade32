"""A stream whose images or classes a backbone was pretrained on says so, in its record and in every table."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny_cells import HERE, only_record, stream_of, words

from backbones.seen import imagenet_classes, seen
from benchmarks.images import Digests
from carryover.commands.cli import cli
from carryover.exit_codes import OK
from carryover.records.results import Results
from carryover.tables.export import markdown
from carryover.tables.table import table
from carryover.tables.terminal import drawn

TRAIN, TEST = 72, 30  # images of the six classes


@pytest.fixture(scope="module")
def weights(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network pretrained on the training images of `pictures`."""
    folder = tmp_path_factory.mktemp("pretrained")
    short = ["-o", "epochs=1", "-o", "batch_size=36", "-o", "sizes=", "--name", "mine", "--quiet", *HERE]
    assert cli(["pretrain", "tiny_vit", "--source", f"folder:{pictures}", "--out", str(folder), *short]) == OK
    return folder / "mine.safetensors"


def test_images_that_it_was_pretrained_on_are_counted_noted_and_marked(pictures, weights, tmp_path):
    backbone = f"tiny_vit?weights={weights}"
    assert cli(words("ncm", stream_of(pictures), tmp_path, backbone=backbone)) == OK
    record = only_record(tmp_path)
    found = record.overlap
    assert found is not None
    assert (found.test, found.tested, found.train, found.trained) == (0, TEST, TRAIN, TRAIN)
    said = "0 of 30 test images (0%) and 72 of 72 training images are among those that the backbone was"
    assert any(said in line for line in record.notes)
    made = table(Results(tmp_path).all()[0])
    for shown in (drawn(made, 120), markdown(made)):
        assert "∩" in shown
        assert "pretrained on images or classes" in " ".join(shown.split())


def test_other_images_carry_no_note(weights, tmp_path):
    stream = "split-digits?per_class=10&tasks=2&size=32"
    assert cli(words("ncm", stream, tmp_path, backbone=f"tiny_vit?weights={weights}")) == OK
    record = only_record(tmp_path)
    assert record.overlap is None
    assert not any("pretrained on" in line for line in record.notes)


def test_a_copy_in_another_place_size_and_split_is_seen(pictures, weights, tmp_path):
    """Copies of training images as test images, in a stream that resizes them."""
    for part in ("train", "test"):
        for source in (pictures / "train").glob("*/0[0-3].png"):
            copy = tmp_path / "copy" / part / source.parent.name / source.with_suffix(".bmp").name
            copy.parent.mkdir(parents=True, exist_ok=True)
            Image.open(source).save(copy)
    name = f"split:folder:{tmp_path / 'copy'}?tasks=3&size=16"
    assert cli(words("ncm", name, tmp_path / "results", backbone=f"tiny_vit?weights={weights}")) == OK
    found = only_record(tmp_path / "results").overlap
    assert (found.test, found.tested) == (24, 24)


def test_classes_of_imagenet_are_told_by_id_and_by_name():
    known = seen("vit_small_patch16_224.augreg_in21k_ft_in1k")
    assert known is not None
    assert len([name for name in imagenet_classes() if name.startswith(("n0", "n1"))]) == 1000
    names = ("n01443537", "omniglot/Futurama", "birds/Golden_Retriever", "TENCH", "digit 3")
    assert known.classes_in(names) == ["n01443537", "birds/Golden_Retriever", "TENCH"]


@pytest.mark.parametrize("name", ["tiny_vit", "vit_small_patch14_dinov2.lvd142m", "vit_64?weights=random"])
def test_nothing_is_said_of_what_is_not_known(name):
    assert seen(name) is None


def test_the_backbones_that_ship_know_their_images():
    known = seen("vit_64")
    assert known is not None
    images: Digests | None = known.images
    assert images is not None
    assert 59_000 < len(images) <= 60_000
    assert (images[1:] > images[:-1]).all()
