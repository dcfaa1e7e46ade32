"""Data sets in formats that are not read here, recognised by their files, so that the way out can be said."""

from __future__ import annotations

from pathlib import Path

_PICKLES = ("cifar-100-python", "cifar-10-batches-py")
_SUFFIXES = {
    (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"): "an archive, to be unpacked",
    (".arrow",): "Arrow files of the library datasets, to be written as parquet (Dataset.to_parquet)",
    (
        ".npz",
        ".npy",
        ".mat",
        ".pkl",
        ".pickle",
        ".pt",
        ".h5",
        ".hdf5",
    ): "arrays, to be written as images or parquet",
    (
        ".tfrecord",
        ".tar-of",
        ".lmdb",
        ".mdb",
        ".rec",
        ".beton",
    ): "records, to be written as images or parquet",
    (
        ".jsonl",
        ".csv",
        ".tsv",
        ".txt",
        ".json",
    ): "a list, which is read as list:FILE if it names images and labels",
}


def foreign(path: Path) -> str | None:
    """What the folder holds instead, with what to do about it; None if nothing is recognised."""
    for name in _PICKLES:
        if (path / name).is_dir():
            return (
                f"{name}, the pickles of torchvision, which are not read, as they can run code: take the "
                "parquet files of the hub"
            )
    files = sorted(file for file in path.glob("*") if file.is_file() and not file.name.startswith("."))
    files += sorted(file for file in path.glob("*/*") if file.is_file() and not file.name.startswith("."))
    files += sorted(file for file in path.glob("*/*/*") if file.is_file() and not file.name.startswith("."))
    for file in files:
        if file.name.removesuffix(".gz").endswith("-ubyte"):
            return f"{file.relative_to(path)}, in MNIST's own format, to be written as images or parquet"
    for suffixes, what in _SUFFIXES.items():
        for file in files:
            if file.suffix.lower() in suffixes:
                return f"{file.relative_to(path)}, {what}"
    return None
