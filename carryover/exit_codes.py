"""The exit codes of the command line."""

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
