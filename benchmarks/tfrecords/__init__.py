"""Meta-Dataset's converted sources: one TFRecord file per class, read at random without tensorflow.

- `known`    the ten sources and the extras by name, and the folder in which a source is looked for
- `rows`     `open_images`: the wanted images of a source, decoded once into one table of the store
- `index`    `open_files`: where the records of the files stand, found once; `RecordFile` reads them
- `framing`  the frame around a record and its two checksums
- `example`  the tf.train.Example inside: an encoded image and the number of its class
"""

from __future__ import annotations

from benchmarks.tfrecords.index import RecordFile, open_files
from benchmarks.tfrecords.known import META_DATASET, MetaSource, source_folder
from benchmarks.tfrecords.rows import (
    ClassFile,
    RecordImages,
    check_there,
    open_images,
    open_records,
    squash_rule,
)

__all__ = [
    "META_DATASET",
    "ClassFile",
    "MetaSource",
    "RecordFile",
    "RecordImages",
    "check_there",
    "open_files",
    "open_images",
    "open_records",
    "source_folder",
    "squash_rule",
]
