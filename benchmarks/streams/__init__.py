"""How a source becomes a sequence of tasks: one file per kind of stream.

- `split`   the classes of a source in equal parts, or its images under a shift that grows
"""
