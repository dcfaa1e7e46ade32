"""Drawn images: the same on every machine, in every order, for ever; and the label is the answer."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import procedural
from benchmarks.procedural import alphabets, scenes
from benchmarks.procedural.exact import Dice, cosine, sine
from benchmarks.procedural.families import FAMILIES
from benchmarks.procedural.solids import Camera

GOLDEN = Path(__file__).parents[1] / "golden" / "procedural.json"
IMAGES = 24  # of each family in its fingerprint


def fingerprint(name: str) -> str:
    """Hash of some images of a family, spread over its classes."""
    family, digest = FAMILIES[name], hashlib.sha256()
    for number in range(IMAGES):
        label = number * len(family.class_names) // IMAGES
        digest.update(family.draw(label, number % 2, 3 * number).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", FAMILIES)
def test_no_pixel_changes(name: str) -> None:
    known = json.loads(GOLDEN.read_text())[name]
    family = FAMILIES[name]
    drawn = fingerprint(name)
    if drawn != known["sha256"]:
        pytest.fail(
            f"{name} is drawn otherwise than it was. If that is meant, raise VERSION in the family's file, "
            "so that stored tables and keys change, and write the new version and hash into "
            f"{GOLDEN.name} ({drawn}). If not, something came in that this machine rounds in its own way."
        )
    assert family.version == known["version"], f"write version {family.version} of {name} into {GOLDEN.name}"


def test_a_processor_without_vector_units_draws_the_same() -> None:
    # NumPy chooses its loops by what the processor has; here it is told that there is little.
    core = sys.modules.get("numpy._core._multiarray_umath") or sys.modules["numpy.core._multiarray_umath"]
    there = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    code = "import sys, test_procedural as t; print(*[t.fingerprint(n) for n in sys.argv[1:]])"
    plain = subprocess.run(
        [sys.executable, "-c", code, *FAMILIES],
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(there)},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    golden = json.loads(GOLDEN.read_text())
    assert plain.stdout.split() == [golden[name]["sha256"] for name in FAMILIES]


# What IEEE 754 or whole numbers leave no choice in. Sums of floats, powers and BLAS are not among it; even
# Python's own sum() rounds otherwise since 3.12.
NUMPY = (
    "arange array ascontiguousarray bool_ broadcast count_nonzero dtype empty float64 floor full int32 int64 "
    "abs maximum minimum ndarray ones sqrt uint8 where zeros"
)
ALLOWED = {"np": set(NUMPY.split(" ")), "math": {"sqrt", "floor", "ceil"}}
BANNED = {"sum", "mean", "std", "dot", "cumsum", "prod", "pow", "normal", "permutation", "choice"}
FILES = [path for path in Path(procedural.__file__).parent.glob("*.py") if path.name != "__main__.py"]


@pytest.mark.parametrize("path", sorted(FILES), ids=lambda path: path.name)
def test_drawing_uses_only_what_every_machine_rounds_alike(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            module = node.value.id if isinstance(node.value, ast.Name) else ""
            assert node.attr in ALLOWED.get(module, {node.attr}), f"line {node.lineno}: {module}.{node.attr}"
        name = getattr(node, "attr", getattr(node, "id", None))
        assert name not in BANNED, f"line {node.lineno}: {name}"
        if isinstance(node, ast.BinOp):
            assert not isinstance(node.op, ast.Pow | ast.MatMult), f"line {node.lineno}"


@given(st.floats(-1e4, 1e4))
def test_sine_and_cosine(turns: float) -> None:
    assert cosine(turns) == pytest.approx(math.cos(2 * math.pi * math.fmod(turns, 1)), abs=1e-9)
    assert sine(turns) == pytest.approx(math.sin(2 * math.pi * math.fmod(turns, 1)), abs=1e-9)
    assert cosine(turns) == cosine(np.array([turns]))[0]  # to the last bit, as one number or as many


@pytest.mark.parametrize("name", FAMILIES)
def test_an_image_is_the_same_whatever_was_drawn_before(name: str) -> None:
    family = FAMILIES[name]
    asked = [(0, 0, 0), (len(family.class_names) - 1, 0, 7), (1, 5, 2)]
    first = [family.draw(*which) for which in asked]
    again = [family.draw(*which) for which in reversed(asked)]
    for image, other in zip(first, reversed(again), strict=True):
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, other)


@pytest.mark.parametrize("name", FAMILIES)
def test_class_seed_and_index_each_make_another_image(name: str) -> None:
    draw = FAMILIES[name].draw
    images = [draw(0, 0, 0), draw(1, 0, 0), draw(0, 1, 0), draw(0, 0, 1)]
    assert len({image.tobytes() for image in images}) == 4
    assert all(image.std() > 5 for image in images)  # none is blank


@pytest.mark.parametrize("name", FAMILIES)
def test_train_and_test_share_no_index_and_names_are_unique(name: str) -> None:
    family = FAMILIES[name]
    train, test = family.indices("train"), family.indices("test")
    assert (len(train), len(test)) == (family.train, family.test)
    assert not set(train) & set(test)
    assert len(set(family.class_names)) == len(family.class_names)
    with pytest.raises(ValueError, match=f"{name} has classes 0 to"):
        family.draw(len(family.class_names), 0, 0)


def test_there_are_alphabets_of_characters_that_differ() -> None:
    names = Counter(name.split("/")[0] for name in FAMILIES["glyphs"].class_names)
    assert len(names) >= 10
    assert min(names.values()) >= 10
    every = [character for number in range(len(names)) for character in alphabets.characters(number)]
    assert len(set(every)) == len(every)


def test_no_part_of_an_objects_name_tells_of_another() -> None:
    names = [name.split("/") for name in FAMILIES["objects"].class_names]
    for a, b in combinations(range(3), 2):
        pairs = Counter((name[a], name[b]) for name in names)
        assert len(set(pairs.values())) == 1
        assert len(pairs) == len({name[a] for name in names}) * len({name[b] for name in names})


QUESTIONS = [(question, label) for question, names in scenes.NAMES.items() for label in range(len(names))]


@pytest.mark.parametrize(("question", "label"), QUESTIONS)
def test_the_answer_to_a_scene_is_its_label(question: str, label: int) -> None:
    for index in range(20):
        dice = Dice("test", question, label, index)
        camera = Camera(dice.between(4.7, 5.3), dice.between(0.095, 0.105))
        solids = scenes.solids(question, label, dice, camera)
        target, x, z = solids[0], solids[0].x, solids[0].z
        for solid in solids:
            column, row = camera.seen(solid.x, 0.5, solid.z)
            assert 2 < column < 62, "it stands in the picture"
            assert 2 < row < 62
        if question == "count":
            assert len(solids) == label + 1
        elif question == "distance":
            assert scenes.STEPS[label] < min(solid.z for solid in solids) < scenes.STEPS[label + 1]
        elif question == "location":
            assert [solid.kind for solid in solids].count("pawn") == 1
            assert target.kind == "pawn"
            column = camera.seen(x, 0.0, z)[0]
            assert int((column - 32) / 0.43 / camera.focus * 1.5 + 1.5) == label % 3
            assert scenes.ROWS[label // 3] < z < scenes.ROWS[label // 3 + 1]
        else:
            assert [solid.kind for solid in solids].count("truck") == 1
            assert abs((target.turn - label / 8 + 0.5) % 1 - 0.5) < 1 / 16
