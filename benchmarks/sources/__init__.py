"""Where images come from: each source is cut into train and test and decoded once into the store.

- `source`   `Source`, its `SourceData`, and `Rows`, one split before it is decoded
- `lookup`   `open_source` and `source_names`: from what a user types to a source
- `local`    a folder on disk, parquet or images; `parquet` and `folder` read the two layouts
- `hub`      the same parquet files from the Hugging Face hub
- `digits`   scikit-learn's digits, which need no download
- `procedural`  procedural images, which need none either
- `table`    encoded images -> one memory-mapped uint8 table; `decode` does one image
"""
