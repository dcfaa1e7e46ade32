"""A folder on disk as a source: which files are its splits, and which of them serve as train and test.

Parquet files go by their names (`train-00000-of-00005.parquet`, `data/test-...`, `train/0000.parquet`),
image folders by `train/`, `test/`, `valid/`, `val/`, `validation/`. Without a test split, the validation
split serves as test; without either, a fifth of each class is drawn.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.errors import DataError
from benchmarks.progress import Progress
from benchmarks.sources.folder import FolderRows, subfolders
from benchmarks.sources.parquet import Columns, ParquetRows
from benchmarks.sources.source import DRAWN_RULE, Rows, SourceData, draw_test, pair
from benchmarks.sources.table import open_table
from benchmarks.store import Store

SPLITS = {
    "train": "train",
    "test": "test",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
}
_SPLIT = re.compile(rf"(?:^|[._-])({'|'.join(sorted(SPLITS, key=len, reverse=True))})(?=[._-])", re.I)
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.parquet$")


class LocalSource:
    """The folder `path` under the name that a user typed.

    official: the data set has a test split of its own, so none is ever drawn.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        columns: Columns | None = None,
        official: bool = False,
        terms: str = "",
    ) -> None:
        self.name = name
        self.path = path
        self.columns = columns or Columns()
        self.official = official
        self.terms = terms

    def load(self, store: Store, progress: Progress, size: int | None = None) -> SourceData:
        """See `Source.load`."""
        try:
            splits = self.splits()
            tables = {name: open_table(rows, store, progress, size) for name, rows in splits.items()}
        except PermissionError as error:
            raise DataError(
                f"{error.filename} cannot be read; give yourself permission to read it, or copy it"
            ) from error
        if "test" in tables:
            train, test = tables["train"], tables["test"]
            rule = "official train and test" if self.official else "test as stored"
        elif "valid" in tables:
            train, test = tables["train"], tables["valid"]
            rule = "the validation split serves as test"
        else:
            train, test = draw_test(tables["train"], title=self.name)
            rule = DRAWN_RULE
        return pair(train, test, title=self.name, rule=rule, size=size, terms=self.terms)

    def splits(self) -> dict[str, Rows]:
        """The splits in use: train, and test or valid if there is one; DataError if files are missing."""
        if not self.path.is_dir():
            what = "is a file, not a folder" if self.path.exists() else "does not exist"
            raise DataError(
                f"{self.name}: the folder {self.path} {what}; give one that holds images or parquet files"
            )
        found = self._parquet() or self._folders()
        if not found:
            what = "holds no class folders" if any(self.path.iterdir()) else "is empty"
            raise DataError(
                f"{self.name}: {self.path} {what}; put images there (CLASS/*.jpg or train/CLASS/*.jpg) "
                "or parquet files (train.parquet, test.parquet)"
            )
        if "train" not in found:
            raise DataError(f"{self.name}: {self.path} has {', '.join(found)} but no train split; add one")
        if self.official and "test" not in found:
            raise DataError(
                f"{self.name}: {self.path} has no test split, but {self.name} comes with one; add its files"
            )
        if "test" in found:
            found.pop("valid", None)
        return found

    def _parquet(self) -> dict[str, Rows]:
        files: list[Path] = []
        for pattern in ("*.parquet", "*/*.parquet", "*/*/*.parquet"):  # as a file, in data/, in CONFIG/train/
            files = files or sorted(
                file for file in self.path.glob(pattern) if not _hidden(file.relative_to(self.path))
            )
        splits: dict[str, list[Path]] = {}
        places = set()
        for file in files:
            inside = file.relative_to(self.path)
            match = _SPLIT.search(inside.name)
            words = [match[1]] if match else [part for part in inside.parent.parts if part.lower() in SPLITS]
            splits.setdefault(SPLITS[words[0].lower()] if words else "train", []).append(file)
            places.add("/".join(part for part in inside.parent.parts if part.lower() not in SPLITS))
        if len(places) > 1:
            named = ", ".join(sorted(place or "." for place in places))
            raise DataError(
                f"{self.name}: {self.path} holds parquet files of several data sets (in {named}); "
                "name the one folder that is meant"
            )
        for parts in splits.values():
            _check_shards(self.name, parts)
        return {
            split: ParquetRows(f"{self.name} {split}", tuple(parts), self.columns)
            for split, parts in splits.items()
        }

    def _folders(self) -> dict[str, Rows]:
        folders = subfolders(self.path)
        named = {SPLITS[folder.name.lower()]: folder for folder in folders if folder.name.lower() in SPLITS}
        if "train" in named:
            for folder in named.values():
                if not subfolders(folder):
                    raise DataError(
                        f"{folder} holds no class folders; put its images into {folder.name}/CLASS/"
                    )
            return {split: FolderRows(f"{self.name} {split}", folder) for split, folder in named.items()}
        if named and len(named) == len(folders):
            return {split: FolderRows(f"{self.name} {split}", folder) for split, folder in named.items()}
        return {"train": FolderRows(f"{self.name} train", self.path)} if folders else {}


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _check_shards(name: str, files: list[Path]) -> None:
    """DataError unless every shard N-of-M is there."""
    shards: dict[tuple[str, int], set[int]] = {}
    for file in files:
        if match := _SHARD.match(str(file)):
            shards.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (stem, total), numbers in shards.items():
        missing = sorted(set(range(total)) - numbers)
        if missing:
            raise DataError(
                f"{name}: {stem}-{missing[0]:05}-of-{total:05}.parquet is missing "
                f"({len(numbers)} of {total} files are there); copy or download it again"
            )
