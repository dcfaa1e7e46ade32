"""Batches of pixels on a device.

Small data are put on the accelerator once and indexed there. Everything else stays in its
memory-mapped table, and worker threads gather the next batches while the current one is computed.
Which of the two happens, and the number of workers, never changes a value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from benchmarks.images import Indices, Inputs

RESIDENT_SHARE = 0.25  # of the accelerator's free memory
SMALL_BATCH = 2**20  # bytes below which a gather is cheaper than handing it to a thread


def cuts(images: int, batch_size: int, least: int = 1) -> list[tuple[int, int]]:
    """(start, end) of each batch; a last one of fewer than `least` images is joined to the one before it."""
    ends = [min(start + batch_size, images) for start in range(0, images, batch_size)]
    if len(ends) > 1 and images - ends[-2] < least:
        del ends[-2]
    return list(zip([0, *ends], ends, strict=False))


class Loader:
    """Serves (B, H, W, 3) uint8 batches of `inputs` on `device`."""

    def __init__(self, inputs: Inputs, device: str | torch.device, workers: int = 2) -> None:
        self.inputs = inputs
        self.device = torch.device(device)
        self.workers = workers
        self._resident: Tensor | None = None
        height, width = inputs.image_size
        self._image_bytes = height * width * 3
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if len(inputs) * self._image_bytes <= RESIDENT_SHARE * free:
                self._resident = torch.from_numpy(inputs.pixels()).to(self.device)

    def batches(self, order: Indices, batch_size: int, least: int = 1) -> Iterator[tuple[Indices, Tensor]]:
        """Pairs of positions (B,) and pixels (B, H, W, 3), following `order`, cut as `cuts` says."""
        parts = [order[start:end] for start, end in cuts(len(order), batch_size, least)]
        if self._resident is not None:
            for cut in parts:
                yield cut, self._resident[torch.from_numpy(cut).to(self.device)]
        elif self.workers == 0 or batch_size * self._image_bytes <= SMALL_BATCH:
            for cut in parts:
                yield cut, self._gather(cut).to(self.device)
        else:
            yield from self._prefetched(parts)

    def _prefetched(self, parts: list[Indices]) -> Iterator[tuple[Indices, Tensor]]:
        pin = self.device.type == "cuda"
        with ThreadPoolExecutor(self.workers, thread_name_prefix="gather") as pool:
            waiting = deque((cut, pool.submit(self._gather, cut, pin)) for cut in parts[: self.workers + 1])
            for following in [*parts[self.workers + 1 :], *[None] * len(waiting)]:
                cut, batch = waiting.popleft()
                if following is not None:
                    waiting.append((following, pool.submit(self._gather, following, pin)))
                yield cut, batch.result().to(self.device, non_blocking=pin)

    def _gather(self, cut: Indices, pin: bool = False) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(self.inputs.pixels(cut)))
        return pixels.pin_memory() if pin else pixels
