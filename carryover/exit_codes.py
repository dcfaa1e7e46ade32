"""What the command line leaves with."""

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
