"""What a key depends on, and what never enters it: both lists in full."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from PIL import Image
from tiny_cells import ready, stream_of

from backbones import catalogue, tiny
from backbones.backbone import open_backbone
from backbones.numerics import Numerics
from benchmarks.store import Store
from carryover.cells.key import CARRIERS, PRESETS, code_of
from carryover.cells.ready import ReadyCell
from carryover.metrics.kinds import PROTOCOLS
from carryover.plugins import catalogue as plugin_catalogue
from carryover.plugins import code
from carryover.plugins.code import reach, source_digest

NUMERICS = Numerics(fused_training=True, device_name="this processor")


def base(pictures: Path, **changes: object) -> ReadyCell:
    settings = {"stream": stream_of(pictures), "options": {}, "numerics": NUMERICS} | changes
    return ready(settings.pop("method", "meat"), **settings)  # type: ignore[arg-type]


def under(cell: ReadyCell, **numerics: object) -> str:
    """Its key with other numerics; no such device is needed for that."""
    changed = replace(cell.conditions.numerics, **numerics)
    return replace(cell, conditions=replace(cell.conditions, numerics=changed)).key


CHANGES: Mapping[str, Callable[[Path], ReadyCell]] = {
    "method": lambda folder: base(folder, method="full_finetune"),
    "config": lambda folder: base(folder, options={"lr": "0.2"}),
    "seed": lambda folder: base(folder, seed=1),
    "class order": lambda folder: base(folder, stream=stream_of(folder, order=1)),
    "images per class": lambda folder: base(folder, stream=stream_of(folder, per_class=6)),
    "validation share": lambda folder: base(folder, stream=stream_of(folder, val=0.3)),
    "image size": lambda folder: base(folder, stream=stream_of(folder, size=16)),
    "scenario": lambda folder: base(folder, method="ncm", stream=stream_of(folder, scenario="class")),
    "mirroring": lambda folder: base(folder, stream=stream_of(folder, mirror="false")),
    "tasks": lambda folder: base(folder, stream=stream_of(folder).replace("tasks=3", "tasks=2")),
    "architecture": lambda folder: base(folder, backbone="tiny_vit?depth=3"),
    "family": lambda folder: base(folder, backbone="tiny_swin"),
    "normalisation": lambda folder: base(folder, backbone="tiny_vit?mean=imagenet"),
    "evaluation batch": lambda folder: base(folder, eval_batch=128),
    "reuse": lambda folder: base(folder, reuse=False),
}


def test_each_of_these_changes_the_key(pictures: Path) -> None:
    keys = {name: change(pictures).key for name, change in CHANGES.items()}
    plain = base(pictures)
    keys["nothing"] = plain.key
    keys["dtype"] = under(plain, dtype="bfloat16")
    keys["threads"] = under(plain, threads=2)
    keys["device class"] = under(plain, device="cuda")
    keys["kind of attention"] = under(plain, fused_training=False)
    assert len(set(keys.values())) == len(keys), "two of these have the same key"


def test_none_of_these_changes_the_key(pictures: Path, tmp_path: Path) -> None:
    plain = base(pictures)
    moved = tmp_path / "moved"
    shutil.copytree(pictures, moved)
    keys = {
        "nothing": base(pictures).key,
        "workers": base(pictures, workers=7).key,
        "the folder's path": base(pictures, stream=stream_of(moved)).key,
        "the cache's place": base(pictures, store=Store(tmp_path / "cache")).key,
        "words for the processor": under(plain, device_name="another name"),
        "parameters typed at their defaults": base(pictures, stream=stream_of(pictures, order=1993)).key,
    }
    assert {name: key == plain.key for name, key in keys.items()} == dict.fromkeys(keys, True)
    assert under(plain, device="cuda:0") == under(plain, device="cuda:1") == under(plain, device="cuda")


def test_the_order_of_cells_is_no_part_of_a_key(pictures: Path) -> None:
    def keys(seeds: list[int]) -> dict[int, str]:
        return {seed: base(pictures, seed=seed).key for seed in seeds}

    assert keys([0, 1, 2]) == keys([2, 0, 1])


def test_results_logging_and_jobs_are_not_even_known_to_a_cell(pictures: Path) -> None:
    # What a key could be made of; whoever adds a field here decides on which of the two lists it is.
    cell = base(pictures)
    assert set(vars(cell.conditions)) == {"numerics", "reuse", "eval_batch", "selection"}
    fields = {"cell", "method", "config", "stream", "backbone", "conditions", "plugins", "refusal"}
    assert set(cell.__dataclass_fields__) == fields
    parts = {"schema", "method", "stream", "pool", "backbone", "seed", "config", "code", "packages"}
    assert set(cell.key_parts) == parts | {"numerics", "evaluation", "selection", "files"}


def test_weights_enter_by_their_values_and_not_by_their_path(pictures: Path, tmp_path: Path) -> None:
    state = open_backbone("tiny_vit", numerics=Numerics()).net.state_dict()
    for name in ("a", "deep/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        safetensors.torch.save_file(state, tmp_path / f"{name}.safetensors")
    state["cls_token"] = state["cls_token"] + 1e-3
    safetensors.torch.save_file(state, tmp_path / "c.safetensors")
    a, b, c = (
        base(pictures, backbone=f"tiny_vit?weights={tmp_path / name}.safetensors").key
        for name in ("a", "deep/b", "c")
    )
    assert a == b
    assert a != c


def test_one_pixel_more_is_another_key(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "changed")
    file = next((tmp_path / "changed" / "test").rglob("*.png"))
    image = np.asarray(Image.open(file)).copy()
    image[0, 0, 0] ^= 1
    Image.fromarray(image).save(file)
    assert base(pictures, stream=stream_of(tmp_path / "changed")).key != base(pictures).key


# Code

METHOD = '''"""A method."""
from . import formula
from carryover import Method

class Mine(Method):
    """Mine."""
    name = "mine"
    def learn(self, task):
        # as in the paper
        from .later import rate
        return rate * formula.value
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package of a name of its own: `<name>.method` imports two modules of the package."""
    folder = tmp_path / f"plugin_{tmp_path.name}"
    folder.mkdir()
    for name, text in {
        "__init__": "",
        "method": METHOD,
        "formula": "value = 2\n",
        "later": "rate = 0.1\n",
        "other": "unused = 1\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def digest(package: Path) -> dict[str, str]:
    return reach([f"{package.name}.method"], {package.name, *code.ROOMS}).modules


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    later = file.stat().st_mtime_ns + 10**9  # two edits within one tick of the clock look like none
    os.utime(file, ns=(later, later))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A method."""', '"""A method, reworded."""'),
        ('    """Mine."""\n', ""),
        ("# as in the paper", "# as in the second paper"),
        ("formula.value\n", "formula.value  # twice\n\n\n"),
        ("rate * formula.value", "(rate\n            * formula.value)"),
    ],
)
def test_rewording_costs_nothing(package: Path, old: str, new: str) -> None:
    before = digest(package)
    edit(package / "method.py", old, new)
    assert digest(package) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("method", "rate * formula.value", "rate + formula.value"),
        ("method", 'name = "mine"', 'name = "yours"'),
        ("formula", "value = 2", "value = 3"),
        ("later", "rate = 0.1", "rate = 0.2"),  # imported inside a function
        ("__init__", "", "import os\n"),
    ],
)
def test_a_change_of_code_that_is_reached_changes_the_key(
    package: Path, file: str, old: str, new: str
) -> None:
    before = digest(package)
    if old:
        edit(package / f"{file}.py", old, new)
    else:
        (package / f"{file}.py").write_text(new)
    assert digest(package) != before


def test_code_that_is_not_reached_costs_nothing(package: Path) -> None:
    before = digest(package)
    edit(package / "other.py", "unused = 1", "unused = 2")
    assert digest(package) == before


def test_a_plugin_reaches_the_floors_it_stands_on(package: Path) -> None:
    assert {f"{package.name}.{name}" for name in ("method", "formula", "later")} <= set(digest(package))
    assert f"{package.name}.other" not in digest(package)


def test_every_version_of_python_gives_code_the_same_hash() -> None:
    source = b"""
class A(B, c=None):
    x: int = -1_000
    def f(self, *a, b=(), **k) -> "str":  # said
        \"\"\"said\"\"\"
        match a:
            case [1.5, *_] | {"k": None}:
                return f"{k!r:>{b}} {u'x'}" or {**k, 1: ...}
        with a as b, c: yield lambda: (await_ := [i for i in b if i])
"""
    assert source_digest(source).startswith("8a1247667fef")


def test_a_cell_reaches_its_own_method_and_no_other(pictures: Path) -> None:
    cell = base(pictures)
    found = code.reach([cell.plugins["method"].module, "backbones.backbone"])
    assert {"methods.meat", "methods.meat.masks", "methods.base.gradient", "backbones.training"} <= set(
        found.modules
    )
    assert not {"methods.joint", "methods.ncm", "carryover.tables.table"} & set(found.modules)
    assert {"torch", "timm", "numpy"} <= set(found.packages)


def test_a_stream_of_a_new_name_makes_no_record_stale(pictures: Path) -> None:
    modules = set(base(pictures).code.modules)
    assert "benchmarks.streams.split" in modules
    assert "benchmarks.streams.presets" not in modules
    assert Path(code.source_of(PRESETS)).exists()


def test_of_the_backbones_that_ship_only_the_own_recipe_counts(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = base(pictures)
    assert not {module for module, _ in catalogue.own_recipes()} & set(before.code.modules)
    recipe, *others = tiny.RECIPES
    monkeypatch.setattr(tiny, "RECIPES", (recipe, *others, replace(recipe, name="another", tags=("new",))))
    assert base(pictures).key == before.key, "another one is listed"
    changed = replace(recipe, arguments={**recipe.arguments, "num_heads": 4})  # the weights stay as they are
    monkeypatch.setattr(tiny, "RECIPES", (changed, *others))
    after = base(pictures)
    parts = {name for name, part in after.key_parts.items() if part != before.key_parts[name]}
    assert parts == {"code"}


READERS = ("carryover.metrics", "carryover.tables", "carryover.commands", "carryover.check", "carryover.new")
APART = {
    *("carryover.records.results", "carryover.records.contract", "carryover.plugins.catalogue"),
    *("carryover.cells.run", "carryover.cells.ready", "carryover.cells.estimate", "carryover.cells.request"),
}


@pytest.mark.parametrize(
    ("method", "stream", "protocol", "searched"),
    [
        ("meat", "split-digits", "continual", False),
        ("ncm", "embedded-episodes", "few_shot", False),
        ("lora", "embedded-transfer", "transfer", True),
    ],
)
def test_what_makes_a_number_is_in_its_key_and_what_reads_one_is_not(
    method: str, stream: str, protocol: str, searched: bool
) -> None:
    plugins = {
        "method": plugin_catalogue.method_class(method)[0],
        "stream": plugin_catalogue.stream_plugin(stream),
        "backbone": plugin_catalogue.backbone_plugin("vit_64"),
    }
    modules = set(code_of(plugins, protocol, searched=searched).modules)
    assert {
        *(plugins["method"].module, plugins["stream"].module, f"carryover.protocols.{protocol}"),
        *(
            "carryover.cells.learn",
            "carryover.protocols.work",
            "carryover.records.row",
            "methods.base.method",
        ),
        *("backbones.backbone", "benchmarks.stream", "benchmarks.seeds"),
    } <= modules
    assert ("carryover.cells.selection" in modules) is searched
    others = {f"carryover.protocols.{name}" for name in PROTOCOLS if name != protocol}
    assert not modules & (others | APART | CARRIERS)
    assert not [name for name in modules if name.startswith(READERS)]


def test_an_edit_of_a_reader_makes_no_record_stale_and_one_of_what_makes_numbers_does(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, plain = base(pictures).key, code._read
    edited = ""

    def read(path: Path, changed: int, name: str) -> tuple[str, tuple[str, ...]]:
        digest, imports = plain(path, changed, name)
        return (f"{digest} edited" if name == edited else digest), imports

    monkeypatch.setattr(code, "_read", read)
    makers = (
        "methods.meat",
        "carryover.protocols.continual",
        "benchmarks.streams.split",
        "backbones.training",
    )
    for name in (*makers, "carryover.cells.learn", "methods.base.heads"):
        edited = name
        assert base(pictures).key != before, name
    kept = ("carryover.metrics.continual", "carryover.metrics.statistics", "carryover.tables.table")
    for name in (*kept, "carryover.commands.cli", "carryover.records.record", "benchmarks.store", *APART):
        edited = name
        assert base(pictures).key == before, name


def test_whose_pooling_it_is_stands_in_the_contract(pictures: Path) -> None:
    tiny = "vit_small_patch16_dinov3?img_size=32&embed_dim=32&depth=1&num_heads=2&weights=random"
    found = base(pictures, method="ncm", backbone=tiny).contract["backbone"]
    assert "pooling token as in Simeoni et al. 2025, DINOv3, mean 0.485,0.456,0.406" in found
    typed = base(pictures, method="ncm", backbone=f"{tiny}&global_pool=avg").contract["backbone"]
    assert "pooling avg as typed, mean" in typed
    assert (
        "pooling token, mean" in base(pictures, method="ncm").contract["backbone"]
    )  # an own network has one
