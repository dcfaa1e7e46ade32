"""What is computed from the rows of records, one file a protocol. No key holds any of it."""
