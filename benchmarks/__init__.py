"""What is learnt: images, tasks, streams, their sources, and the store for what is made from them.

The ground floor of Carryover. It knows no neural network and imports no torch.

- `images`   the pixels: `Inputs` (no labels) and `Labelled`
- `stream`   the nouns of a benchmark: `Task`, `Exam`, `StreamInfo`, `Stream`
- `sources/` where images come from: parquet, image folders, scikit-learn's digits
- `streams/` how a source becomes a sequence of tasks
- `seeds`, `store`, `progress`, `errors`  what every floor above needs as well
"""
