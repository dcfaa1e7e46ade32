"""A folder of class folders: CLASS/*.jpg, classes and files in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Indices

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)


class FolderRows:
    """One split: the images below the class folders of `path` (see `Rows`).

    Folders within a class folder belong to the class; a class folder may be a link. Hidden files and
    files of other kinds are skipped.
    """

    def __init__(self, title: str, path: Path) -> None:
        self.title = title
        self.path = path

    def identity(self) -> str:
        from benchmarks.sources.table import stamp

        return f"folder {stamp(file for files in self._classes.values() for file in files)}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        counts = [len(files) for files in self._classes.values()]
        return np.repeat(np.arange(len(counts)), counts), tuple(self._classes)

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        files = [file for files in self._classes.values() for file in files]
        for file in files[start:]:
            yield str(file), file

    @cached_property
    def _classes(self) -> dict[str, list[Path]]:
        classes = {folder.name: _images_below(folder) for folder in subfolders(self.path)}
        for name, files in classes.items():
            if not name.isprintable():  # undecodable bytes among them, which no table could show
                raise DataError(
                    f"the class folder {name!r} in {self.path} has a name that cannot be shown; rename it"
                )
            if not files:
                raise DataError(
                    f"{self.path / name} holds no images ({', '.join(sorted(SUFFIXES))}); "
                    "put images of the class there, or remove the folder"
                )
        return classes


def subfolders(path: Path) -> list[Path]:
    """The visible folders in `path`, by name."""
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images_below(folder: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    return sorted(found)
