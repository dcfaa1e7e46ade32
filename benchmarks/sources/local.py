"""A folder on disk as a source: which files are its splits, and which of them serve as train and test.

Parquet files go by their names (`train-00000-of-00005.parquet`, `data/test-...`, `train/0000.parquet`),
image folders by `train/`, `test/`, `val/` and the like (`parts`). Without a test split that has labels, the
validation split serves as test; without either, a fifth of each class is drawn; both are said.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.errors import DataError
from benchmarks.images import Labelled
from benchmarks.progress import Progress
from benchmarks.sources.counts import many, some
from benchmarks.sources.folder import BareRows, FolderRows
from benchmarks.sources.foreign import foreign
from benchmarks.sources.parquet import BareParquet, Columns, ParquetRows, Unlabelled
from benchmarks.sources.parts import Chosen, Found, choose, part_in, part_of
from benchmarks.sources.paths import folder_name
from benchmarks.sources.reading import Reading
from benchmarks.sources.rows import JoinedRows, open_all, train_and_test
from benchmarks.sources.scan import Folder, scan
from benchmarks.sources.source import DRAWN_RULE, Rows, SourceData, draw_test, pair
from benchmarks.store import Store

_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.parquet$")
# What tells the files of one split apart: shard numbers, hashes, counters.
_COUNTER = re.compile(r"([-_.](\d+|of|[0-9a-f]{8,}|[0-9a-f-]{30,}|c000|snappy))+$|^\d+$")


class LocalSource:
    """The folder `path` under the name that a user typed.

    official: the data set has a test split of its own, so none is ever drawn; columns: where `reading`
    names none; notes: on how it was found; by_column: class folders could not have its labels.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        columns: Columns | None = None,
        official: bool = False,
        terms: str = "",
        reading: Reading | None = None,
        notes: tuple[str, ...] = (),
        by_column: bool = False,
    ) -> None:
        self.name = name
        self.path = path
        self.by_column = by_column
        self.reading = reading or Reading()
        asked = Columns(self.reading.image_column or None, self.reading.label_column or None)
        known = columns or Columns()
        self.columns = Columns(asked.image or known.image, asked.label or known.label)
        self.official = official
        self.terms = terms
        self.notes = notes
        self._called = folder_name(name) or name  # in notes, which are kept: no path of this machine

    def load(self, store: Store, progress: Progress, size: int | None = None) -> SourceData:
        """See `Source.load`."""
        found = dict(self._found)
        while True:
            chosen = choose(self.name, self.path, found, self.reading, self.official)
            try:
                tables = open_all(self._rows(chosen), store, progress, size, self.reading.bits)
                break
            except PermissionError as error:
                raise DataError(
                    f"{error.filename} cannot be read; give yourself permission to read it, or copy it"
                ) from error
            except Unlabelled:
                usual = [name for name in chosen.test if found[name].labelled]
                if self.reading.test_split or not usual:
                    raise
                # Its labels were looked for and are not there; what is broken in train is raised next time.
                for name in usual:
                    found[name] = dataclasses.replace(found[name], labelled=False)
        train, test, rule = train_and_test(tables, chosen.rule, self.name)
        said = [*self.notes, *chosen.notes, *self._remarks(chosen)]
        said += [note for table in tables.values() for note in table.notes]
        if bits := max(table.bits for table in tables.values()):
            said.append(
                f"{self._called}: 16-bit images are read with {bits} significant bits, black to white"
            )
        return pair(train, test, title=self.name, rule=rule, size=size, terms=self.terms, notes=tuple(said))

    def load_bare(self, store: Store, progress: Progress, size: int | None = None) -> SourceData | None:
        """As `load`, of images in no class folders, all of one nameless class; None if they have labels.

        A fifth is held out as test.
        """
        if not self.path.is_dir():
            return None
        rows = self._bare_parquet() if self._parquet else self._bare_folder()
        if rows is None:
            return None
        tables = open_all({"train": rows}, store, progress, size, self.reading.bits)
        train, test = draw_test(tables["train"].images, title=self.name)
        return pair(
            train, test, title=self.name, rule=f"bare images; {DRAWN_RULE}", size=size, terms=self.terms
        )

    def _bare_parquet(self) -> Rows | None:
        """The training images, if they have no labels."""
        chosen = choose(self.name, self.path, self._found, self.reading, official=False)
        rows = self._parts[chosen.train[0]]
        if not isinstance(rows, ParquetRows):
            return None
        try:
            rows.labels()
        except Unlabelled:
            return BareParquet(rows)
        return None

    def _bare_folder(self) -> Rows | None:
        """The images that lie in the folder itself or in that of its train part, if there are no classes."""
        root = self._root
        parts = {name: folder for name, folder in root.holding.items() if part_of(name)}
        if root.images and not root.holding:
            return BareRows(f"{self._called} images", root)
        if not parts or len(parts) < len(root.holding) or any(part.holding for part in parts.values()):
            return None
        of_train = [folder for name, folder in parts.items() if part_of(name) == "train"]
        return BareRows(f"{self._called} images", of_train[0]) if len(of_train) == 1 else None

    def class_parts(
        self, store: Store, progress: Progress, size: int | None = None
    ) -> Mapping[str, Labelled] | None:
        """Train, valid and test where each has its own classes, as in few-shot data sets; None otherwise."""
        kinds: dict[str, Rows] = {}
        if self.reading.train_split or self.reading.test_split:
            return None
        for name, part in self._found.items():
            if part.kind is None or part.kind in kinds or not part.labelled:
                return None
            kinds[part.kind] = self._parts[name]
        if not {"train", "test"} <= set(kinds):
            return None
        try:
            occurring = {kind: _occurring(rows) for kind, rows in kinds.items()}
        except Unlabelled:
            return None
        if sum(map(len, occurring.values())) != len(set().union(*occurring.values())):
            return None
        tables = open_all(kinds, store, progress, size, self.reading.bits)
        return {kind: _only(table.images) for kind, table in tables.items()}

    def splits(self) -> dict[str, Rows]:
        """The splits in use: train, and test if there is one; DataError if files are missing."""
        return self._rows(choose(self.name, self.path, self._found, self.reading, self.official))

    def _rows(self, chosen: Chosen) -> dict[str, Rows]:
        rows = {}
        for split, names in (("train", chosen.train), ("test", chosen.test)):
            if names:
                parts = [self._parts[name] for name in names]
                rows[split] = parts[0] if len(parts) == 1 else JoinedRows(f"{self._called} {split}", parts)
        return rows

    def _remarks(self, chosen: Chosen) -> list[str]:
        """On the folders in use, as they are now."""
        rows = [self._parts[name] for name in (*chosen.train, *chosen.test)]
        said = [remark for part in rows if isinstance(part, FolderRows) for remark in part.remarks]
        if self._parquet or not rows:
            return said
        root, used = self._root, [part.folder for part in rows if isinstance(part, FolderRows)]
        if root not in used:
            said += [f"{self._called}: left out, {why}: {many(n, 'file')}" for why, n in root.left.items()]
            if root.images:
                said.append(f"{self._called}: left out, in no part: {many(len(root.images), 'file')}")
        return said

    @property
    def _found(self) -> dict[str, Found]:
        """The parts by the names that they have there."""
        if not self.path.is_dir():
            what = "is a file, not a folder" if self.path.exists() else "does not exist"
            raise DataError(
                f"{self.name}: the folder {self.path} {what}; give one that holds images or parquet files"
            )
        self.reading.check(self.name)
        if self._parquet:
            why = "its files are parquet"
            self.reading.refuse(
                self.name, why, but=("train_split", "test_split", "image_column", "label_column", "bits")
            )
            return {name: Found(kind) for name, (kind, _) in self._parquet.items()}
        if self.by_column:
            raise DataError(
                f"{self.name}: its labels are the column {self.columns.label!r} of parquet files, and "
                f"{self.path} has "
                "class folders; put the parquet files there"
            )
        why = "its files are images in folders"
        self.reading.refuse(self.name, why, but=("depth", "merge", "train_split", "test_split", "bits"))
        if self._folders:
            return {name: Found(kind, bool(folder.holding)) for name, (kind, folder) in self._folders.items()}
        raise self._nothing()

    @cached_property
    def _parts(self) -> dict[str, Rows]:
        if self._parquet:
            return {
                name: ParquetRows(f"{self._called} {name}", tuple(files), self.columns)
                for name, (_, files) in self._parquet.items()
            }
        return {
            name: FolderRows(f"{self._called} {name}", folder, self.reading)
            for name, (_, folder) in self._folders.items()
        }

    def _nothing(self) -> DataError:
        """The error for a folder without anything that is read here."""
        other = foreign(self.path)
        if self._root.images:
            return DataError(
                f"{self.name}: {self.path} holds images but no class folders; put them into CLASS/ or "
                "train/CLASS/ (`carryover pretrain` takes them as they are, without labels)"
            )
        empty = not any(self.path.iterdir())
        what = f"holds {other}" if other else "is empty" if empty else "holds no class folders"
        return DataError(
            f"{self.name}: {self.path} {what}; put images there (CLASS/*.jpg or train/CLASS/*.jpg) "
            "or parquet files (train.parquet, test.parquet)"
        )

    @cached_property
    def _root(self) -> Folder:
        try:
            return scan(str(self.path))
        except PermissionError as error:
            raise DataError(
                f"{error.filename} cannot be read; give yourself permission to read it, or copy it"
            ) from error

    @cached_property
    def _parquet(self) -> dict[str, tuple[str | None, list[Path]]]:
        """Kind and files of each split, by name; empty if there are no parquet files."""
        files: list[Path] = []
        level = [self._root]
        for _ in range(3):  # as a file, in data/, in CONFIG/train/
            files = files or sorted(Path(folder.path, name) for folder in level for name in folder.parquet)
            level = [inside for folder in level for inside in folder.folders.values()]
        splits: dict[str, tuple[str | None, list[Path]]] = {}
        places = set()
        for file in files:
            inside = file.relative_to(self.path)
            name, kind = _split_of(inside)
            splits.setdefault(name, (kind, []))[1].append(file)
            folders = [part for part in inside.parent.parts if part != name and not part_of(part)]
            places.add("/".join(folders))
        if len(places) > 1:
            named = ", ".join(sorted(place or "." for place in places))
            raise DataError(
                f"{self.name}: {self.path} holds parquet files of several data sets (in {named}); "
                "name the one folder that is meant"
            )
        for _, parts in splits.values():
            _check_shards(self.name, parts)
        if len(splits) == 1 and (name := next(iter(splits))) and splits[name][0] is None:
            return {"train": ("train", files)}  # the only one there is
        return splits

    @cached_property
    def _folders(self) -> dict[str, tuple[str | None, Folder]]:
        """Kind and folder of each part, by name; empty if there are no folders with images."""
        root = self._root
        holding = root.holding
        for name, folder in root.folders.items():
            if part_of(name) and not folder.any and holding:
                raise DataError(f"{folder.path} holds no images; put its images there, or remove the folder")
        asked = f"{self.reading.train_split}+{self.reading.test_split}".split("+")
        parts = {name: folder for name, folder in holding.items() if part_of(name) or name in asked}
        if any(folder.holding for folder in parts.values()) and not self._classes_have_parts_names(parts):
            return {name: (part_of(name), folder) for name, folder in holding.items()}
        if parts and len(parts) == len(holding) and not self.reading.depth:
            flat = next(iter(parts.values()))
            raise DataError(
                f"{flat.path} holds images but no class folders; put its images into "
                f"{flat.path.rpartition('/')[2]}/CLASS/, or add depth=1 if {some(parts)} are classes "
                "(`carryover pretrain` takes images without labels)"
            )
        if len(parts) > 1 and not self.reading.depth:
            raise DataError(
                f"{self.name}: {some(parts)} in {self.path} hold images but no class folders, beside "
                f"{some([name for name in holding if name not in parts], 3)}; add depth=1 if all these are "
                "classes"
            )
        # A class may be called train: a folder of images among others.
        return {"train": ("train", root)} if root.folders and holding else {}

    def _classes_have_parts_names(self, parts: Mapping[str, Folder]) -> bool:
        """Whether the folders called like parts are classes, with folders within them."""
        rest = [folder for name, folder in self._root.holding.items() if name not in parts]
        beside = bool(rest) and all(folder.images for folder in rest)
        return beside and all(folder.images for folder in parts.values()) and len(parts) == 1


