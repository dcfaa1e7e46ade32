"""Images that need no download: drawn, the same on every machine, from (family, class, seed, index).

- `families`   the families by name, each a `family.Family`; start here
- `exact`      the arithmetic and the random numbers that every machine agrees on
- `canvas`, `colours`   a picture of 64 x 64 pixels, painted with masks of three times that resolution
- `glyphs`     characters of made-up alphabets: `alphabets`, drawn with `strokes`
- `textures`   surfaces: `cells`, `dots`, `lines`, `surfaces`, `weaves`, all functions of a `plane`
- `objects`    shape x pattern x colour before clutter
- `scenes`     counting, finding, turning and ranging `solids` on a floor

`python -m benchmarks.procedural` draws a contact sheet. Where no pixel is meant to change, none may:
`tests/benchmarks/test_procedural.py` holds a hash of each family.
"""
