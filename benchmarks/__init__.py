"""Images, tasks, streams, data sources, and the store for what is computed from them.

The lowest layer of Carryover: it knows no neural network and imports no torch.

- `images`   the pixels: `Inputs` (no labels) and `Labelled`
- `stream`   the classes of a benchmark: `Task`, `Exam`, `StreamInfo`, `Stream`
- `sources/` where images come from: parquet, image folders, scikit-learn's digits, `procedural/`
- `streams/` how a source becomes a sequence of tasks; `episodes/`, `transfer/` and `tfrecords/` serve them
- `seeds`, `store`, `progress`, `errors`  used by every layer above
"""
