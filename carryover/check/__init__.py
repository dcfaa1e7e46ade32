"""`carryover check`: the promises of a plugin, one by one, on tiny backbones and streams in memory.

- `promises`    the list, and what each of them stands on
- `subject`     a method at one place, made, led and taken apart
- `running`, `predicting`, `storing`, `network`, `answers`, `edges`, `options`  what is promised, as functions
- `pictures`    the streams
- `suite`       all promises of one method
- `streams`, `backbones`  the promises of those
- `verdict`     kept, broken, not applicable
- `command`     what is typed, and what is shown
"""
