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
        self._sums = checksums(net)

    def matches(self, net: nn.Module) -> bool:
        """Whether no module was replaced, hooked or given another forward, and no tensor written or replaced.

        PyTorch counts writes to a tensor, so most changes show without reading a value. It does not count
        those through `.data` or by fused optimisers; the sums of the bits see them, in milliseconds.
        """
        modules, tensors = _modules(net), _tensors(net)
        return (
            len(modules) == len(self._modules)
            and len(tensors) == len(self._tensors)
            and all(map(_same, modules, self._modules))
            and all(map(_same, tensors, self._tensors))
            and checksums(net) == self._sums
        )


def checksums(net: nn.Module) -> list[int]:
    """Per tensor, the sum of its bits read as integers."""
    sums = []
    for tensor in itertools.chain(net.parameters(), net.buffers()):
        bits = tensor.detach().contiguous().reshape(-1)
        sums.append(bits.view(torch.uint8 if bits.element_size() % 4 else torch.int32).sum())
    return torch.stack(sums).tolist() if sums else []


def _same(now: tuple[object, ...], then: tuple[object, ...]) -> bool:
    # Tensors compare by elements; identity is meant.
    return now[0] is then[0] and now[1:] == then[1:]


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
