"""VTAB-1k: 19 tasks of 800 + 200 training images (Zhai et al., 2019), in the layout of the usual copies.

    vtab-1k/<task>/{train800.txt, val200.txt, test.txt}     "path label" lines, paths relative to the folder

`train800val200.txt` is optional, and checked if present: it names the images of both lists or, in the most
common copy, images of its own. A task without such a folder is cut from a whole data set if there is one
(`served`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.errors import DataError
from benchmarks.stream import Place
from benchmarks.transfer.imagelist import (
    ImageList,
    check_apart,
    check_count,
    decoded,
    folder_of,
    read_lines,
)
from benchmarks.transfer.served import Served, cut
from benchmarks.transfer.task import TRAIN, VAL, Load, Parts, TransferTask

FOLDER = "vtab-1k"
LISTS = ("train800.txt", "val200.txt", "test.txt")
RULE = "train800, val200 and test as the list files have them"


@dataclass(frozen=True)
class VtabTask(TransferTask):
    """served: the whole data set that it can be cut from."""

    served: Served | None = None

    def find(self, roots: Sequence[Path]) -> Load | None:
        if folder := folder_of(roots, FOLDER, self.name):
            return partial(self._listed, folder)
        source = self.served.open(roots) if self.served is not None else None
        return None if source is None else partial(cut, self, source)

    def _listed(self, folder: Path, place: Place, size: int) -> Parts:
        train, val, test = (read_lines(folder / name, self.classes) for name in LISTS)
        check_count(train, TRAIN)
        check_count(val, VAL)
        check_apart((train, val, test))
        if (both := folder / "train800val200.txt").exists():
            _check_union(read_lines(both, self.classes), train, val, test)
        return decoded(self, (train, val, test), RULE, place, size)


def _check_union(both: ImageList, train: ImageList, val: ImageList, test: ImageList) -> None:
    """DataError unless `both` is train and val: by path, or by labels where it has files of its own."""
    way_out = f"generate the lists again, or remove {both.file.name}, which is not needed"
    check_count(both, TRAIN + VAL)
    check_apart((both, test))
    expected = {
        image: int(label)
        for part in (train, val)
        for image, label in zip(part.images, part.labels, strict=True)
    }
    if expected.keys().isdisjoint(both.images):
        found, wanted = np.sort(both.labels), np.sort(np.concatenate([train.labels, val.labels]))
        if not np.array_equal(found, wanted):
            raise DataError(f"{both.file} has other labels than train800.txt and val200.txt have; {way_out}")
        return
    for row, image in enumerate(both.images):
        if image not in expected:
            raise DataError(f"{both.where(row)}: {image} is not in train800.txt or val200.txt; {way_out}")
        if both.labels[row] != expected[image]:
            raise DataError(
                f"{both.where(row)}: {image} has label {both.labels[row]}, but {expected[image]} in "
                f"train800.txt or val200.txt; {way_out}"
            )


NATURAL, SPECIALISED, STRUCTURED = "natural", "specialised", "structured"

TASKS = (
    VtabTask("cifar", NATURAL, 100, served=Served("cifar100")),
    VtabTask("caltech101", NATURAL, 102),
    VtabTask("dtd", NATURAL, 47),
    VtabTask("oxford_flowers102", NATURAL, 102),
    VtabTask("oxford_iiit_pet", NATURAL, 37),
    VtabTask("svhn", NATURAL, 10, served=Served("svhn")),
    VtabTask("sun397", NATURAL, 397),
    VtabTask("patch_camelyon", SPECIALISED, 2),
    VtabTask("eurosat", SPECIALISED, 10),
    VtabTask("resisc45", SPECIALISED, 45),
    VtabTask("diabetic_retinopathy", SPECIALISED, 5),
    VtabTask("clevr_count", STRUCTURED, 8),
    VtabTask("clevr_dist", STRUCTURED, 6),
    VtabTask("dmlab", STRUCTURED, 6),
    VtabTask("kitti", STRUCTURED, 4),
    VtabTask("dsprites_loc", STRUCTURED, 16),
    VtabTask("dsprites_ori", STRUCTURED, 16),
    VtabTask("smallnorb_azi", STRUCTURED, 18),
    VtabTask("smallnorb_ele", STRUCTURED, 9),
)
