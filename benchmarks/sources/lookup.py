"""From what a user types to a source: a folder under $CARRYOVER_DATA first, then the hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import DataError, unknown
from benchmarks.progress import Progress
from benchmarks.sources.digits import Digits
from benchmarks.sources.parquet import Columns
from benchmarks.sources.paths import FOLDER, LIST
from benchmarks.sources.procedural import PROCEDURAL, ProceduralSource
from benchmarks.sources.reading import Reading
from benchmarks.sources.source import Source, SourceData
from benchmarks.store import Store


@dataclass(frozen=True)
class Known:
    """A data set that is known by name: its folders under a data root, and its place on the hub.

    mirror: whether an image flipped left to right keeps its class; by_column: whether its labels are not
    those that class folders would have.
    """

    summary: str
    folders: tuple[str, ...]
    hub: str | None = None
    columns: Columns | None = None
    official: bool = False
    terms: str = ""
    mirror: bool = True
    by_column: bool = False


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
        by_column=True,
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
        "list:FILE": "a list of images: path, label and, if given, split; separated by commas, tabs or "
        "spaces",
        "NAME": "the folder $CARRYOVER_DATA/NAME, laid out likewise",
    }


def may_mirror(name: str) -> bool:
    """Whether a source's images keep their class when flipped left to right; True unless stated otherwise."""
    if name in KNOWN:
        return KNOWN[name].mirror
    return name != "digits" and (name not in PROCEDURAL or PROCEDURAL[name].mirror)


class Ambiguous:
    """A name that means two things: a data set that ships with Carryover, and a folder of the user's."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def load(self, store: Store, progress: Progress, size: int | None = None) -> SourceData:
        """DataError: which of the two is meant is not guessed."""
        raise DataError(
            f"{self.name} is a data set that ships with Carryover, and {self.folder} is a folder of yours: "
            f"write folder:{self.folder} for yours, or rename the folder to use the one that ships"
        )


def open_source(name: str, reading: Reading | None = None, *, roots: Sequence[Path] | None = None) -> Source:
    """The source that `name` stands for; nothing is read before `load`.

    reading: how its files are read; roots: where to look for folders, $CARRYOVER_DATA by default.
    RequestError for an unknown name and a part of `reading` that does not apply, DataError for a known data
    set that is neither on disk nor on the hub.
    """
    from benchmarks.sources.listed import ListSource
    from benchmarks.sources.local import LocalSource

    reading = reading or Reading()
    if name == "digits" or name in PROCEDURAL:
        reading.refuse(name, "it is no folder or file of yours")
        for root in data_roots() if roots is None else roots:
            if (root / name).is_dir():
                return Ambiguous(name, (root / name).absolute())
        return Digits() if name == "digits" else ProceduralSource(name)
    for prefix, example in ((FOLDER, "folder:~/images"), (LIST, "list:~/images/list.csv")):
        if name == prefix:
            what = prefix.removesuffix(":")
            raise DataError(f"{prefix} names no {what}; write {prefix}PATH, for example {example}")
    if name.startswith(FOLDER):
        return LocalSource(name, Path(name.removeprefix(FOLDER)).expanduser().absolute(), reading=reading)
    if name.startswith(LIST):
        return ListSource(name, Path(name.removeprefix(LIST)).expanduser().absolute(), reading)
    roots = data_roots() if roots is None else roots
    for root in roots:
        if not root.is_dir():
            raise DataError(
                f"the data folder {root} does not exist; set CARRYOVER_DATA to the folder with your data"
            )
    known = KNOWN.get(name)
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts and name.strip("./ ") != ""
    places = [
        (root / folder).absolute()
        for root in roots
        for folder in (known.folders if known else (name,) * inside)
    ]
    if there := [place for place in places if place.is_dir()]:
        hidden = tuple(f"{name}: {there[0]} is read, {other} is not" for other in there[1:])
        if known is None:
            return LocalSource(name, there[0], reading=reading, notes=hidden)
        return LocalSource(
            name,
            there[0],
            columns=known.columns,
            official=known.official,
            terms=known.terms,
            reading=reading,
            notes=hidden,
            by_column=known.by_column,
        )
    if known is None:
        named = [path.name for root in roots for path in root.iterdir() if path.is_dir()]
        way_out = "A folder of your own: folder:PATH, or NAME for $CARRYOVER_DATA/NAME."
        raise unknown("source", name, {"digits", *PROCEDURAL, *KNOWN, *named}, way_out)
    looked = [str(place) for place in places]
    where = f"looked for in {' and '.join(looked)}" if looked else "CARRYOVER_DATA is not set"
    if known.hub is None:
        raise DataError(
            f"{name} is not there ({where}) and is on no hub; set CARRYOVER_DATA to a folder that holds "
            f"{known.folders[0]}/ with parquet files or train/CLASS/*.jpg, or name one: folder:PATH"
        )
    from benchmarks.sources.hub import HubSource

    return HubSource(name, known.hub, looked=where, columns=known.columns, terms=known.terms, reading=reading)
