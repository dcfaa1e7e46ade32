"""Parquet files in the Hugging Face layout: an image column {bytes, path} and a label column.

Class names come from the schema's `huggingface` metadata (ClassLabel); text labels name themselves, and
bare numbers are named by their digits, all in the order of words, as class folders would be. Columns of other
names are found by their type if only one fits, and asked for otherwise. Files are read batch by batch, never
as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import DataError
from benchmarks.images import Indices
from benchmarks.sources.counts import some

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 64  # rows held in memory, encoded


@dataclass(frozen=True)
class Columns:
    """Which columns to read; None finds the only one of its kind."""

    image: str | None = None
    label: str | None = None


class BareParquet:
    """The images of parquet files without labels (see `Rows`): one nameless class."""

    notes: tuple[str, ...] = ()

    def __init__(self, rows: ParquetRows) -> None:
        self.title = rows.title
        self._rows = rows

    def identity(self) -> str:
        return f"bare {self._rows.identity()}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        count = 0
        for file in self._rows.files:
            with _opened(file) as parquet:
                count += parquet.metadata.num_rows
        return np.zeros(count, np.int64), ("",)

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        return self._rows.images(start)


class Unlabelled(DataError):
    """A split without labels, such as the test images of a competition."""


class ParquetRows:
    """One split: the rows of `files`, one file after another (see `Rows`)."""

    def __init__(self, title: str, files: tuple[Path, ...], columns: Columns) -> None:
        self.title = title
        self.files = files
        self.columns = columns
        self.notes: tuple[str, ...] = ()  # known once the labels are read

    def identity(self) -> str:
        from benchmarks.sources.table import stamp

        return f"parquet {self.columns.image} {self.columns.label} {stamp(self.files)}"

    def labels(self) -> tuple[Indices, tuple[str, ...]]:
        parts: list[Indices | NDArray[np.str_]] = []
        names: tuple[str, ...] | None = None
        found: list[str] = []
        for number, file in enumerate(self.files):
            with _opened(file) as parquet:
                features = _features(parquet)
                image = _image_column(file, parquet, features, self.columns.image)
                column = _label_column(file, parquet, features, self.columns.label, image)
                found += [
                    f"{kind} are column {name!r}, the only one of its kind"
                    for kind, name, asked, usual in (
                        ("images", image, self.columns.image, IMAGES),
                        ("labels", column, self.columns.label, LABELS),
                    )
                    if asked is None and name not in usual and name not in features
                ]
                here = _class_names(features.get(column))
                if number and here != names:
                    raise DataError(
                        f"{file} and {self.files[0]} name their classes differently; "
                        "all files of one split have the same classes"
                    )
                names = here
                parts.append(_read_labels(file, parquet, column, names))
        self.notes = tuple(f"{self.title}: {said}" for said in dict.fromkeys(found))
        if len({part.dtype.kind for part in parts if len(part)}) > 1:
            raise DataError(
                f"{self.title}: labels are numbers in some files and text in others; make them alike"
            )
        values = np.concatenate([part for part in parts if len(part)] or parts)
        if names is not None and values.dtype.kind == "i":
            return values.astype(np.int64), names
        distinct, labels = np.unique(values, return_inverse=True)
        # As words, also where they are numbers: one data set has one order of classes, whatever holds it.
        order = sorted(range(len(distinct)), key=lambda c: str(distinct[c]))
        place = np.argsort(np.array(order, np.int64))
        return place[labels].astype(np.int64), tuple(str(distinct[c]) for c in order)

    def images(self, start: int) -> Iterator[tuple[str, bytes | Path]]:
        for file in self.files:
            with _opened(file) as parquet:
                total = parquet.metadata.num_rows
                if start >= total:
                    start -= total
                    continue
                column = _image_column(file, parquet, _features(parquet), self.columns.image)
                yield from _read_images(file, parquet, column, start)
                start = 0


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    """The file, open; whatever is broken in it, now or while it is read, is a DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A buffer makes Arrow read a column piecewise, also where a file is one single row group.
        with pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        size = file.stat().st_size if file.is_file() else 0
        raise DataError(
            f"{file} is no complete parquet file ({size:,} bytes: {_first_line(error)}); "
            "it may be truncated: copy or download it again"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(". ")


def _features(parquet: pq.ParquetFile) -> dict[str, dict[str, object]]:
    """The Hugging Face features by column; empty where the schema has none."""
    metadata = parquet.schema_arrow.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: value for name, value in features.items() if isinstance(value, dict)}


def _class_names(feature: dict[str, object] | None) -> tuple[str, ...] | None:
    if feature is None or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    return tuple(str(name) for name in names) if isinstance(names, list) else None


IMAGES = ("image", "img", "images")
LABELS = ("label", "labels", "class")
# Columns that tell rows apart or describe them, and are no classes though their type would do.
_DESCRIBING = re.compile(
    r"(^|_)(id|ids|idx|index|level_0|key|uuid|guid|path|paths|file|files|filename|name|url|uri|width|height|size|"
    r"bytes|hash|md5|sha\d*|caption|text|prompt|description|split|date|time|timestamp|source|licen[sc]e)(_|$)",
    re.I,
)


