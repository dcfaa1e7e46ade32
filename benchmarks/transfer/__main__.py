"""Write what `fetch` says into docs/data.md, between its two marks: `python -m benchmarks.transfer`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.transfer.fetch import table

START, END = "<!-- made by python -m benchmarks.transfer -->\n", "<!-- end -->\n"


def with_table(page: str) -> str:
    """The page with the text between the marks replaced; ValueError if a mark is missing."""
    before, rest = page.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    path = Path(__file__).parents[2] / "docs" / "data.md"
    path.write_text(with_table(path.read_text()))
