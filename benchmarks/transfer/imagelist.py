"""A file that lists images and their labels, beside a folder that holds the images."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Indices, Labelled
from benchmarks.sources.source import Rows, copies
from benchmarks.stream import Place
from benchmarks.transfer.task import Parts, TransferTask

_LINE = re.compile(r"([^\0]+?)\s+(-?[0-9]{1,9})")


@dataclass(frozen=True, eq=False)
class ImageList:
    """What one list file says.

    folder: what `images` (N,) are relative to; labels: (N,), positions in `ids`; unit, numbers: where each
    image stands in the file, for example "line" and 3.
    """

    file: Path
    folder: Path
    images: tuple[str, ...]
    labels: Indices
    ids: tuple[int, ...]
    unit: str
    numbers: tuple[int, ...]

    def where(self, row: int) -> str:
        return f"{self.file}, {self.unit} {self.numbers[row]}"


class ListedRows:
    """The images of a list before they are decoded (see `Rows`)."""

    notes: tuple[str, ...] = ()

    def __init__(self, title: str, listed: ImageList, class_names: tuple[str, ...]) -> None:
        self.title = title
        self._listed = listed
        self._class_names = class_names

    def identity(self) -> str:
        """DataError for an image that is missing or cannot be read, with its line in the list."""
        from benchmarks.sources.table import stamp

        listed = self._listed
        files = [listed.folder / image for image in listed.images]
        try:
            stamps = stamp(files)
        except DataError:
            for row, file in enumerate(files):
                try:
                    file.stat()
                except FileNotFoundError:
                    raise DataError(
                        f"{listed.where(row)} names {file}, which is not there; restore it, or copy the "
                        "task's folder again"
                    ) from None
                except OSError as error:
                    raise DataError(
                        f"{listed.where(row)} names {file}, which cannot be read ({error.strerror}); "
                        "give yourself permission to read it, or copy the task's folder again"
                    ) from None
            raise
        labels = hashlib.sha256(listed.labels.astype("<i8").tobytes()).hexdigest()
        return f"listed {stamps} {labels} {self._class_names}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        return self._listed.labels, self._class_names

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        for row in range(start, len(self._listed.images)):
            file = self._listed.folder / self._listed.images[row]
            yield f"{self._listed.where(row)}: {file}", file


def folder_of(roots: Sequence[Path], *inside: str) -> Path | None:
    """The first folder root/inside that exists, or None; DataError if it is a file or cannot be read."""
    for root in roots:
        path = root.joinpath(*inside).absolute()
        try:
            next(path.iterdir(), None)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            raise DataError(
                f"{path} is a file, not a folder; put the task's lists and images into a folder of that name"
            ) from None
        except OSError as error:
            raise DataError(
                f"the folder {path} cannot be read ({error.strerror}); give yourself permission to read it, "
                "or copy it"
            ) from None
        return path
    return None


def read_lines(file: Path, classes: int) -> ImageList:
    """A list of "path label" lines, paths relative to the list's folder; empty lines are skipped.

    DataError for a file that cannot be read, a line of another form, a label outside the `classes` classes
    and an image that is listed twice.
    """
    entries: list[tuple[int, str, int]] = []
    for number, line in enumerate(_text(file).splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise DataError(
                f"{file}, line {number} is {line[:80]!r}; write an image's path, a space and its class's "
                "number"
            )
        entries.append((number, match[1], int(match[2])))
    return _listed(file, file.parent, "line", entries, range(classes))


def read_mapping(file: Path, folder: Path, ids: Sequence[int] | None, classes: int) -> ImageList:
    """A JSON object {path: class id}, paths relative to `folder`; labels are positions among the sorted ids.

    ids: those that may occur; None takes the file's own, of which there must be `classes`. Errors as in
    `read_lines`.
    """
    try:
        found = json.loads(_text(file), object_pairs_hook=lambda pairs: _once(file, pairs))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}, line {error.lineno} is no JSON ({error.msg}); copy or download it again"
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{file} is no JSON object; write one that maps each image's path to its class's number"
        )
    entries: list[tuple[int, str, int]] = []
    for number, (image, label) in enumerate(found.items(), 1):
        if "\0" in image:
            raise DataError(f"{file}, entry {number}: {image!r} is no path; copy or download the list again")
        if type(label) is not int:
            raise DataError(f"{file}, entry {number}: the class of {image} is {label!r}; write its number")
        entries.append((number, image, label))
    if ids is None:
        ids = sorted({label for _, _, label in entries})
        if len(ids) != classes:
            raise DataError(
                f"{file} has images of {len(ids)} classes, but the task has {classes}; download it again"
            )
    return _listed(file, folder, "entry", entries, ids)


def _once(file: Path, pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object as a dictionary; DataError for a key that occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{file}: {twice} is listed twice; list it once")
    return found


def decoded(
    task: TransferTask, lists: tuple[ImageList, ImageList, ImageList], rule: str, place: Place, size: int
) -> Parts:
    """The parts of a task from its lists (train, val, test), one table for each."""
    from benchmarks.sources.rows import open_all

    names = task.class_names(lists[0].ids)
    rows: dict[str, Rows] = {
        part: ListedRows(f"{task.name} {listed.file.stem}", listed, names)
        for part, listed in zip(("train", "val", "test"), lists, strict=True)
    }
    tables = open_all(rows, place.store, place.progress, size, None)
    train, val, test = (tables[part].images for part in rows)
    notes = copies(Labelled.join([train, val]), test, title=task.name)
    return Parts(train, val, test, rule, tuple(notes))


def check_count(listed: ImageList, count: int) -> None:
    """DataError unless the list has `count` images."""
    if len(listed.images) != count:
        raise DataError(
            f"{listed.file} lists {len(listed.images)} images, but {count} are needed; generate it again"
        )


def check_apart(lists: Iterable[ImageList]) -> None:
    """DataError for a file that is in two lists, by whatever name: training images would be scored."""
    seen: dict[str, tuple[ImageList, int]] = {}
    for listed in lists:
        for row, image in enumerate(listed.images):
            # Not the file's own link: a store that keeps equal images once links them to each other.
            folder, name = os.path.split(listed.folder / image)
            file = os.path.join(os.path.realpath(folder), name)
            first, place = seen.setdefault(file, (listed, row))
            if first is not listed:
                same = "" if first.images[place] == image else f" as {first.images[place]}"
                raise DataError(
                    f"{listed.where(row)}: {image} is also in {first.file.name}{same} "
                    f"({first.unit} {first.numbers[place]}); keep it in one list, or generate both again"
                )


def _listed(
    file: Path, folder: Path, unit: str, entries: list[tuple[int, str, int]], ids: Sequence[int]
) -> ImageList:
    """Paths without detours and labels as positions in `ids`, both checked."""
    position = {id: label for label, id in enumerate(ids)}
    seen: dict[str, int] = {}
    labels = []
    for number, name, id in entries:
        image = posixpath.normpath(name)
        if id not in position:
            raise DataError(
                f"{file}, {unit} {number}: label {id} of {image} is none of the task's {len(ids)} classes "
                f"({ids[0]} to {ids[-1]}); check that the list is this task's"
            )
        if image in seen:
            raise DataError(
                f"{file}, {unit} {number}: {image} is already in {unit} {seen[image]}; list it once"
            )
        seen[image] = number
        labels.append(position[id])
    if not entries:
        raise DataError(f"{file} lists no images; copy or generate it again")
    return ImageList(
        file, folder, tuple(seen), np.array(labels, np.int64), tuple(ids), unit, tuple(seen.values())
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except FileNotFoundError:
        raise DataError(f"{file} is not there; copy the task's folder again, lists and images") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text (byte {error.start}); copy or generate it again") from error
    except OSError as error:
        raise DataError(
            f"{file} cannot be read ({error.strerror}); give yourself permission to read it, or copy it again"
        ) from error
