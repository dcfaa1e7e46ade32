"""Cells: requested, checked, given a key, run and recorded."""
