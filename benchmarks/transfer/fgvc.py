"""FGVC: five fine-grained tasks with the lists of Jia et al., Visual Prompt Tuning (ECCV 2022).

    fgvc/<task>/{train.json, val.json, test.json}     {image path: class id}

Class ids are any numbers; labels are their positions among the sorted ids of train.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.errors import DataError
from benchmarks.stream import Place
from benchmarks.transfer.imagelist import check_apart, decoded, folder_of, read_mapping
from benchmarks.transfer.task import Load, Parts, TransferTask

FOLDER = "fgvc"
GROUP = "fine-grained"
RULE = "train, val and test as the JSON lists of Visual Prompt Tuning have them"


@dataclass(frozen=True)
class FgvcTask(TransferTask):
    """images: the folder within the task's own to which the lists' paths are relative."""

    images: str = ""

    def find(self, roots: Sequence[Path]) -> Load | None:
        folder = folder_of(roots, FOLDER, self.name)
        return None if folder is None else partial(self._listed, folder)

    def _listed(self, folder: Path, place: Place, size: int) -> Parts:
        images = folder / self.images
        if not images.is_dir():
            what = "is a file, not a folder" if images.exists() else "does not exist"
            raise DataError(f"{images} {what}; put the images of {self.name} there")
        train = read_mapping(folder / "train.json", images, None, self.classes)
        val, test = (
            read_mapping(folder / f"{part}.json", images, train.ids, self.classes) for part in ("val", "test")
        )
        check_apart((train, val, test))
        return decoded(self, (train, val, test), RULE, place, size)


_DOGS = (
    "StanfordDogs are images of ImageNet: a backbone pretrained on ImageNet may have seen its test images, "
    "with their labels"
)

TASKS = (
    FgvcTask("CUB_200_2011", GROUP, 200, images="images"),
    FgvcTask("nabirds", GROUP, 555, images="images"),
    FgvcTask("OxfordFlowers", GROUP, 102),
    FgvcTask("StanfordDogs", GROUP, 120, _DOGS, images="Images"),
    FgvcTask("StanfordCars", GROUP, 196),
)
