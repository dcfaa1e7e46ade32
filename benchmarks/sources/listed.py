"""A list of images as a source: path, label and, where there is one, the split of each.

    cats/1.jpg,cat,train            with commas, semicolons or tabs, with or without a line of column names
    real/cup/real_066_1.jpg 66      "path label", as DomainNet's and VTAB's lists have it

Paths are relative to the list's folder. Labels are words or numbers, in the order of words as class folders
are, or of `class_list`, a file of names one a line, which numbers count from 0.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Indices, Labelled
from benchmarks.progress import Progress
from benchmarks.sources.counts import counted, some
from benchmarks.sources.parts import Chosen, Found, choose, part_of
from benchmarks.sources.reading import Reading
from benchmarks.sources.rows import JoinedRows, open_all, train_and_test
from benchmarks.sources.source import Rows, SourceData, pair
from benchmarks.store import Store

PATHS = (
    "path",
    "image",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image_path",
    "img",
    "img_path",
)
LABELS = ("label", "class", "target", "category", "class_name", "label_name", "class_id", "label_id", "y")
SPLITS = ("split", "part", "set", "subset", "partition", "fold")
_SPACED = re.compile(r"(.+?)\s+(\S+)")


@dataclass(frozen=True)
class Entry:
    """One line of a list."""

    line: int
    path: str
    label: str
    split: str


class ListedFiles:
    """The images of one split of a list before they are decoded (see `Rows`)."""

    notes: tuple[str, ...] = ()

    def __init__(self, title: str, file: Path, entries: Sequence[Entry], names: tuple[str, ...]) -> None:
        self.title = title
        self._file = file
        self._entries = entries
        self._names = names

    def identity(self) -> str:
        from benchmarks.sources.table import stamp

        folder = os.fspath(self._file.parent)
        missing = [entry for entry in self._entries if not os.path.isfile(os.path.join(folder, entry.path))]
        if missing:
            raise DataError(
                f"{self._file} names {len(missing)} of {len(self._entries)} images of {self.title} that are "
                f"not there: {some([f'{entry.path} (line {entry.line})' for entry in missing], 10)}; paths "
                f"are relative to {folder}"
            )
        labels = [entry.label for entry in self._entries]
        return f"list {stamp(os.path.join(folder, e.path) for e in self._entries)} {labels} {self._names}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        place = {name: number for number, name in enumerate(self._names)}
        return np.array([place[entry.label] for entry in self._entries], np.int64), self._names

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        for entry in self._entries[start:]:
            file = self._file.parent / entry.path
            yield f"{file} ({self._file.name}, line {entry.line})", file


class ListSource:
    """The list `file` under the name that a user typed."""

    def __init__(self, name: str, file: Path, reading: Reading) -> None:
        self.name = name
        self.file = file
        self.reading = reading

    def load(self, store: Store, progress: Progress, size: int | None = None) -> SourceData:
        """See `Source.load`."""
        chosen = choose(self.name, self.file, self._found, self.reading, official=False)
        tables = open_all(self._rows(chosen), store, progress, size, self.reading.bits)
        train, test, rule = train_and_test(tables, chosen.rule, self.name)
        notes = (*chosen.notes, *self._read[2])
        return pair(train, test, title=self.name, rule=rule, size=size, notes=notes)

    def class_parts(
        self, store: Store, progress: Progress, size: int | None = None
    ) -> Mapping[str, Labelled] | None:
        """Train, valid and test where each has classes of its own; None otherwise."""
        kinds: dict[str, list[Entry]] = {}
        for name, part in self._found.items():
            if part.kind is None or part.kind in kinds:
                return None
            kinds[part.kind] = self._parts[name]
        classes = {kind: {entry.label for entry in entries} for kind, entries in kinds.items()}
        if not {"train", "test"} <= set(kinds):
            return None
        if sum(map(len, classes.values())) != len(set().union(*classes.values())):
            return None
        rows = {
            kind: ListedFiles(
                f"{self.name} {kind}", self.file, entries, tuple(n for n in self._names if n in classes[kind])
            )
            for kind, entries in kinds.items()
        }
        tables = open_all(rows, store, progress, size, self.reading.bits)
        return {kind: table.images for kind, table in tables.items()}

    @property
    def _found(self) -> dict[str, Found]:
        self.reading.check(self.name)
        why = "it is a list of images"
        columns = ("image_column", "label_column", "class_list")
        self.reading.refuse(self.name, why, but=("train_split", "test_split", "bits", *columns))
        return {name: Found(part_of(name) if name else "train") for name in self._parts}

    def _rows(self, chosen: Chosen) -> dict[str, Rows]:
        rows: dict[str, Rows] = {}
        for split, names in (("train", chosen.train), ("test", chosen.test)):
            parts: list[Rows] = [
                ListedFiles(f"{self.file.stem} {name or split}", self.file, self._parts[name], self._names)
                for name in names
            ]
            if parts:
                rows[split] = parts[0] if len(parts) == 1 else JoinedRows(f"{self.file.stem} {split}", parts)
        return rows

    @property
    def _parts(self) -> dict[str, list[Entry]]:
        return self._read[0]

    @property
    def _names(self) -> tuple[str, ...]:
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[dict[str, list[Entry]], tuple[str, ...], tuple[str, ...]]:
        """Entries by split, class names, notes."""
        entries = _entries(self.file, self.reading)
        self._check_once(entries)
        names, notes = self._class_names([entry.label for entry in entries])
        if self.reading.class_list and all(label.isdecimal() for label in {e.label for e in entries}):
            entries = [Entry(e.line, e.path, names[int(e.label)], e.split) for e in entries]
        parts: dict[str, list[Entry]] = {}
        for entry in entries:
            parts.setdefault(entry.split, []).append(entry)
        if len(parts) > 1 and "" in parts:
            raise DataError(
                f"{self.file}, line {parts[''][0].line} names no split, but other lines do; name one for each"
            )
        return parts, names, notes

    def _check_once(self, entries: Sequence[Entry]) -> None:
        """DataError for an image that is listed twice: it could be trained and tested on."""
        seen: dict[str, Entry] = {}
        for entry in entries:
            path = os.path.normpath(entry.path)
            if (first := seen.setdefault(path, entry)) is not entry:
                raise DataError(
                    f"{self.file}, line {entry.line}: {entry.path} is already in line {first.line}; list it "
                    "once"
                )

    def _class_names(self, labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        counts = Counter(labels)
        if not self.reading.class_list:
            return tuple(sorted(counts)), ()
        file = Path(self.reading.class_list).expanduser()
        file = file if file.is_absolute() else self.file.parent / file
        names = tuple(line.strip() for line in _lines(file) if line.strip())
        numbered = [re.fullmatch(r"(\d+)[\s,:]+(.+)", name) for name in names]
        if all(numbered):  # "0 apple", counted from 0 or 1
            pairs = [(int(m[1]), m[2].strip()) for m in numbered if m]
            first = pairs[0][0]
            if [number for number, _ in pairs] != list(range(first, first + len(pairs))) or first:
                raise DataError(
                    f"{file} numbers its classes, but not from 0 one by one; write one name a line"
                )
            names = tuple(name for _, name in pairs)
        if len(set(names)) < len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise DataError(f"{file} names the class {twice!r} twice; name each once")
        if all(label.isdecimal() for label in counts):
            used = {names[int(label)]: count for label, count in counts.items() if int(label) < len(names)}
            wrong = [label for label in counts if int(label) >= len(names)]
        else:
            used, wrong = dict(counts), [label for label in counts if label not in set(names)]
        if wrong:
            raise DataError(
                f"{self.file}: label {wrong[0]} is none of the {len(names)} classes in {file}; check that "
                "the two belong together"
            )
        if unused := [name for name in names if name not in used]:
            raise DataError(
                f"{self.file} has no images of {some(unused)}, named in {file}; take them out of that file, "
                "or list some images"
            )
        return names, (f"{self.file.stem}: classes in the order of {file.name}: {counted(used)}",)


def _entries(file: Path, reading: Reading) -> list[Entry]:
    """The lines of a list; DataError for one without a path or label."""
    rows = _rows_of(file)
    if not rows:
        raise DataError(f"{file} lists no images; write a path and a label a line")
    (_, head), width = rows[0], max(len(cells) for _, cells in rows)
    lowered = [cell.strip().lower() for cell in head]
    asked = reading.image_column or reading.label_column
    has_head = bool(asked) or (
        any(cell in PATHS for cell in lowered) and any(cell in LABELS for cell in lowered)
    )
    if has_head:
        path = _column(file, head, reading.image_column, PATHS, "image")
        label = _column(file, head, reading.label_column, LABELS, "label")
        splits = [at for at, cell in enumerate(lowered) if cell in SPLITS]
        split = splits[0] if splits else None
        rows = rows[1:]
    elif width in (2, 3):
        path, label, split = 0, 1, 2 if width == 3 else None
    else:
        raise DataError(
            f"{file} has {width} columns and no line of names (path, label, split); add one, or leave two or "
            "three columns"
        )
    found = []
    for line, cells in rows:
        needed = max(path, label, split or 0)
        values = [cell.strip() for cell in cells]
        if len(values) <= needed or not values[path] or not values[label]:
            raise DataError(
                f"{file}, line {line} is {' '.join(cells)[:80]!r}; write an image's path and its label"
                + (" and split" if split is not None else "")
            )
        found.append(Entry(line, values[path], values[label], values[split] if split is not None else ""))
    return found


def _column(file: Path, head: Sequence[str], wanted: str, usual: Sequence[str], kind: str) -> int:
    """Where the column is; DataError if it is not there, or if several could be meant."""
    there = [cell.strip() for cell in head]
    found = [at for at, cell in enumerate(there) if (cell == wanted if wanted else cell.lower() in usual)]
    if len(found) == 1:
        return found[0]
    what = f"no {kind} column {wanted!r}" if wanted else f"{'several' if found else 'no'} {kind} columns"
    raise DataError(f"{file} has {what}; name one by {kind}_column= (its columns are: {', '.join(there)})")


def _rows_of(file: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells), by the sign that separates them in every line."""
    lines = [(number, line) for number, line in enumerate(_lines(file), 1) if line.strip()]
    usual = {".tsv": "\t", ".csv": ","}.get(file.suffix.lower())
    for sign in filter(None, (usual, "\t", ",", ";")):
        if lines and all(sign in line for _, line in lines):
            read = csv.reader([line for _, line in lines], delimiter=sign)
            return [(number, cells) for (number, _), cells in zip(lines, read, strict=True)]
    found = []
    for number, line in lines:
        words = line.split()
        match = _SPACED.fullmatch(line.strip())
        if match is None:
            raise DataError(f"{file}, line {number} is {line[:80]!r}; write an image's path and its label")
        three = len(words) == 3 and part_of(words[2]) is not None
        found.append((number, words if three else [match[1], match[2]] if len(words) > 2 else words))
    return found


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except IsADirectoryError:
        raise DataError(f"{file} is a folder, not a list; write folder:{file} for the images in it") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text in UTF-8 (byte {error.start}); save it so") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); name an existing file") from error
