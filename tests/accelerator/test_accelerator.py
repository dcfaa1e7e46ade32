"""What a GPU would refuse is refused here without one: an operation on tensors or generators of two devices.

Every command runs on a device that is pretended (pretend.cpp), whose numbers are the CPU's own: a record
must be that of a run on the CPU.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pretend
import pytest
from PIL import Image

from carryover.plugins.catalogue import method_class, methods
from carryover.records.record import Record
from carryover.records.results import Results

pytestmark = pytest.mark.slow

QUICK = {
    "epochs": 1,
    "batch_size": 16,
    "min_steps": 0,
    "steps": 3,
    "updates": 2,
    "views": 1,
    "pretune_epochs": 1,
}
# On every family, and in episodes; of the `peft` library's tuners, which share the rest, LoRA alone.
CHOSEN = ("linear_probe", "full_finetune", "meat", "toast", "crosstransformer", "lora", "finetune_head")
CLASSES = 30


def quick(method: str, **options: object) -> str:
    """The method with a short training, as it is typed."""
    known = {field.name for field in dataclasses.fields(method_class(method)[1].Config)}
    given = {name: value for name, value in QUICK.items() if name in known} | options
    return method + "?" * bool(given) + "&".join(f"{name}={value}" for name, value in given.items())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if pretend.compiler() is None:
        pytest.skip("needs a C++ compiler (c++) to make the pretended device")
    path = tmp_path_factory.mktemp("pretend") / "libpretend.so"
    pretend.build(path)
    return path


@pytest.fixture(scope="module")
def blots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 30 classes, a colour each under noise: 6 training images and one test image of 16x16."""
    root, rng = tmp_path_factory.mktemp("blots"), np.random.default_rng(7)
    for label, colour in enumerate(rng.integers(0, 170, (CLASSES, 3))):
        for split, count in (("train", 6), ("test", 1)):
            folder = root / split / f"blot{label:02}"
            folder.mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 85, (16, 16, 3)) + colour
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
    return root


def ran(library: Path, dtype: str, commands: list[str]) -> None:
    """All commands, in one process; what they said is the reason where one fails."""
    script = Path(__file__).with_name("on_pretend.py")
    done = subprocess.run(
        [sys.executable, script, library, dtype],
        input="\n".join(commands),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


def recorded(results: Path) -> dict[str, Record]:
    found, broken = Results(results).all()
    assert broken == []
    return {str(record.cell): record for record in found}


def same_on_both(library: Path, tmp_path: Path, words: str) -> None:
    """The command on the pretended device and on the CPU leaves the same rows."""
    on = [
        f"run {words} --threads 1 --quiet --device {d} --results {tmp_path / d}" for d in ("pretend", "cpu")
    ]
    ran(library, "float32", on)
    there, here = (recorded(tmp_path / device) for device in ("pretend", "cpu"))
    assert there.keys() == here.keys()
    assert {record.env.device for record in there.values()} == {"pretend"}
    for cell, record in there.items():
        assert record.rows == here[cell].rows, cell


def test_a_mixture_is_refused(library: Path) -> None:
    """Or nothing below would say anything."""
    code = (
        "import sys, torch, pretend; pretend.install(sys.argv[1])\n"
        "x, here = torch.ones(3, device='pretend'), torch.Generator()\n"
        "for wrong in (lambda: x + torch.ones(3), lambda: torch.cat([x, x.cpu()]), lambda: x.numpy(),\n"
        "              lambda: torch.rand(3, device='pretend', generator=here),\n"
        "              lambda: torch.ones(3)[torch.tensor([0], device='pretend')]):\n"
        "    try: wrong()\n"
        "    except (RuntimeError, TypeError): continue\n"
        "    sys.exit('not refused')\n"
        "print((x + 1).sum().item())"
    )
    words = [sys.executable, "-c", code, library]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stdout) == (0, "6.0\n"), done.stderr


def test_every_method_learns_tasks(library: Path, pictures: Path, tmp_path: Path) -> None:
    # shira's sparse tensors are more than is pretended; crosstransformer needs a pool.
    names = ",".join(quick(method) for method in methods() if method not in ("shira", "crosstransformer"))
    same_on_both(
        library,
        tmp_path,
        f"--method '{names}' --stream 'split:folder:{pictures}?tasks=3' --backbone tiny_vit",
    )


@pytest.mark.parametrize("backbone", ["tiny_swin", "tiny_convnet", "tiny_external_attention"])
def test_on_every_family(library: Path, pictures: Path, tmp_path: Path, backbone: str) -> None:
    names = ",".join(quick(method) for method in CHOSEN if method != "crosstransformer")
    stream = f"split:folder:{pictures}?tasks=2&scenario=class"
    same_on_both(library, tmp_path, f"--method '{names}' --stream '{stream}' --backbone {backbone}")


def test_episodes(library: Path, blots: Path, tmp_path: Path) -> None:
    named = [
        *(quick(method) for method in (*CHOSEN, "knn", "protonet")),
        quick("crosstransformer", mode="full"),
    ]
    stream = f"episodes:folder:{blots}?episodes=2&way=5&support=10&queries=2"
    same_on_both(library, tmp_path, f"--method '{','.join(named)}' --stream '{stream}' --backbone tiny_vit")


def test_transfer_with_a_selection(library: Path, tmp_path: Path) -> None:
    rule = "--selection 'search?candidates=2&epochs=1'"
    stream = "embedded-transfer?only=digits&size=32"
    same_on_both(
        library, tmp_path, f"--method linear_probe,bitfit --stream '{stream}' --backbone tiny_vit {rule}"
    )


def test_in_bfloat16(library: Path, pictures: Path, tmp_path: Path) -> None:
    """By a GPU's own list of what runs in it."""
    names = ",".join(quick(method) for method in CHOSEN if method != "crosstransformer")
    stream = f"split:folder:{pictures}?tasks=2"
    backbones = "tiny_vit,tiny_swin,tiny_convnet"
    there = f"--stream '{stream}' --backbone {backbones} --device pretend --results {tmp_path} --threads 1"
    ran(library, "bfloat16", [f"run --method '{names}' {there} --quiet"])
    assert {record.env.dtype for record in recorded(tmp_path).values()} == {"bfloat16"}


def test_what_is_made_before_the_first_task(library: Path, blots: Path, tmp_path: Path) -> None:
    stream = f"episodes:folder:{blots}?way=5&support=10&queries=2"
    to = f"--device pretend --threads 1 --quiet --terms ours --out {tmp_path}"
    few = "-o epochs=1 -o batch_size=16"
    made = (
        "toast -o pretune_epochs=1 -o batch_size=16",
        "crosstransformer -o head=train -o updates=4 -o views=1",
    )
    trained = ("tiny_vit", "tiny_vit --objective mae", "tiny_convnet --objective simclr")
    ran(
        library,
        "float32",
        [f"prepare {words} --stream '{stream}' --backbone tiny_vit {to}" for words in made]
        + [f"pretrain {words} --source folder:{blots} {few} {to}" for words in trained],
    )
    assert len(list(tmp_path.glob("*.safetensors"))) == 5
