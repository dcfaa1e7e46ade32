"""Pre-tuned feedback in files: what is written is what is read, and only where it fits."""

from __future__ import annotations

import json

import contract_lab as lab
import pytest
import torch
from contract_lab import Case

from backbones.backbone import open_backbone
from backbones.numerics import Numerics
from benchmarks.errors import DataError, RequestError
from benchmarks.stream import Pool
from carryover.protocols.continual import state_digest
from methods.base.card import read_card, write
from methods.toast import TOAST


class Images(Pool):
    """A task's training images as a pool."""

    images = lab.opened("task")[0][0].train

    @property
    def fingerprint(self):
        return self.images.fingerprint

    def episode(self, seed, number):
        raise NotImplementedError


def made(name="toast", backbone="tiny_vit", **options):
    return lab.make(Case(name, backbone, "task", tuple(options.items())))


def written(folder, name="toast", backbone="tiny_vit", **options):
    """A method that was pre-tuned, and its file."""
    method = made(name, backbone, pretune_epochs=1, **options)
    method.prepare(Images())
    return method, method.export(Images(), folder, stream="pictures", terms="ours", commit="abc")


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """Makes files as if they shipped."""

    def ship(path):
        monkeypatch.setattr(TOAST, "shipped", path.parent)

    return ship


@pytest.mark.parametrize(
    ("name", "backbone"), [("toast", "tiny_vit"), ("toast_lite", "tiny_swin"), ("toast", "tiny_convnet")]
)
def test_a_file_gives_back_what_was_pre_tuned_in_half_precision(name, backbone, tmp_path, offered):
    source, path = written(tmp_path, name, backbone)
    assert path.name == f"{backbone}.toast.safetensors"
    offered(path)
    wanted = {key: tensor.half().float() for key, tensor in source.feedback.pretuned().items()}
    for feedback in ("", str(path)):
        method = made(name, backbone, feedback=feedback)
        method.prepare(None)
        found = method.feedback.state_dict()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
        assert all(tensor.dtype == torch.float32 for tensor in found.values())
        assert method.context.progress.warnings == []
        assert method.observations()["pretuned"] == method.observations()["from_file"] == 1
    assert source.observations()["from_file"] == 0


def test_what_toast_pre_tuned_serves_toast_lite(tmp_path):
    source, path = written(tmp_path)
    method = made("toast_lite", feedback=str(path))
    drawn = {k: t.clone() for k, t in method.feedback.state_dict().items() if "lora_" in k}
    method.prepare(None)
    found = method.feedback.state_dict()
    for key, tensor in source.feedback.pretuned().items():
        assert torch.equal(found[key], tensor.half().float())
    assert drawn
    assert all(torch.equal(found[key], tensor) for key, tensor in drawn.items())
    assert torch.equal(found["P"], torch.eye(len(found["P"])))


def test_what_was_read_from_a_file_is_restored_without_it(tmp_path):
    _, path = written(tmp_path, "toast_lite")
    tasks, exam = lab.opened("task")
    method = made("toast_lite", feedback=str(path))
    method.prepare(None)
    method.learn(tasks[0])
    middle = method.state()
    path.unlink()
    fresh = made("toast_lite", feedback=str(path))
    fresh.restore(middle)
    assert torch.equal(fresh.predict(exam.inputs(0), 0), method.predict(exam.inputs(0), 0))
    assert fresh.observations() == method.observations()
    for one in (method, fresh):
        one.learn(tasks[1])
    assert state_digest(fresh.state()) == state_digest(method.state())


def test_a_file_is_taken_only_where_network_and_options_are_those_of_its_card(tmp_path, offered):
    source, path = written(tmp_path)
    offered(path)
    assert source.files(source.config, source.backbone) == (path,)
    for options, said in (
        ({"late": 1}, "has late=0 and late=1 is asked for; say late=0"),
        ({"early": 1}, "has early=0 and"),
        ({"value_bias": "reference"}, "has value_bias=single and"),
    ):
        unlike = made(**options)
        assert unlike.files(unlike.config, unlike.backbone) == ()
        with pytest.raises(RequestError, match=said):
            made(feedback=str(path), **options).prepare(None)
    other = made("toast", "tiny_swin")
    assert other.files(other.config, other.backbone) == ()
    with pytest.raises(RequestError, match="was trained on tiny_vit with weights"):
        made("toast", "tiny_swin", feedback=str(path)).prepare(None)


def test_a_file_of_other_tensors_is_refused(tmp_path):
    _, path = written(tmp_path)
    card = read_card(path)
    write(path, {"prompt": torch.zeros(3)}, card)
    with pytest.raises(RequestError, match=r"has other tensors than toast on tiny_vit \("):
        made(feedback=str(path)).prepare(None)


def test_whoever_asks_for_none_or_for_training_gets_that(tmp_path, offered):
    _, path = written(tmp_path)
    offered(path)
    none = made(feedback="none")
    before = state_digest(none.feedback.state_dict())
    none.prepare(Images())
    assert state_digest(none.feedback.state_dict()) == before
    assert "feedback=none" in none.context.progress.warnings[0]
    assert none.observations()["pretuned"] == 0
    trained = made(feedback="train", pretune_epochs=1)
    trained.prepare(Images())
    assert trained.origin == "pool"
    with pytest.raises(RequestError, match=r"feedback=train, and .* has no pool"):
        made(feedback="train").prepare(None)


def test_a_file_that_was_changed_is_refused(tmp_path, offered):
    _, path = written(tmp_path)
    card = path.with_suffix(".json")
    said = json.loads(card.read_text())

    def refused(match):
        with pytest.raises(DataError, match=match):
            made(feedback=str(path)).prepare(None)

    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused("sha256")
    path.write_bytes(whole)
    card.write_text(json.dumps(said | {"sha256": "0" * 64}))
    refused("sha256")
    card.write_text("{")
    refused("is not the card of")
    card.unlink()
    refused(r"tiny_vit\.toast\.json cannot be read .*beside its card")


def test_only_what_was_just_pre_tuned_is_written(tmp_path):
    with pytest.raises(RequestError, match="feedback=train"):
        made().export(Images(), tmp_path, stream="", terms="", commit="")


@pytest.mark.parametrize("name", ["vit_64", "swin_64", "resnet_64"])
def test_what_ships_fits_its_backbone_and_enters_the_key(name):
    backbone = open_backbone(name, numerics=Numerics())
    (path,) = TOAST.files(TOAST.Config(), backbone)
    assert path.parent == TOAST.shipped
    card = read_card(path)
    assert (card.backbone, card.weights) == (name, backbone.weights)
    assert card.terms
    method = TOAST(TOAST.Config(), backbone.copy(), lab.make(Case("toast", "tiny_vit", "task")).context)
    method.prepare(None)
    assert method.origin == "file"
