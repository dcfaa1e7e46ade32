"""The command line on the pretended device: `on_pretend.py LIBRARY DTYPE run --device pretend ...`.

Each line of words on the standard input is one command; without any, there is one on the command line.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pretend

from backbones import numerics
from carryover.commands.cli import cli


def main(library: str, dtype: str) -> int:
    pretend.install(Path(library))
    numerics._device = lambda device: device or "cpu"
    numerics.cpu_has_bfloat16 = lambda: dtype == "bfloat16"
    numerics.measure_fused = lambda _: (1.0, 2.0)
    return max(cli(shlex.split(line)) for line in sys.stdin)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
