"""`carryover check`: tests the promises of a plugin one by one, on tiny backbones and streams in memory.

- `promises`    the list of promises, and which of them each one depends on
- `subject`     one method on one tiny backbone and stream: made, trained, stored and restored
- `running`, `predicting`, `storing`, `network`, `answers`, `edges`, `options`  one function per promise
- `pictures`    the tiny streams
- `suite`       all promises of one method
- `streams`, `backbones`  the promises of streams and backbones
- `verdict`     passed, failed, not applicable
- `command`     the command: what it reads and prints
"""
