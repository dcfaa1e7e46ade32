"""Published results of others, shown below ours (`carryover report --published`).

They were measured under other conditions, named in `CONDITIONS`, so they are never sorted among ours.
In percent, as printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from carryover.metrics.line import Line, Spread
from carryover.tables.table import Table

VPT = "Jia et al., ECCV 2022"
NOAH = "Zhang et al., 2022"
SSF = "Lian et al., NeurIPS 2022"
LEADERBOARD = "Meta-Dataset's leaderboard"

TASKS = 19
# method: source, mean over the 19 tasks, mean over the three groups
VTAB: Mapping[str, tuple[str, float, float]] = {
    "Linear": (VPT, 52.9, 57.6),
    "Full": (VPT, 65.6, 69.0),
    "VPT-shallow": (VPT, 64.9, 67.8),
    "VPT-deep": (VPT, 69.4, 72.0),
    "Adapter": (NOAH, 71.4, 73.9),
    "LoRA": (NOAH, 72.3, 74.6),
    "SSF": (SSF, 73.1, 75.7),
    "NOAH": (NOAH, 73.2, 75.5),
}

SOURCES = (
    "ilsvrc_2012",
    "omniglot",
    "aircraft",
    "cu_birds",
    "dtd",
    "quickdraw",
    "fungi",
    "vgg_flower",
    "traffic_sign",
    "mscoco",
)
# model: the ten sources in that order, and their mean
META_DATASET: Mapping[str, tuple[float, ...]] = {
    "k-NN": (41.0, 37.1, 46.8, 50.1, 66.4, 32.1, 36.2, 83.1, 44.6, 30.4, 46.8),
    "Finetune": (45.8, 60.9, 68.7, 57.3, 69.1, 42.6, 38.2, 85.5, 66.8, 34.9, 57.0),
    "ProtoNet": (50.5, 60.0, 53.1, 68.8, 66.6, 49.0, 39.7, 85.3, 47.1, 41.0, 56.1),
    "fo-Proto-MAML": (49.5, 63.4, 56.0, 68.7, 66.5, 51.5, 40.0, 87.2, 48.8, 43.7, 57.5),
    "ProtoNet large + SimCLR": (53.7, 68.5, 58.0, 74.1, 68.8, 53.3, 40.7, 87.0, 58.1, 41.7, 60.4),
    "CTX + SimCLR + augmentation": (62.8, 82.2, 79.5, 80.6, 75.6, 72.7, 51.6, 95.3, 82.7, 59.9, 74.3),
    "TSA": (63.7, 82.6, 80.1, 83.4, 79.6, 71.0, 51.4, 94.1, 81.7, 61.7, 74.9),
    "DIPA": (71.4, 84.3, 86.7, 88.2, 87.1, 74.6, 61.4, 97.4, 88.9, 65.2, 80.5),
}

CONDITIONS = {
    "vtab-1k": "published: ViT-B/16 pretrained on ImageNet-21k; other images, schedules and seeds than ours; "
    "many of these rows were selected on test accuracy",
    "meta-dataset": "published: trained on ILSVRC-2012 alone, each with its own network and image size, on "
    "other episodes than ours",
}


@dataclass(frozen=True)
class Published:
    """Published rows for a table, the best first, and notes on them."""

    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()


def published_for(table: Table) -> Published:
    """The published results on the table's stream; empty for other streams.

    A mean is shown only if the table has all the tasks of the mean.
    """
    stream = table.stream.partition("?")[0]
    if stream == "vtab-1k":
        if len(table.parts) != TASKS:
            said = f"the published means are over {TASKS} tasks, and this table has {len(table.parts)}"
            return Published(notes=(said,))
        return _published(stream, [_vtab(method, *row) for method, row in VTAB.items()])
    if stream == "meta-dataset":
        return _published(stream, [_model(name, row, table.parts) for name, row in META_DATASET.items()])
    return Published()


def _vtab(method: str, source: str, tasks: float, groups: float) -> Line:
    return _line(method, source, {"accuracy_mean": tasks, "accuracy_group_mean": groups})


def _model(name: str, row: Sequence[float], parts: Sequence[str]) -> Line:
    """`parts` are our names of the sources, which may have a folder before them."""
    known = dict(zip(SOURCES, row, strict=False))
    found = {f"accuracy/{part}": known[bare] for part in parts if (bare := part.rpartition("/")[2]) in known}
    whole = {"accuracy_mean": row[-1]} if len(found) == len(SOURCES) == len(parts) else {}
    return _line(name, LEADERBOARD, found | whole)


def _line(method: str, source: str, percent: Mapping[str, float]) -> Line:
    metrics = {name: Spread(round(value / 100, 4), None, 1) for name, value in percent.items()}
    return Line(method, metrics=metrics, published=source)


def _published(stream: str, lines: Sequence[Line]) -> Published:
    def best(line: Line) -> float:
        mean = line.metrics.get("accuracy_mean")
        return mean.mean if mean else 0.0

    lines = sorted((line for line in lines if line.metrics), key=lambda line: -best(line))
    rows: dict[str, list[str]] = {}
    for line in lines:
        rows.setdefault(line.published, []).append(line.method)
    said = "; ".join(f"{source}: {', '.join(methods)}" for source, methods in rows.items())
    return Published(tuple(lines), (f"{CONDITIONS[stream]} ({said})",) if lines else ())
