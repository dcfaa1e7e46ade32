"""Metrics, computed from the rows of records, in one file per protocol. Nothing here enters a key."""
