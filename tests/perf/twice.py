"""A copy of the house in which every method is there twice: what do its tests cost with as many again?

    python tests/perf/twice.py FOLDER
    cd FOLDER && PYTHONPATH=$PWD PYTHON -m pytest -n 2 -m 'not slow'

The copies are classes of their own, `NAME_again`, in files of their own, so that whatever is made, listed or
tried for each method is so twice. A few tests that know all methods by name, or want a record of each, fail.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from carryover import HOUSE
from carryover.plugins.catalogue import OURS, methods

LEFT_BEHIND = (".git", ".venv*", ".*_cache", "__pycache__", ".reference", "site", "shared")


def main() -> None:
    folder = Path(sys.argv[1])
    shutil.copytree(HOUSE, folder, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    for plugin in methods().values():
        if plugin.origin == OURS:
            name = f"{plugin.name}_again"
            (folder / "methods" / f"{name}.py").write_text(
                f'"""{plugin.summary}"""\n\nfrom {plugin.module} import {plugin.attribute}\n\n\n'
                f'class Again({plugin.attribute}):\n    """{plugin.summary}"""\n\n    name = "{name}"\n'
            )


if __name__ == "__main__":
    main()
