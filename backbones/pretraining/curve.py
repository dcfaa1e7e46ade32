"""The curve of a pretraining run: one line per epoch, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from benchmarks.store import write_atomic


@dataclass(frozen=True)
class Point:
    """One epoch, counted from 1.

    size: side of its images in pixels; loss: mean over its steps; validation: top-1 of the weights that
    are kept (their average) at this size, or the objective's loss where there is no classifier; seconds:
    of the epoch.
    """

    epoch: int
    size: int
    loss: float
    validation: float
    seconds: float


def write_curve(path: Path, points: list[Point]) -> None:
    """All points, replacing the file."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([field.name for field in fields(Point)])
    writer.writerows(astuple(point) for point in points)
    write_atomic(path, text.getvalue().encode())


def read_curve(path: Path) -> list[Point]:
    """The points that `write_curve` wrote; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Point(
                int(row["epoch"]),
                int(row["size"]),
                float(row["loss"]),
                float(row["validation"]),
                float(row["seconds"]),
            )
            for row in csv.DictReader(file)
        ]


def draw_curve(path: Path, points: list[Point], title: str, validation: str) -> None:
    """Loss and validation over epochs; a line where the images' size changes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axis = figure.add_subplot()
    epochs = [point.epoch for point in points]
    axis.plot(epochs, [point.loss for point in points], color="tab:blue")
    axis.set(xlabel="epoch", title=title)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylabel("training loss", color="tab:blue")
    other = axis.twinx()
    other.plot(epochs, [point.validation for point in points], color="tab:orange")
    other.set_ylabel(validation, color="tab:orange")
    for before, after in itertools.pairwise(points):
        if before.size != after.size:
            axis.axvline(after.epoch - 0.5, color="grey", linewidth=0.8)
            axis.annotate(
                f" {after.size} px",
                (after.epoch - 0.5, 1),
                xycoords=("data", "axes fraction"),
                va="top",
                size=8,
            )
    figure.savefig(path, dpi=130)
