"""Tables of records, for a terminal and for files."""
