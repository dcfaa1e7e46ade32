"""Backbones that somebody adds to this house, one file each: `RECIPE`, a `Recipe` of the file's name.

`carryover new backbone NAME` writes one. A file may hold its network too, and is imported only when its
backbone is asked for.
"""
