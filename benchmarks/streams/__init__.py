"""How a source becomes a sequence of tasks: one file per kind of stream.

- `split`     the classes of a source in parts (`sizes`, `shares`), or its images under a shift (`shifts`)
- `domains`   the same classes in several sources, one for each task
- `presets`   the split streams that have names of their own
- `episodes`  few-shot episodes over one or more sources
- `transfer`  tasks with fixed train, val and test sets
"""
