"""What ships opens by name without a network, is what its card says, and knows something."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from backbones.backbone import open_backbone
from backbones.catalogue import find_recipe
from backbones.numerics import Numerics
from backbones.pretrained import RECIPES
from backbones.weights import SHIPPED, with_classifier
from benchmarks.procedural.families import FAMILIES

MADE = [(recipe.name, tag) for recipe in RECIPES for tag in recipe.tags]


def test_something_ships_and_all_of_it_stays_small():
    assert MADE
    assert sum(file.stat().st_size for file in SHIPPED.iterdir() if file.is_file()) < 45e6


@pytest.mark.parametrize(("name", "tag"), MADE)
def test_weights_and_card_lie_side_by_side_and_agree(name, tag):
    stem = SHIPPED / f"{name}.{tag}"
    for suffix in ("safetensors", "json", "md", "csv", "png"):
        assert stem.with_name(f"{stem.name}.{suffix}").is_file(), suffix
    card = msgspec.json.decode(stem.with_name(f"{stem.name}.json").read_bytes())
    weights = stem.with_name(f"{stem.name}.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(weights).hexdigest()
    assert (card["backbone"], card["objective"]) == (name, tag)
    assert card["terms"]
    assert "/" not in card["settings"]["teacher"], "a path of the machine that it was made on"


@pytest.mark.parametrize(("name", "tag"), MADE)
def test_it_opens_by_name_and_its_features_tell_textures_apart(name, tag):
    """By a linear probe: what MAE knows is in no neighbourhood."""
    typed = name if tag == find_recipe(name).tags[0] else f"{name}.{tag}"
    backbone = open_backbone(typed, numerics=Numerics())
    assert f".{tag}-" in backbone.identity
    textures, classes, each, learnt = FAMILIES["textures"], range(0, 30, 5), 30, 120
    pixels = torch.stack([torch.from_numpy(textures.draw(c, 0, i)) for i in range(each) for c in classes])
    with torch.no_grad():
        features = backbone(backbone.prepare(pixels)).numpy()
    labels = np.arange(len(pixels)) % len(classes)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    probe.fit(features[:learnt], labels[:learnt])
    assert probe.score(features[learnt:], labels[learnt:]) > 2.7 / len(classes)


@pytest.mark.parametrize("name", [name for name, tag in MADE if tag == "supervised"])
def test_its_classifier_is_kept_for_those_who_teach_with_it(name):
    assert with_classifier(name).num_classes == 120