def _occurring(rows: Rows) -> set[str]:
    """The names of the classes that have images."""
    labels, names = rows.labels()
    return {names[label] for label in np.unique(labels)}


def _only(data: Labelled) -> Labelled:
    """The same images over the classes that have some."""
    present = np.unique(data.labels)
    names = tuple(data.class_names[c] for c in present)
    return Labelled(data.inputs, np.searchsorted(present, data.labels), names)


def _split_of(inside: Path) -> tuple[str, str | None]:
    """(name, kind) of the split that a parquet file belongs to, by its own name or that of a folder."""
    stem = _COUNTER.sub("", inside.name.removesuffix(".parquet"))
    if kind := part_in(stem):
        return stem, kind
    for folder in inside.parent.parts:
        if kind := part_of(folder):
            return folder, kind
    return stem or (inside.parent.name or "data"), None


def _check_shards(name: str, files: Sequence[Path]) -> None:
    """DataError unless every shard N-of-M is there."""
    shards: dict[tuple[str, int], set[int]] = {}
    for file in files:
        if match := _SHARD.match(os.fspath(file)):
            shards.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (stem, total), numbers in shards.items():
        missing = sorted(set(range(total)) - numbers)
        if missing:
            raise DataError(
                f"{name}: {stem}-{missing[0]:05}-of-{total:05}.parquet is missing "
                f"({len(numbers)} of {total} files are there); copy or download it again"
            )
