"""The leaderboard: the committed records as tables, one for each contract."""

from __future__ import annotations

from pathlib import Path

import words

from carryover.cells.key import standing
from carryover.records.results import Results
from carryover.tables.report import report_text

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"


def leaderboard_page() -> str:
    """Every table that `carryover report` would show of the committed records alone."""
    results = Results(REFERENCE)
    tables = (
        report_text(results, form="markdown", standing=standing) if results.all()[0] else "No record yet."
    )
    return words.page(
        "Leaderboard",
        "The records in `results/reference`, made by `make reference`. Numbers share a table if they "
        "share a contract, which is written below it; [how to read a table](../tables.md) says "
        "what the columns are. `carryover report` shows the same with your own records among them, and "
        "`carryover compare` tests whether two methods differ.",
        tables.replace("### ", "## "),
    )
