"""Output that never fails for letters that a terminal, pipe or log lacks: they are written otherwise."""

from __future__ import annotations

import codecs
import sys

HANDLER = "carryover"
_OTHERWISE = {
    "±": "+/-",
    "×": "x",
    "·": "-",
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
    "°": "deg",
    "µ": "u",
    "↑": "^",
    "↓": "v",
    "≈": "~",
    "Δ": "d",
    "§": "S",
    "\u00a0": " ",
    "\u2009": " ",
    "\u202f": " ",
    **dict.fromkeys("─━═", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋┡┩╇╈", "+"),
}


def write_any_letter() -> None:
    """Standard output and error stand in for letters that their encoding lacks, from now on."""
    codecs.register_error(HANDLER, _stand_in)
    for stream in (sys.stdout, sys.stderr):
        # Not what is no text file (a test's, a notebook's), nor what can write every letter.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and (stream.encoding or "").lower().replace("-", "") not in (
            "utf8",
            "utf16",
        ):
            reconfigure(errors=HANDLER)
        elif reconfigure is not None:
            reconfigure(errors="backslashreplace")  # names of files that are no text


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_OTHERWISE.get(letter, "?") for letter in lacking), error.end
