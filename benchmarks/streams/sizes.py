"""How many classes each task has: an initial task, equal increments, and what remains.

    init=50&inc=10      [init] + [inc] * k + [remainder]; B50-Inc10. Without init: B0-Inc10
    sizes=50+20+30      as listed
    tasks=10            ten tasks, as equal as they can be: the first ones have one class more

as in PyCIL and PILOT, where the remainder is the last, smaller task.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from benchmarks.errors import RequestError


def task_sizes(
    owner: str,
    classes: int,
    *,
    tasks: int | None = None,
    init: int | None = None,
    inc: int | None = None,
    sizes: str = "",
) -> tuple[int, ...]:
    """The number of classes of each task; they sum up to `classes`.

    RequestError, which begins with `owner`, for numbers that contradict each other or the source.
    """
    given = [f"tasks={tasks}"] * (tasks is not None) + [f"sizes={sizes}"] * bool(sizes)
    given += ["init and inc" if init is not None else f"inc={inc}"] * (inc is not None)
    if len(given) > 1:
        raise RequestError(f"{owner}: {' and '.join(given)} both say how classes are cut; give one of them")
    if init is not None and inc is None:
        raise RequestError(f"{owner}: init={init} needs inc, the classes of each later task; add inc=10")
    if sizes:
        return _listed(owner, classes, sizes)
    if inc is not None:
        first = inc if init is None else init
        for key, value in (("init", first if init is not None else 1), ("inc", inc)):
            if not 1 <= value <= classes:
                raise RequestError(
                    f"{owner}: {key}={value} lies outside 1 to {classes}, the number of classes"
                )
        whole, rest = divmod(classes - first, inc)
        return (first, *[inc] * whole, *([rest] if rest else []))
    if tasks is None or not 1 <= tasks <= classes:
        raise RequestError(f"{owner}: tasks={tasks} lies outside 1 to {classes}, the number of classes")
    each, more = divmod(classes, tasks)
    return (*[each + 1] * more, *[each] * (tasks - more))


def _listed(owner: str, classes: int, sizes: str) -> tuple[int, ...]:
    parts = sizes.split("+")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise RequestError(f"{owner}: sizes={sizes} is no list of sizes; write sizes=50+10+10")
    listed = tuple(map(int, parts))
    if sum(listed) != classes:
        raise RequestError(
            f"{owner}: sizes={sizes} sum up to {sum(listed)} classes, and there are {classes}; "
            "cut all of them"
        )
    return listed


def said(sizes: Sequence[int]) -> str:
    """Unequal sizes in words, "196 classes in 10 tasks: 9 of 20, then 1 of 16"; "" if all are equal."""
    if len(set(sizes)) < 2:
        return ""
    runs = [f"{len(list(run))} of {size}" for size, run in groupby(sizes)]
    return f"{sum(sizes)} classes in {len(sizes)} tasks: {', then '.join(runs)}"
