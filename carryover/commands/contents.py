"""What a stream consists of, for `plan`: its classes, the images of each, and notes on how they were read."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.stream import StreamInfo

SHOWN = 12  # classes of one line


def contents(info: StreamInfo) -> list[str]:
    """Lines on a stream: tasks, classes with their images, and its notes."""
    train, val, test = (sum(size[part] for size in info.sizes) for part in range(3))
    tasks = f"{info.tasks} {'source' if info.episodes else 'task'}{'s' * (info.tasks != 1)}"
    images = (
        f"{test:,} images to draw from"
        if info.episodes
        else f"{train:,} + {val:,} training and {test:,} test images"
    )
    if info.scenario == "domain" and not info.episodes:
        tasks += " over the same classes"
    lines = [f"{info.name}: {tasks}, {len(info.class_names)} classes, {images}"]
    lines += [f"  {line}" for line in _classes(info)]
    return [*lines, *(f"  note: {note}" for note in info.remarks)]


def _classes(info: StreamInfo) -> list[str]:
    """Names and images of each class, task by task if they are few, shortened if they are many."""
    if len(info.counts) != len(info.class_names):
        return [_shortened(list(info.class_names))]
    said = [_counted(name, *count) for name, count in zip(info.class_names, info.counts, strict=True)]
    lines = ["classes (training + test images): " + _shortened(said)]
    if len(said) > SHOWN:
        for number, part in enumerate(("training", "test")):
            counts = sorted(count[number] for count in info.counts)
            if counts[-1]:
                spread = f"{counts[0]} to {counts[-1]}" if counts[0] != counts[-1] else f"{counts[0]}"
                lines.append(f"{part} images of a class: {spread}, median {statistics.median(counts):g}")
    return lines


def _counted(name: str, train: int, test: int) -> str:
    return f"{name} {train} + {test}" if train else f"{name} {test}"


def _shortened(said: Sequence[str]) -> str:
    if len(said) <= SHOWN:
        return ", ".join(said)
    return ", ".join([*said[: SHOWN - 2], "...", said[-1]])
