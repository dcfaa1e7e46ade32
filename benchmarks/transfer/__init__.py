"""Tasks to transfer to: which there are, where their data lie, and how each is cut into train, val and test.

- `task`       a `TransferTask` and its `Parts`: train, val and test
- `vtab`, `fgvc`, `embedded`   the tasks of the three streams; `own` the tasks of a user's sources
- `imagelist`  a file that lists images and labels; `served` takes a task from a whole data set instead
- `transforms` how images reach the network, by name
- `fetch`      how to get what is missing by hand; `python -m benchmarks.transfer` puts it into docs/data.md
"""
