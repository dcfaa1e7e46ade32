"""How far rounding can move a result: smaller differences say nothing about a method.

Another batch, kernel or order of a sum rounds elsewhere, and what follows may blow that up: features of a
random network divided by their tiny deviations by thousands. No constant knows how far, so it is tried:
the computation runs again with the result of every operation wrong by one rounding, up or down at random
(Monte Carlo arithmetic: Parker, Pierce, Eggert 2000, doi:10.1109/5992.852391). Real roundings take the same
paths, on every processor.

A difference is explained up to

    8 (s + eps |x|),    s: how far x moved in the worst of 3 trials

One rounding of each number stands for a short sum. A sum of n terms, added one after the other, gathers
about sqrt(n) / 4 of it: 8 is for n = 1000, and kernels add in shorter runs than that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from benchmarks.images import Indices

MARGIN = 8.0
TRIALS = 3


class OneRounding(TorchDispatchMode):
    """A context in which the result of every operation is wrong by one rounding.

    Whole numbers stay exact, since they are counts, labels, positions and masks. Tensors written in place and
    views stay too. The signs come from a generator of its own.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        alias = any(returned.alias_info is not None for returned in func._schema.returns)
        return result if alias else tree_map(self._off, result)

    def _off(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.layout != torch.strided:
            return value
        signs = torch.randint(0, 2, value.shape, generator=self._generator).to(value) * 2 - 1
        off = value + value * (torch.finfo(value.dtype).eps * signs)
        return torch.where(value == value.round(), value, off)


class Rounding:
    """How far rounding can move the result of `compute`, (..., C); measured only on demand."""

    def __init__(self, compute: Callable[[], Tensor], result: Tensor | None = None) -> None:
        self._compute = compute
        self.result = (compute() if result is None else result).detach()

    @cached_property
    def bound(self) -> Tensor:
        """The difference that rounding explains, for each number."""
        moved = torch.zeros_like(self.result)
        for trial in range(TRIALS):
            with OneRounding(trial):
                found = self._compute()
            moved = torch.fmax(moved, _apart(found.detach(), self.result))  # NaN: a trial that says nothing
        return MARGIN * _reach(moved) + self._least

    @cached_property
    def _least(self) -> Tensor:
        """The difference that rounding explains even where nothing moved."""
        return MARGIN * torch.finfo(self.result.dtype).eps * _reach(self.result.abs())

    def unexplained(self, found: Tensor, rows: Indices | None = None) -> str:
        """How far `found` is from the result (its `rows`), in words; "" if rounding explains it."""
        places = slice(None) if rows is None else torch.from_numpy(rows)
        wanted = self.result[places]
        if found.shape != wanted.shape:
            return f"of shape {tuple(found.shape)} instead of {tuple(wanted.shape)}"
        apart = _apart(found.detach(), wanted)
        if bool((apart <= self._least[places]).all()):
            return ""
        bound = self.bound[places]
        beyond = ~(apart <= bound)  # NaN is beyond
        if not bool(beyond.any()):
            return ""
        worst = torch.where(apart == 0, 0, apart / bound).nan_to_num(nan=torch.inf).argmax()
        by, explained = (float(size.flatten()[worst]) for size in (apart, bound))
        return f"by up to {by:.2g}, of which rounding explains {explained:.2g}"


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|, or 0 where both are infinite."""
    return torch.where(a == b, 0, (a - b).abs())


def _reach(size: Tensor) -> Tensor:
    """For each number, the maximum of its row or of its column, whichever is smaller.

    One column may be of another size (a class that is never the answer), and one row at the edge of a
    vote; a number alone may have moved by chance less than it can.
    """
    if size.ndim < 2 or not size.numel():
        return size.amax().expand_as(size) if size.numel() else size
    columns = size.flatten(0, -2).amax(0)
    return torch.minimum(size.amax(-1, keepdim=True), columns).expand_as(size)
