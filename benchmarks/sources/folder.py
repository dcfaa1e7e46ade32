"""A folder of class folders: CLASS/*.jpg, classes and files in the order of their names.

Names are words: class folders 1, 2, 10 come as 1, 10, 2, as everywhere in the field.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Indices
from benchmarks.sources.counts import counted, many, some
from benchmarks.sources.parts import part_of
from benchmarks.sources.reading import Reading
from benchmarks.sources.scan import SUFFIXES, Folder


class FolderRows:
    """One split: the images below the class folders of `folder` (see `Rows`).

    A class folder holds images; those in folders below it belong to the class as well, and links are
    followed, both said in `remarks`. One that holds folders alone is refused: which level the classes are is
    not guessed.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, title: str, folder: Folder, reading: Reading | None = None) -> None:
        self.title = title
        self.folder = folder
        self._reading = reading or Reading()

    def identity(self) -> str:
        from benchmarks.sources.table import stamp

        # Names too: the same files read at another depth have other labels.
        counts = [(name, len(files)) for name, files in self._classes.items()]
        return f"folder {stamp(file for files in self._classes.values() for file in files)} {counts}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        counts = [len(files) for files in self._classes.values()]
        return np.repeat(np.arange(len(counts)), counts), tuple(self._classes)

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        files = [file for files in self._classes.values() for file in files]
        for file in files[start:]:
            yield file, Path(file)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is taken in or left out beyond CLASS/*.jpg, counted per class; as the folder is now."""
        taken: Counter[tuple[str, str]] = Counter()
        left: Counter[tuple[str, str]] = Counter()
        for name, folders in self._members.items():
            for folder in folders:
                linked = folder.linked_below()
                for link, count in linked.items():
                    taken[f"through linked folders ({link})", name] += count
                if below := len(folder.below()) - len(folder.images) - linked.total():
                    taken[f"from folders below the class folder ({some(folder.holding, 3)})", name] += below
                for reason, count in folder.left_below().items():
                    left[reason, name] += count
        said = [f"{self.title}: taken in {why}: {counted(of)}" for why, of in _by_reason(taken).items()]
        said += [f"{self.title}: left out, {why}: {counted(of)}" for why, of in _by_reason(left).items()]
        outside = dict(self.folder.left)
        if self.folder.images:
            outside["in no class folder"] = len(self.folder.images)
        said += [f"{self.title}: left out, {why}: {many(n, 'file')}" for why, n in outside.items()]
        return tuple(said)

    @cached_property
    def _classes(self) -> dict[str, list[str]]:
        return {
            name: [file for folder in folders for file in folder.below()]
            for name, folders in self._members.items()
        }

    @cached_property
    def _members(self) -> dict[str, list[Folder]]:
        """The class folders by class, in the order of names."""
        reading = self._reading
        found = _at_level(self.folder, reading) if reading.depth else _beside(self.folder)
        for name in found:
            if not name.isprintable():  # undecodable bytes among them, which no table could show
                raise DataError(
                    f"the class folder {name!r} in {self.folder.path} has a name that cannot be shown; "
                    "rename it"
                )
        return dict(sorted(found.items()))


def _by_reason(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (why, name), count in counts.items():
        found.setdefault(why, {})[name] = count
    return found


def _beside(part: Folder) -> dict[str, list[Folder]]:
    """The folders in `part` as classes; DataError for one that holds no images itself, or data sets."""
    for name, folder in part.folders.items():
        if not folder.any:
            raise DataError(
                f"{folder.path} holds no images ({', '.join(sorted(SUFFIXES))}); put images of the class "
                "there, or remove the folder"
            )
        inside = folder.holding
        parts = [word for word in inside if part_of(word)]
        if parts:
            held = "images and" if folder.images else "no images itself but"
            raise DataError(
                f"{folder.path} holds {held} folders named {some(parts)}: it is a data set of its own, not a "
                f"class; name it (folder:{folder.path}), or add depth=1 to take all below it as the class "
                f"{name}"
            )
        if not folder.images or folder.height > 1:
            raise DataError(_level_asked(part, folder))
    return {name: [folder] for name, folder in part.folders.items()}


def _level_asked(part: Folder, folder: Folder) -> str:
    """The sentence for folders within a class folder."""
    inside = folder.holding
    held = (
        "folders within folders" if folder.images else f"no images itself but {many(len(inside), 'folder')}"
    )
    name = folder.path.rpartition("/")[2]
    classes = f"name it (folder:{folder.path}) if its folders are the classes, "
    levels = folder.height + 1
    return (
        f"{folder.path} holds {held} ({some(inside, 3)}), so that the classes cannot be told; "
        + (classes if len(part.folders) == 1 or not folder.images else "")
        + f"add depth={levels} if the classes are the folders of the last level below {part.path}, or "
        f"depth=1 if all images below {name} are of one class"
    )


def _at_level(part: Folder, reading: Reading) -> dict[str, list[Folder]]:
    """The folders `depth` levels below `part`, by class; DataError for images above, or names that recur."""
    depth = reading.depth or 1
    level: list[tuple[tuple[str, ...], Folder]] = [((), part)]
    for step in range(depth):
        if step and (over := next((folder for _, folder in level if folder.images), None)):
            raise DataError(
                f"{over.path} holds images above the class folders of depth={depth}; move them into a class "
                "folder, or give another depth"
            )
        level = [((*names, name), folder) for names, above in level for name, folder in above.holding.items()]
    last = Counter(names[-1] for names, _ in level)
    again = next((name for name, count in last.items() if count > 1), None)
    if again is not None and reading.merge is None:
        where = [folder.path.rpartition("/")[0] for names, folder in level if names[-1] == again]
        raise DataError(
            f"the class folder {again} is in {some(where, 3)}; add merge=true if these are one class, "
            f"merge=false if they are several ({level[0][0][0]}/{level[0][0][-1]}, ...)"
        )
    found: dict[str, list[Folder]] = {}
    for names, folder in level:
        found.setdefault("/".join(names) if reading.merge is False else names[-1], []).append(folder)
    return found


class BareRows:
    """All images below `folder`, without labels (see `Rows`): one nameless class."""

    notes: tuple[str, ...] = ()

    def __init__(self, title: str, folder: Folder) -> None:
        self.title = title
        self.folder = folder
        self._files = folder.below()

    def identity(self) -> str:
        from benchmarks.sources.table import stamp

        return f"bare {stamp(self._files)}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        return np.zeros(len(self._files), np.int64), ("",)

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        for file in self._files[start:]:
            yield file, Path(file)
