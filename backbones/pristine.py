"""Whether a network is still what was loaded: cached features may be used only then."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


class Snapshot:
    """The tensors and modules of a network at one moment.

    References are held, not ids alone: a freed object's id may be given to its successor.
    """

    def __init__(self, net: nn.Module) -> None:
        self._modules = _modules(net)
        self._tensors = _tensors(net)
        self._sum = checksum(net)

    def matches(self, net: nn.Module) -> bool:
        """Whether no module was replaced, hooked or given another forward, and no tensor written or replaced.

        PyTorch counts writes to a tensor, so this reads no values. It does not count those through
        `.data`; `checksum_matches` sees them.
        """
        modules, tensors = _modules(net), _tensors(net)
        return (
            len(modules) == len(self._modules)
            and len(tensors) == len(self._tensors)
            and all(
                now[0] is then[0] and now[1:] == then[1:]
                for now, then in zip(modules, self._modules, strict=True)
            )
            and all(
                now[0] is then[0] and now[1:] == then[1:]
                for now, then in zip(tensors, self._tensors, strict=True)
            )
        )

    def checksum_matches(self, net: nn.Module) -> bool:
        """Whether the bits of all tensors still have their sum (milliseconds)."""
        return checksum(net) == self._sum


def checksum(net: nn.Module) -> tuple[int, ...]:
    """Per tensor, the sum of its bits read as integers."""
    with torch.no_grad():
        return tuple(
            int(
                tensor.detach()
                .contiguous()
                .reshape(-1)
                .view(torch.uint8 if tensor.element_size() % 4 else torch.int32)
                .sum()
            )
            for tensor in itertools.chain(net.parameters(), net.buffers())
        )


def _modules(net: nn.Module) -> tuple[tuple[nn.Module, type, str, int, bool], ...]:
    return tuple(
        (
            module,
            type(module),
            name,
            len(module._forward_hooks) + len(module._forward_pre_hooks),
            "forward" in module.__dict__,
        )
        for name, module in net.named_modules()
    )


def _tensors(net: nn.Module) -> tuple[tuple[Tensor, str, int, int], ...]:
    named = itertools.chain(net.named_parameters(), net.named_buffers())
    return tuple((tensor, name, tensor._version, tensor.data_ptr()) for name, tensor in named)
