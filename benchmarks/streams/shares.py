"""How many images of each class a split stream trains on, and how many it holds out for validation.

    val=0.1           a tenth of each class of train, at least one image and never all
    val=0             none: all of train is trained on, as in most published numbers
    per_class=50      so many of each class, with those for validation
    shots=5           after the first task so many of each class, and none for validation; init=60&inc=5 on
                      CIFAR-100 is few-shot class-incremental (Tao et al., CVPR 2020), 60 + 8 x 5
    imbalance=0.01    a long tail: class c of C in the order has n_max * imbalance^(c / (C - 1)) images,
                      rounded down (Cao et al., NeurIPS 2019); 10,847 in all on CIFAR-100

Test images stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.errors import DataError, RequestError


@dataclass(frozen=True)
class Share:
    """Images of one class."""

    train: int
    val: int

    @property
    def used(self) -> int:
        return self.train + self.val


@dataclass(frozen=True)
class Amounts:
    """The parameters that say how many images a class gives."""

    val: float = 0.1
    per_class: int | None = None
    shots: int | None = None
    imbalance: float | None = None

    @property
    def by_order(self) -> bool:
        """Whether a class gives more or fewer images at another place in the order."""
        return self.shots is not None or self.imbalance is not None

    def held(self, images: int) -> int:
        """How many of a class's images go to val."""
        return min(max(1, round(images * self.val)), images - 1) if self.val else 0

    def said(self) -> str:
        """The rule in words, the same for every order."""
        parts = ["val: none, all of train is trained on"]
        if self.val:
            parts = [f"val: {100 * self.val:g}% of each class of train, drawn per seed"]
        if self.per_class is not None:
            parts.append(f"{self.per_class} images per class, drawn per seed")
        if self.shots is not None:
            parts.append(
                f"{self.shots} training images of each class after the first task, drawn per seed, and none "
                "of these classes for validation"
            )
        if self.imbalance is not None:
            parts.append(
                f"long tail: n_max * {self.imbalance:g}^(c / (C - 1)) images of class c of C in the order, "
                "drawn per seed"
            )
        return "; ".join(parts)


def check_ranges(owner: str, limits: Sequence[tuple[str, float | None, float, float]]) -> None:
    """RequestError for a value outside its limits: (name, value or None, lowest, highest)."""
    for key, value, low, high in limits:
        if value is not None and not low <= value <= high:
            raise RequestError(f"{owner}: {key}={value} lies outside {low} to {high}")


def shares(
    owner: str,
    amounts: Amounts,
    tasks: Sequence[Sequence[int]],
    found: Sequence[int],
    class_names: Sequence[str],
) -> list[Share]:
    """What each class gives, by its id.

    tasks: the classes of each task, in order; found: training images of each class that there are.
    DataError, which begins with `owner`, for a class with too few of them; RequestError for a tail that is
    too long.
    """
    wanted = dict.fromkeys(range(len(found)), amounts.per_class)
    needed = amounts.per_class or (2 if amounts.val else 1)
    for cls, name in enumerate(class_names):
        if found[cls] < needed:
            way_out = "take a smaller per_class" if amounts.per_class else "one to train, one to validate"
            said = f"; {way_out}" if amounts.per_class else f" ({way_out}, or take val=0)" * bool(amounts.val)
            raise DataError(
                f"{owner}: class {name!r} has {found[cls]} training images and {needed} are needed{said}"
            )
    few = frozenset[int]()
    if amounts.shots is not None:
        if len(tasks) < 2:
            raise RequestError(
                f"{owner}: shots={amounts.shots} counts from the second task, and there is one; "
                "add init and inc"
            )
        few = frozenset(cls for task in tasks[1:] for cls in task)
        for cls in sorted(few):
            if min(found[cls], amounts.per_class or found[cls]) < amounts.shots:
                raise DataError(
                    f"{owner}: class {class_names[cls]!r} has {found[cls]} training images and shots="
                    f"{amounts.shots} are needed; take fewer shots, and no smaller per_class"
                )
    if amounts.imbalance is not None:
        most, order = (
            min(max(found), amounts.per_class or max(found)),
            [cls for task in tasks for cls in task],
        )
        for place, cls in enumerate(order):
            tail = int(most * amounts.imbalance ** (place / max(len(order) - 1, 1)))
            wanted[cls] = min(tail, found[cls])
            if tail < (2 if amounts.val else 1):
                raise RequestError(
                    f"{owner}: imbalance={amounts.imbalance:g} of {most} images leaves {tail} of class "
                    f"{class_names[cls]!r}; take a larger imbalance"
                    + (", or val=0, which holds out no image" if tail == 1 else "")
                )
    given = []
    for cls, images in enumerate(found):
        if cls in few:
            given.append(Share(amounts.shots or 0, 0))
            continue
        limit = wanted[cls]
        used = images if limit is None else min(images, limit)
        given.append(Share(used - amounts.held(used), amounts.held(used)))
    return given
