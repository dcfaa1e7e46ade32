"""Where images come from: each source is cut into train and test and decoded once into the store.

- `source`   `Source`, its `SourceData`, and `Rows`, one split before it is decoded
- `lookup`   `open_source` and `source_names`: from what a user types to a source
- `local`    a folder on disk, parquet or images; `parquet` and `folder` read the two layouts, `scan` says
  which files are images, `parts` which parts are train and test; `reading` has what a user may say of all
  this
- `listed`   a file that lists images and labels
- `hub`      the same parquet files from the Hugging Face hub
- `digits`   scikit-learn's digits, which need no download
- `procedural`  procedural images, which need none either
- `table`    encoded images -> one memory-mapped uint8 table; `decode` does one image
"""

from __future__ import annotations

from typing import Any

__all__ = ["open_source"]


def __getattr__(name: str) -> Any:
    """`open_source`, imported when it is used."""
    if name != "open_source":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from benchmarks.sources.lookup import open_source

    return open_source
