"""CrossTransformers' head at a full episode: the fused form against the naive one, in time and memory."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from measure import Row, interleave, quartiles
from workload import Setup

from carryover.cells.machine import high_water
from methods.crosstransformer.head import CrossHead, Form

SUPPORT, QUERIES, CLASSES, WIDTH = 500, 50, 10, 192
SIDES = (8, 14)


def crosstransformer(setup: Setup) -> Iterator[Row]:
    """Episodes per second without gradients, then the peak of a process that scores one episode."""
    for side in SIDES[:1] if setup.quick else SIDES:
        head, episode = made(side, setup.device)

        def run(form: Form, head: CrossHead = head, episode: Episode = episode) -> None:
            with torch.no_grad():
                head(*episode, CLASSES, form)

        pairs = interleave(
            lambda: run("sdpa"),
            lambda: run("naive"),
            1 if setup.quick else 3,
            setup.device,
        )
        shape = f"{SUPPORT} support and {QUERIES} query images of {side}x{side} tokens, width {WIDTH}"
        yield Row(
            name="crosstransformer",
            compared=f"SDPA / naive head: {shape}",
            unit="episodes/s",
            ours=1 / statistics.median(pairs.ours),
            theirs=1 / statistics.median(pairs.theirs),
            ratio=statistics.median(pairs.ratios()),
            spread=quartiles(pairs.ratios()),
            cpu_ratio=pairs.cpu_ratio(),
            samples={"ours_s": pairs.ours, "theirs_s": pairs.theirs},
        )
        del head, episode
        gc.collect()
        ours, theirs = (peak(setup, side, form) for form in ("sdpa", "naive"))
        yield Row(
            name="crosstransformer",
            compared=f"peak memory of the same, SDPA / naive: {shape}",
            unit="MiB",
            ours=ours,
            theirs=theirs,
            ratio=theirs / ours,
            note="beyond the token maps and the process itself",
        )


Episode = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def made(side: int, device: str) -> tuple[CrossHead, Episode]:
    """The head, and (support, labels, query) of noise."""
    source = torch.Generator().manual_seed(0)
    support = torch.randn(SUPPORT, side * side, WIDTH, generator=source).to(device)
    query = torch.randn(QUERIES, side * side, WIDTH, generator=source).to(device)
    return CrossHead(WIDTH).to(device), (support, torch.arange(SUPPORT, device=device) % CLASSES, query)


def peak(setup: Setup, side: int, form: str) -> float:
    """MiB that one pass adds to a fresh process (or to the accelerator)."""
    command = [sys.executable, str(Path(__file__)), str(side), form, setup.device]
    command.append(str(setup.backbone.numerics.threads))
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _one(side: int, form: Form, device: str, threads: int) -> float:
    torch.set_num_threads(threads)
    head, (support, labels, query) = made(side, device)
    with torch.no_grad():
        head(support[:20], labels[:20], query[:1], CLASSES, form)  # what a first pass loads is not counted
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            head(support, labels, query, CLASSES, form)
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        before = high_water()
        head(support, labels, query, CLASSES, form)
        return high_water() - before


if __name__ == "__main__":
    print(_one(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))  # type: ignore[arg-type]
