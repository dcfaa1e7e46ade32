"""What the issue promises about speed, measured on this machine: `make perf`.

    python tests/perf [NAME ...] [--json PATH] [--quick] [--threads N] [--device D]

Prints a table and writes JSON. A missed bound is said, not punished: the exit code is 0, because a
busy machine misses bounds and no test may depend on a clock. docs/perf.md says how to read it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import commands
import crosstransformer
import episodes
import few_shot
import loops
import machine
import meat
import memory
import probe
import selection
import sources
import throughput
import toast
from measure import Row
from workload import NETWORK, TINY, Setup

from backbones.backbone import open_backbone
from backbones.numerics import choose
from benchmarks.store import Store

BENCHMARKS: dict[str, Callable[[Setup], Iterator[Row]]] = {
    "training": loops.training,
    "evaluation": loops.evaluation,
    "probe": probe.probe,
    "pruned": meat.pruned,
    "meat": meat.meat,
    "toast": toast.toast,
    "selection": selection.selection,
    "sampler": episodes.sampler_speed,
    "crosstransformer": crosstransformer.crosstransformer,
    "few-shot": few_shot.few_shot_evaluation,
    "commands": commands.commands,
    "memory": memory.memory,
    "sources": sources.sources,
    "throughput": throughput.throughput,
}
COLUMNS = ("name", "ours", "theirs", "unit", "ratio", "quartiles", "by CPU time", "bound", "", "compared")


def main() -> int:
    asked = _arguments()
    with tempfile.TemporaryDirectory(prefix="carryover-perf-") as scratch:
        store = Store(Path(scratch) / "cache")
        numerics = choose(asked.device, store, asked.threads)
        found = machine.facts(numerics)
        _say(f"computing on {numerics.describe()}; torch {found['torch']}, load {found['load']}")
        if machine.busy(found):
            _say("other programs run here: do not trust ratios of wall time, and missed bounds least of all")
        setup = Setup(
            backbone=open_backbone(NETWORK, numerics=numerics),
            tiny=open_backbone(TINY, numerics=numerics),
            scratch=Path(scratch),
            quick=asked.quick,
        )
        rows: list[Row] = []
        try:
            for name in asked.names or BENCHMARKS:
                started = time.monotonic()
                for row in BENCHMARKS[name](setup):
                    rows.append(row)
                    _write(asked.json, found, asked.quick, rows)
                _say(f"{name}: {time.monotonic() - started:.0f} s")
        finally:  # one that breaks off leaves what was measured before it
            print(_table(rows))
            print(f"\nwritten to {asked.json}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/perf", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all by default: {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", type=Path, default=Path("results/perf.json"), help="where to write")
    parser.add_argument("--quick", action="store_true", help="fewer pairs: only to see that it runs")
    parser.add_argument("--threads", type=int, help="what Carryover chooses here by default")
    parser.add_argument("--device", help="cpu, cuda or cuda:1")
    asked = parser.parse_args()
    for name in asked.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}; take some of {', '.join(BENCHMARKS)}")
    return asked


def _write(path: Path, found: machine.Facts, quick: bool, rows: list[Row]) -> None:
    """After every row, so that an interrupted hour leaves what it measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": found, "quick": quick, "rows": [dataclasses.asdict(row) for row in rows]}
    path.write_text(json.dumps(report, indent=2) + "\n")


def _table(rows: list[Row]) -> str:
    lines = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        _number(row.ours),
        _number(row.theirs),
        row.unit,
        "" if row.ratio is None else f"{row.ratio:.3f}",
        "" if row.spread is None else "{:.3f} to {:.3f}".format(*row.spread),
        "" if row.cpu_ratio is None else f"{row.cpu_ratio:.3f}",
        row.bound,
        {None: "", True: "met", False: "missed"}[row.met],
        row.compared + (f"; {row.note}" if row.note else ""),
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.1f}" if value >= 10 else f"{value:.3f}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
