"""Small VTAB-1k and FGVC trees on disk for the tests of transfer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from source_files import draw, encode

from benchmarks.transfer import fgvc, vtab

TESTS = 12  # test images of a task
SIDE = 8  # pixels
PARTS = {"train800": 800, "val200": 200, "test": TESTS}
COUNT = sum(PARTS.values())


def pixels() -> NDArray[np.uint8]:
    """The images of every task (1012, 8, 8, 3): train800, val200, test."""
    return draw(COUNT, SIDE)


def write_images(folder: Path) -> None:
    """`pixels` as train800-0000.png and so on, and files of its own for train800val200, as circulates."""
    folder.mkdir(parents=True)
    names = [f"{part}-{number:04}.png" for part, count in PARTS.items() for number in range(count)]
    for row, (name, image) in enumerate(zip(names, pixels(), strict=True)):
        (folder / name).write_bytes(encode(image))
        if row < 1000:
            (folder / f"both-{row:04}.png").hardlink_to(folder / name)


def write_vtab_task(folder: Path, classes: int, images: Path, own_copies: bool = False) -> None:
    """A task in the list layout with the images of `write_images`; labels go round the classes.

    own_copies: train800val200.txt names files of its own.
    """
    folder.mkdir(parents=True)
    (folder / "images").symlink_to(images)
    lists = {
        part: [f"images/{part}-{number:04}.png {number % classes}" for number in range(count)]
        for part, count in PARTS.items()
    }
    both = lists["train800"] + lists["val200"]
    if own_copies:
        both = [f"images/both-{row:04}.png {line.split()[1]}" for row, line in enumerate(both)]
    for part, lines in {**lists, "train800val200": both}.items():
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")


def write_vtab(root: Path) -> None:
    """All 19 tasks, over one folder of images."""
    write_images(root / "images")
    for number, task in enumerate(vtab.TASKS):
        folder = root / vtab.FOLDER / task.name
        write_vtab_task(folder, task.classes, root / "images", own_copies=number % 2 == 0)


def write_fgvc_task(root: Path, name: str) -> Path:
    """A task with two train, one val and one test image of each class, ids 7, 14, ...; returns its folder."""
    task = next(task for task in fgvc.TASKS if task.name == name)
    folder = root / fgvc.FOLDER / name
    images = folder / task.images
    images.mkdir(parents=True)
    encoded = [encode(image) for image in draw(4, SIDE)]
    for part, each in {"train": 2, "val": 1, "test": 1}.items():
        mapping = {
            f"{part}-{label}-{number}.png": 7 * (label + 1)
            for label in range(task.classes)
            for number in range(each)
        }
        for number, image in enumerate(mapping):
            (images / image).write_bytes(encoded[number % 4])
        (folder / f"{part}.json").write_text(json.dumps(mapping))
    return folder


def edit(file: Path, change: Callable[[list[str]], None]) -> None:
    """Change the lines of a list file."""
    lines = file.read_text().splitlines()
    change(lines)
    file.write_text("\n".join(lines) + "\n")


def truth(folder: Path, part: str) -> NDArray[np.int64]:
    """The labels of a list file."""
    return np.array([int(line.split()[1]) for line in (folder / f"{part}.txt").read_text().splitlines()])
