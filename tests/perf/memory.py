"""Peak memory of whole runs, each a fresh `carryover run`, as streams get longer."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measure import Row
from PIL import Image
from workload import TINY, Setup

BOUND = 1.1
LENGTHS = (2, 10, 20)
CLASSES = 40  # of the folder: it is cut into 2, 10 or 20 tasks
PER_TASK = 80  # training and validation images, whatever the length
DIGITS = 1797 * 8 * 8 * 3  # bytes of the table of digits; a domain stream has one for each task
OPTIONS = ("-o", "epochs=1", "-o", "min_steps=0")


def memory(setup: Setup) -> Iterator[Row]:
    """The longest against the shortest stream, of the same number of images a task, tables taken off."""
    folder = setup.scratch / "many classes"
    _draw(folder)
    domain = {n: f"split-digits?scenario=domain&tasks={n}" for n in LENGTHS}
    split = {n: f"split:folder:{folder}?tasks={n}&per_class={PER_TASK * n // CLASSES}" for n in LENGTHS}
    measured = (
        ("ncm", "digits, domain", domain, ()),
        ("full_finetune", "digits, domain", domain, OPTIONS),
        ("meat", f"{CLASSES} drawn classes, task", split, OPTIONS),
    )
    # The machine is measured once, and that takes memory: not in a run that counts.
    _peak(setup, "full_finetune", domain[LENGTHS[0]], OPTIONS)
    for method, title, streams, options in measured:
        peaks: dict[int, list[float]] = {n: [] for n in LENGTHS}
        for _ in range(1 if setup.quick else 3):
            for length, stream in streams.items():
                tables = DIGITS * length / 2**20 if streams is domain and setup.device == "cpu" else 0.0
                peaks[length].append(_peak(setup, method, stream, options) - tables)
        medians = {n: statistics.median(values) for n, values in peaks.items()}
        shortest, longest = medians[LENGTHS[0]], medians[LENGTHS[-1]]
        each = (longest - shortest) / (LENGTHS[-1] - LENGTHS[0])
        yield Row(
            name="memory",
            compared=f"peak of `carryover run --method {method}` on tiny_vit, {LENGTHS[-1]} tasks / "
            f"{LENGTHS[0]} tasks ({title})",
            unit="MiB",
            ours=longest,
            theirs=shortest,
            ratio=longest / shortest,
            bound=f"<= {BOUND:g}",
            met=longest / shortest <= BOUND,
            note=f"{medians[LENGTHS[1]]:.0f} MiB at {LENGTHS[1]} tasks, {each:+.2f} MiB a task",
            samples={f"{n} tasks, MiB": values for n, values in peaks.items()},
        )


def _peak(setup: Setup, method: str, stream: str, options: tuple[str, ...]) -> float:
    """MiB at the peak of one run, from its record: what a parent sees of a child starts at its own size."""
    results = setup.scratch / "results"
    command = [str(Path(sys.executable).with_name("carryover")), "run", "--method", method, "--quiet"]
    command += ["--stream", stream, "--backbone", TINY, "--results", str(results), *options]
    command += ["--device", setup.device, "--threads", str(setup.backbone.numerics.threads)]
    place = {**os.environ, "CARRYOVER_CACHE": str(setup.scratch / "cache")}
    done = subprocess.run(command, env=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")
    (record,) = (results / "records").rglob("*.json")
    peak = float(json.loads(record.read_text())["cost"]["peak_mb"])
    shutil.rmtree(results)  # or the next run would find its record, and the features
    shutil.rmtree(setup.scratch / "cache" / "features", ignore_errors=True)
    return peak


def _draw(folder: Path) -> None:
    """An image folder of CLASSES classes, just enough images for the longest stream."""
    rng = np.random.default_rng(0)
    for cls in range(CLASSES):
        for split, images in (("train", PER_TASK * LENGTHS[-1] // CLASSES), ("test", 8)):
            place = folder / split / f"class{cls:02}"
            place.mkdir(parents=True)
            for number in range(images):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number:03}.png")
