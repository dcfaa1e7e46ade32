"""From what a user types to a source: a folder under $CARRYOVER_DATA first, then the hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import DataError, unknown
from benchmarks.sources.digits import Digits
from benchmarks.sources.parquet import Columns
from benchmarks.sources.procedural import PROCEDURAL, ProceduralSource
from benchmarks.sources.source import Source


@dataclass(frozen=True)
class Known:
    """A data set that is known by name: its folders under a data root, and its place on the hub.

    mirror: whether an image flipped left to right keeps its class.
    """

    summary: str
    folders: tuple[str, ...]
    hub: str | None = None
    columns: Columns | None = None
    official: bool = False
    terms: str = ""
    mirror: bool = True


KNOWN = {
    "cifar100": Known(
        "CIFAR-100: 60,000 images of 32x32 pixels, 100 classes (170 MB from the hub)",
        ("cifar100",),
        "uoft-cs/cifar100",
        Columns("img", "fine_label"),
        official=True,
        terms="no licence stated; cite Krizhevsky (2009)",
    ),
    "cifar100-coarse": Known(
        "CIFAR-100 with its 20 superclasses as labels",
        ("cifar100",),
        "uoft-cs/cifar100",
        Columns("img", "coarse_label"),
        official=True,
        terms="no licence stated; cite Krizhevsky (2009)",
    ),
    "cifar10": Known(
        "CIFAR-10: 60,000 images of 32x32 pixels, 10 classes (170 MB from the hub)",
        ("cifar10",),
        "uoft-cs/cifar10",
        Columns("img", "label"),
        official=True,
        terms="no licence stated; cite Krizhevsky (2009)",
    ),
    "omniglot": Known(
        "Omniglot: handwritten characters that you provide, classes named alphabet/character",
        ("omniglot",),
        columns=Columns("image", "character"),
        terms="MIT licence; cite Lake, Salakhutdinov and Tenenbaum (2015)",
        mirror=False,
    ),
    "imagenet-subset": Known(
        "a subset of ImageNet that you provide",
        ("imagenet-subset", "tiny-imagenet/subset"),
        terms="ImageNet: non-commercial research and education",
    ),
}


def data_roots() -> tuple[Path, ...]:
    """The folders named by $CARRYOVER_DATA (several are separated as in PATH)."""
    roots = os.environ.get("CARRYOVER_DATA", "").split(os.pathsep)
    return tuple(Path(root).expanduser() for root in roots if root)


def source_names() -> dict[str, str]:
    """Every source by name with one line on it; opens no data."""
    return {
        "digits": "scikit-learn's digits: 1,797 images of 8x8 pixels, 10 classes (always there)",
        **{name: f"{spec.summary} (procedural, 64x64 pixels)" for name, spec in PROCEDURAL.items()},
        **{name: known.summary for name, known in KNOWN.items()},
        "folder:PATH": "a folder of images (CLASS/*.jpg or train/CLASS/*.jpg) or of parquet files",
        "NAME": "the folder $CARRYOVER_DATA/NAME, laid out likewise",
    }


def may_mirror(name: str) -> bool:
    """Whether a source's images keep their class when flipped left to right; True unless stated otherwise."""
    if name in KNOWN:
        return KNOWN[name].mirror
    return name != "digits" and (name not in PROCEDURAL or PROCEDURAL[name].mirror)


def open_source(name: str, *, roots: Sequence[Path] | None = None) -> Source:
    """The source that `name` stands for; nothing is read before `load`.

    roots: where to look for folders, $CARRYOVER_DATA by default. RequestError for an unknown name,
    DataError for a known data set that is neither on disk nor on the hub.
    """
    from benchmarks.sources.local import LocalSource

    if name == "digits":
        return Digits()
    if name in PROCEDURAL:
        return ProceduralSource(name)
    if name.startswith("folder:"):
        typed = name.removeprefix("folder:")
        if not typed:
            raise DataError("folder: names no folder; write folder:PATH, for example folder:~/images")
        return LocalSource(name, Path(typed).expanduser().absolute())
    roots = data_roots() if roots is None else roots
    for root in roots:
        if not root.is_dir():
            raise DataError(
                f"the data folder {root} does not exist; set CARRYOVER_DATA to the folder with your data"
            )
    known = KNOWN.get(name)
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts and name.strip("./ ") != ""
    for root in roots:
        for folder in known.folders if known else (name,) * inside:
            if (path := (root / folder).absolute()).is_dir():
                if known:
                    return LocalSource(
                        name, path, columns=known.columns, official=known.official, terms=known.terms
                    )
                return LocalSource(name, path)
    if known is None:
        there = [path.name for root in roots for path in root.iterdir() if path.is_dir()]
        way_out = "A folder of your own: folder:PATH, or NAME for $CARRYOVER_DATA/NAME."
        raise unknown("source", name, {"digits", *PROCEDURAL, *KNOWN, *there}, way_out)
    looked = [str(root / folder) for root in roots for folder in known.folders]
    where = f"looked for in {' and '.join(looked)}" if looked else "CARRYOVER_DATA is not set"
    if known.hub is None:
        raise DataError(
            f"{name} is not there ({where}) and is on no hub; set CARRYOVER_DATA to a folder that holds "
            f"{known.folders[0]}/ with parquet files or train/CLASS/*.jpg, or name one: folder:PATH"
        )
    from benchmarks.sources.hub import HubSource

    return HubSource(name, known.hub, looked=where, columns=known.columns, terms=known.terms)
