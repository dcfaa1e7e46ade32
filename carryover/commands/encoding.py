"""Output that never fails for letters that a terminal, pipe or log lacks: they are written otherwise."""

from __future__ import annotations

import codecs
import sys
from functools import partial

_OTHERWISE = {
    "±": "+/-",
    "×": "x",
    "·": "|",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "✓": "yes",
    "•": "*",
    "†": "+",
    "‡": "++",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "µ": "u",
    "≈": "~",
    "↑": "^",
    "↓": "v",
    "\u00a0": " ",
    "\u2009": " ",
    "\u202f": " ",
    **dict.fromkeys("─━═", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋┡┩╇╈", "+"),
}


def write_any_letter() -> None:
    """Let standard output and error stand in for what their encoding lacks, from now on.

    Our own signs are written in ASCII wherever the encoding is not UTF-8, also where it has them: such
    output is often read as something else. Names keep the letters that the encoding has.
    """
    for stream in (sys.stdout, sys.stderr):
        # Not what is no text file, such as a test's or a notebook's.
        reconfigure = getattr(stream, "reconfigure", None)
        encoding = codecs.lookup(stream.encoding or "ascii").name if reconfigure is not None else ""
        if reconfigure is None or encoding.startswith(("utf-16", "utf-32")):
            continue
        if encoding == "utf-8":
            reconfigure(errors="backslashreplace")  # names of files that are no text
            continue
        handler = f"carryover {encoding}"
        codecs.register_error(handler, partial(_stand_in, encoding=encoding))
        reconfigure(encoding="ascii", errors=handler)


def _stand_in(error: UnicodeError, encoding: str) -> tuple[bytes, int]:
    """What to write in place of letters that are no ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    written = [
        _OTHERWISE[letter].encode() if letter in _OTHERWISE else letter.encode(encoding, "replace")
        for letter in lacking
    ]
    return b"".join(written), error.end
