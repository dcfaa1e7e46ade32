"""Write the pages that are made from code and committed records: python docs/catalogue [docs/generated]."""

from __future__ import annotations

import sys
from pathlib import Path

from backbone_pages import backbones_page
from command_pages import command_page
from leaderboard_pages import leaderboard_page
from method_pages import methods_page
from stream_pages import streams_page

PAGES = {
    "leaderboard": leaderboard_page,
    "methods": methods_page,
    "streams": streams_page,
    "backbones": backbones_page,
    "command-line": command_page,
}


def write(folder: Path) -> None:
    """One Markdown file for each page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in PAGES.items():
        (folder / f"{name}.md").write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "generated")
