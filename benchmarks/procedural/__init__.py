"""Procedural images: drawn, the same on every machine, from (family, class, seed, index); no download.

- `families`   the families by name, each a `family.Family`; start here
- `exact`      the arithmetic and the random numbers that every machine agrees on
- `canvas`, `colours`   a picture of 64 x 64 pixels, painted with masks of three times that resolution
- `glyphs`     characters of made-up alphabets: `alphabets`, drawn with `strokes`
- `textures`   surfaces: `cells`, `dots`, `lines`, `surfaces`, `weaves`, all functions of a `plane`
- `objects`    shape x pattern x colour before clutter
- `scenes`     `solids` on a floor: their count, location, orientation and distance

`python -m benchmarks.procedural` draws a contact sheet. `tests/benchmarks/test_procedural.py` holds a hash of
each family, so that no pixel changes unintended.
"""
