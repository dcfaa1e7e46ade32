"""Meta-Dataset's sources by name (Triantafillou et al., ICLR 2020, and the repository's later extras)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import DataError, unknown
from benchmarks.sources.lookup import data_roots

FOLDER = "meta-dataset"
HOW_TO_GET = (
    "download the source and convert it to records as google-research/meta-dataset describes "
    f"(doc/dataset_conversion.md), and put them under $CARRYOVER_DATA/{FOLDER}/<source>/ "
    "(dataset_spec.json and one <class id>.tfrecords per class)"
)


@dataclass(frozen=True)
class MetaSource:
    """One source: its classes per split.

    seen_by_imagenet: weights pretrained on ImageNet-1k have seen its valid and test classes; extra: not
    one of the ten of the benchmark, test only.
    """

    summary: str
    train: int
    valid: int
    test: int
    seen_by_imagenet: bool = False
    extra: bool = False


META_DATASET = {
    "ilsvrc_2012": MetaSource("ImageNet's classes, split by its graph", 712, 158, 130, seen_by_imagenet=True),
    "omniglot": MetaSource("handwritten characters of 50 alphabets", 883, 81, 659),
    "aircraft": MetaSource("aircraft variants, cropped to the aeroplane", 70, 15, 15),
    "cu_birds": MetaSource("bird species (CUB-200-2011)", 140, 30, 30),
    "dtd": MetaSource("describable textures", 33, 7, 7),
    "quickdraw": MetaSource("drawings of 345 things", 241, 52, 52),
    "fungi": MetaSource("fungi species (FGVCx 2018)", 994, 200, 200),
    "vgg_flower": MetaSource("flower species (Oxford-102)", 71, 15, 16),
    "traffic_sign": MetaSource("German traffic signs", 0, 0, 43),
    "mscoco": MetaSource("objects cut out of MS COCO", 0, 40, 40),
    "mnist": MetaSource("handwritten digits", 0, 0, 10, extra=True),
    "cifar10": MetaSource("CIFAR-10", 0, 0, 10, extra=True),
    "cifar100": MetaSource("CIFAR-100", 0, 0, 100, extra=True),
}


def source_folder(name: str, *, roots: Sequence[Path] | None = None) -> Path:
    """The folder with the records of the source `name`; nothing in it is read.

    roots: where to look, $CARRYOVER_DATA by default. RequestError for an unknown name, DataError if
    no folder of that name holds a dataset_spec.json.
    """
    if name not in META_DATASET:
        raise unknown("Meta-Dataset source", name, META_DATASET)
    folders = [root / FOLDER / name for root in (data_roots() if roots is None else roots)]
    for folder in folders:
        if (folder / "dataset_spec.json").is_file():
            return folder
    for folder in folders:
        if folder.is_dir():
            raise DataError(f"{folder} has no dataset_spec.json, which its conversion writes; {HOW_TO_GET}")
    looked = f"looked for in {' and '.join(map(str, folders))}" if folders else "CARRYOVER_DATA is not set"
    raise DataError(f"Meta-Dataset's {name} is not there ({looked}); {HOW_TO_GET}")
