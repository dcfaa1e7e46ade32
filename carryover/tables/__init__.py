"""Tables made from records, on a terminal and in files."""
