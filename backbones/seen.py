"""What a backbone has seen before the first task: images by their digests, classes by their names.

Images are known of a backbone that `carryover pretrain` made: beside its card lies

    FINGERPRINT.images.npy   sorted 64-bit digests of the pixels before any resizing, one file per source

Classes are known of weights whose tag on timm's hub names ImageNet: its 1000 classes are among those of
ImageNet-12k, -21k and -22k as well.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from timm.data.imagenet_info import ImageNetInfo

from backbones.architecture import spec_of
from backbones.pretraining.card import Card, read_card
from backbones.weights import source_of
from benchmarks.images import Digests, Labelled
from benchmarks.store import write_atomic

IMAGENET = re.compile(r"in(1|12|21|22)k")  # in a tag of timm: augreg_in21k_ft_in1k


@dataclass(frozen=True, eq=False)
class Seen:
    """source: its name; images: (N,) sorted digests, None if unknown; classes: their names, if known."""

    source: str
    images: Digests | None = None
    classes: frozenset[str] = frozenset()

    def images_in(self, digests: Digests) -> int:
        """How many of these images it has seen."""
        return 0 if self.images is None else int(np.isin(digests, self.images).sum())

    def classes_in(self, names: tuple[str, ...]) -> list[str]:
        """Those of these classes that it has learnt to tell apart, by a name or an id that both have."""
        return [name for name in names if _plain(name) in self.classes]


def seen(backbone: str) -> Seen | None:
    """What the backbone of that name was pretrained on; None if nothing is known of it."""
    spec = spec_of(backbone)
    source = source_of(spec)
    if source == "pretrained":
        tag = spec.base.partition(".")[2]
        return Seen("ImageNet", classes=imagenet_classes()) if IMAGENET.search(tag) else None
    path = Path(source).expanduser()
    if source == "random" or not path.with_suffix(".json").exists():
        return None
    try:
        card = read_card(path.with_suffix(".json"))
    except (OSError, msgspec.MsgspecError):
        return None  # a file of somebody else's that has the card's name
    images = images_file(path.parent, card)
    return Seen(card.source, np.load(images, allow_pickle=False) if images.exists() else None)


def images_file(folder: Path, card: Card) -> Path:
    """Where the digests of the images of a card lie."""
    return folder / f"{card.fingerprint[:12]}.images.npy"


def write_images(folder: Path, card: Card, train: Labelled) -> Path | None:
    """Keep which images a backbone was pretrained on; None if its source has no digests."""
    digests = train.inputs.digests
    if digests is None:
        return None
    path = images_file(folder, card)
    file = io.BytesIO()
    np.save(file, np.unique(digests))
    write_atomic(path, file.getvalue())
    return path


@cache
def imagenet_classes() -> frozenset[str]:
    """The ids (n01440764) and names (tench, tinca tinca) of ImageNet-1k's classes."""
    info = ImageNetInfo("imagenet-1k")
    names = [name for at in range(info.num_classes()) for name in info.index_to_description(at).split(",")]
    return frozenset([*info.label_names(), *map(_plain, names)])


def _plain(name: str) -> str:
    """A class name as it is compared: the part after its source, without case, dashes and underscores."""
    return re.sub(r"[\s_-]+", " ", name.rpartition("/")[2]).strip().lower()
