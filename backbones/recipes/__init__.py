"""Backbones that users add, one file each: `RECIPE`, a `Recipe` with the file's name.

`carryover new backbone NAME` writes one. A file may hold its network too, and is imported only when its
backbone is asked for.
"""