def _image_column(
    file: Path, parquet: pq.ParquetFile, features: dict[str, dict[str, object]], wanted: str | None
) -> str:
    schema = parquet.schema_arrow
    found = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    found = found or [field.name for field in schema if _holds_bytes(field.type)]
    return _choose(file, schema.names, found, wanted, "image", IMAGES)


def _holds_bytes(kind: pa.DataType) -> bool:
    """Byte strings of any width, or a struct of them as on the hub."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(kind.field(at).name == "bytes" for at in range(kind.num_fields))
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(kind) for test in (*tests, pa.types.is_fixed_size_binary))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _label_column(
    file: Path,
    parquet: pq.ParquetFile,
    features: dict[str, dict[str, object]],
    wanted: str | None,
    image: str,
) -> str:
    import pyarrow as pa

    schema = parquet.schema_arrow
    if wanted is not None and wanted not in schema.names:
        raise Unlabelled(f"{file} has no label column {wanted!r}; its columns are: {', '.join(schema.names)}")
    found = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    found = found or [name for name in schema.names if name in LABELS]
    if not found:
        kinds = {
            field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            for field in schema
            if field.name != image and not _DESCRIBING.search(field.name)
        }
        found = [name for name, kind in kinds.items() if _is_text(kind) or pa.types.is_integer(kind)]
    if not found and wanted is None:
        raise Unlabelled(
            f"{file} has no label column; name one by label_column= (its columns are: "
            f"{', '.join(schema.names)})"
        )
    return _choose(file, schema.names, found, wanted, "label", LABELS)


def _choose(
    file: Path, names: list[str], found: list[str], wanted: str | None, kind: str, usual: tuple[str, ...]
) -> str:
    """The column `wanted`, or the only one of its kind, or the one with the usual name."""
    there = ", ".join(names)
    if wanted is not None:
        if wanted not in names:
            raise DataError(f"{file} has no {kind} column {wanted!r}; its columns are: {there}")
        return wanted
    if len(found) == 1:
        return found[0]
    named = [name for name in usual if name in found]
    if len(named) == 1 or (named and kind == "image"):
        return named[0]
    what = f"no {kind} column" if not found else f"several {kind} columns ({', '.join(named or found)})"
    raise DataError(f"{file} has {what}; name one by {kind}_column= (its columns are: {there})")


def _read_labels(
    file: Path, parquet: pq.ParquetFile, column: str, names: tuple[str, ...] | None
) -> Indices | NDArray[np.str_]:
    """The labels as numbers, or as words where the column holds text."""
    import pyarrow as pa

    values = parquet.read(columns=[column]).column(column)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not len(values):
        return np.empty(0, dtype=np.int64)
    if values.null_count:
        rows = np.flatnonzero(values.is_null().to_numpy()).tolist()
        raise DataError(
            f"{file}, row {some(rows)}: the label in column {column!r} is missing; remove or label the rows"
        )
    if _is_text(values.type):
        return np.array(values.to_pylist(), dtype=np.str_)
    if not pa.types.is_integer(values.type):
        raise DataError(
            f"{file}: column {column!r} holds {values.type}, but labels are whole numbers or text"
        )
    # Not `to_numpy`, which imports pandas: that takes longer than reading the labels.
    whole = pa.concat_arrays(values.cast(pa.int64(), safe=False).chunks)
    labels = np.array(np.from_dlpack(whole), dtype=np.int64)
    if (labels == -1).all():
        raise Unlabelled(
            f"{file}: every label in column {column!r} is -1, which means that there is none; add them"
        )
    top = len(names) if names is not None else np.iinfo(np.int64).max
    bad = np.flatnonzero((labels < 0) | (labels >= top))
    if len(bad):
        allowed = f"0 to {top - 1}, as there are {top} class names" if names is not None else "0 and up"
        raise DataError(
            f"{file}, row {some(bad.tolist())}: label {labels[bad[0]]} in column {column!r} is out of range "
            f"({allowed}); remove the rows without a true label, or the file"
        )
    return labels


def _read_images(
    file: Path, parquet: pq.ParquetFile, column: str, start: int
) -> Iterator[tuple[str, bytes | Path]]:
    metadata = parquet.metadata
    row, groups = 0, list(range(metadata.num_row_groups))
    while groups and row + metadata.row_group(groups[0]).num_rows <= start:
        row += metadata.row_group(groups.pop(0)).num_rows
    for batch in parquet.iter_batches(BATCH, row_groups=groups, columns=[column], use_threads=False):
        if row + batch.num_rows <= start:
            row += batch.num_rows
            continue
        for value in batch.column(0).to_pylist():
            if row >= start:
                where = f"{file}, row {row}"
                encoded = value.get("bytes") if isinstance(value, dict) else value
                if not isinstance(encoded, bytes):  # named with all others that are broken
                    yield f"{where} without bytes in column {column!r}", b""
                else:
                    yield where, encoded
            row += 1
