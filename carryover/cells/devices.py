"""Which devices the cells of a request are computed on. A record does not depend on which of them it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.errors import RequestError
from benchmarks.store import Store
from carryover.cells.request import Request

if TYPE_CHECKING:
    from backbones.numerics import Numerics


def choose(request: Request, store: Store) -> list[Numerics]:
    """One for each device, alike but for its number: those named, else all GPUs that `jobs` can use.

    RequestError for a device that is not there, and for named ones that compute differently.
    """
    from backbones import numerics

    named = [numerics.choose(name, store, request.threads) for name in request.devices or _all(request.jobs)]
    for other in named[1:]:
        if _alike(other) != _alike(named[0]):
            raise RequestError(
                f"{named[0].describe()} and {other.describe()} do not compute alike; name one at a time"
            )
    return named


def _all(jobs: int) -> Sequence[str | None]:
    """Every GPU of the first one's model, at most `jobs` of them; None: as a single cell has it."""
    import torch

    if jobs == 1 or torch.cuda.device_count() < 2:
        return [None]
    models = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [f"cuda:{number}" for number, model in enumerate(models) if model == models[0]][:jobs]


def _alike(found: Numerics) -> Numerics:
    """Without what no key holds."""
    return replace(found, device=found.device.partition(":")[0], device_name="")
