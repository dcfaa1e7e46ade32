"""What one pass through a network shows of it: the map of its patches, and what each module is given.

Networks are known by what passes through them and not by their names: a sketch on the meta device, where a
pass costs no arithmetic, tells which modules are called and with which shapes.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from benchmarks.errors import RequestError

Pair = tuple[int, int]
# Of what `forward_features` returns: (B, prefix + N, C), (B, h, w, C) or (B, C, h, w).
Layout = Literal["tokens", "nhwc", "nchw"]
BATCH = 2  # of the images that pass, so that one image and one window can be told apart


@dataclass(frozen=True)
class Shape:
    """The shape of a network's output.

    width: channels C of features and tokens; grid: (h, w) of the patch tokens; prefix: tokens before them;
    layout: where channels stand in what `forward_features` returns.
    """

    width: int
    grid: Pair
    prefix: int
    layout: Layout


@dataclass(frozen=True)
class Call:
    """The first call of a module: its arguments and the shape that it returned (None: no tensor).

    first: that shape, or of the first of several that it returned.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    returned: tuple[int, ...] | None
    first: tuple[int, ...] | None

    @property
    def given(self) -> tuple[int, ...] | None:
        """The shape of the first argument, if it is a tensor."""
        first = self.args[0] if self.args else None
        return tuple(first.shape) if isinstance(first, Tensor) else None


@dataclass(frozen=True)
class Pass:
    """One pass of `BATCH` images of `size`.

    net: the network that they passed through, on the meta device; calls: the first of each module, in their
    order, by its path; again: the paths of modules that were called more than once.
    """

    net: nn.Module
    size: Pair
    shape: Shape
    calls: Mapping[str, Call]
    again: frozenset[str] = field(default_factory=frozenset)


_last: list[Pass] = []  # the last sketch, which is asked about several times while a backbone opens


def pass_through(net: nn.Module, size: Pair) -> Pass:
    """What a pass of images of `size` (height, width) shows.

    RequestError where features are not one vector, or there is no map of patches of the same width.
    """
    if not _is_meta(net):
        return _pass(_sketch(net), size)
    if not (_last and _last[0].net is net and _last[0].size == size):
        _last[:] = [_pass(net, size)]
    return _last[0]


def grid_of(net: nn.Module, size: Pair, tokens: int) -> Pair | None:
    """(h, w) of that many patches of an image of `size`; None if no square patches make them."""
    own = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if isinstance(own, tuple) and len(own) == 2 and own[0] * own[1] == tokens:
        return int(own[0]), int(own[1])
    for stride in range(1, min(size) + 1):
        for up in (0, stride - 1):  # a network with margins rounds up
            grid = (size[0] + up) // stride, (size[1] + up) // stride
            if grid[0] * grid[1] == tokens:
                return grid
    return None


def fits(grid: Pair, size: Pair) -> bool:
    """Whether a map of that grid has the aspect of an image of `size`, up to rounding."""
    return abs(grid[0] * size[1] - grid[1] * size[0]) <= max(size)


def _is_meta(net: nn.Module) -> bool:
    first = next(itertools.chain(net.parameters(), net.buffers()), None)
    return first is not None and first.is_meta


def _sketch(net: nn.Module) -> nn.Module:
    """A copy on the meta device; no value is copied."""
    memo: dict[int, Any] = {}
    for parameter in net.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in net.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(net, memo).to("meta")


def _pass(net: nn.Module, size: Pair) -> Pass:
    calls: dict[str, Call] = {}
    again: set[str] = set()

    def see(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], returned: object) -> None:
        if name in calls:
            again.add(name)
        else:
            first = returned[0] if isinstance(returned, tuple) and returned else returned
            shape = tuple(first.shape) if isinstance(first, Tensor) else None
            calls[name] = Call(args, kwargs, shape if first is returned else None, shape)

    def hook(name: str) -> Any:
        return lambda module, args, kwargs, returned: see(name, args, kwargs, returned)

    modes = [(module, module.training) for module in net.modules()]
    hooks = [
        module.register_forward_hook(hook(name), with_kwargs=True)
        for name, module in net.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            net.eval()  # BatchNorm in training refuses a single value per channel
            maps = _maps(net, size)
            features = _features(net, maps)
    finally:
        for handle in hooks:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return Pass(net, size, _shape(net, size, maps, features), calls, frozenset(again))


def _maps(net: nn.Module, size: Pair) -> Tensor:
    dtype = next(net.parameters()).dtype
    images = torch.empty(BATCH, 3, *size, dtype=dtype, device="meta")
    try:
        maps = cast(Any, net).forward_features(images)
    except AttributeError as error:
        raise RequestError("it has no `forward_features`") from error
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError, IndexError) as error:
        raise RequestError(f"an image of {size[0]}x{size[1]} pixels is too small for it") from error
    if not isinstance(maps, Tensor):
        raise RequestError(f"it returns a {type(maps).__name__} of maps and not one")
    if 0 in maps.shape:
        raise RequestError(f"an image of {size[0]}x{size[1]} pixels is too small for it")
    return maps


def _features(net: nn.Module, maps: Tensor) -> Tensor:
    try:
        features = cast(Any, net).forward_head(maps, pre_logits=True)
    except (NotImplementedError, TypeError, AttributeError) as error:
        raise RequestError("it gives maps and no features") from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise RequestError("it pools nothing; give global_pool=token or global_pool=avg")
    return features


def _shape(net: nn.Module, size: Pair, maps: Tensor, features: Tensor) -> Shape:
    width = int(features.shape[1])
    last = maps.ndim == 3 or getattr(net, "output_fmt", "") == "NHWC"
    if maps.ndim == 4:
        first_fits, last_fits = maps.shape[1] == width, maps.shape[3] == width
        last = last_fits if first_fits != last_fits else last
    channels = int(maps.shape[-1 if last else 1])
    if channels != width:
        raise RequestError(f"its map has {channels} channels and its features {width}")
    if maps.ndim == 4:
        high, wide = maps.shape[1:3] if last else maps.shape[2:]
        return Shape(width, (int(high), int(wide)), 0, "nhwc" if last else "nchw")
    tokens = int(maps.shape[1])
    for prefix in prefixes(net):
        grid = grid_of(net, size, tokens - prefix) if tokens > prefix else None
        # Of a guessed prefix the one patch may be a second class token (the distilled PiT's).
        if grid is not None and (grid != (1, 1) or not prefix or prefixes(net) == (prefix,)):
            return Shape(width, grid, prefix, "tokens")
    raise RequestError(f"its {tokens} tokens are no map of patches")


def prefixes(net: nn.Module) -> tuple[int, ...]:
    """How many tokens may stand before the patches: as many as the network says, or a class token or two."""
    said = getattr(net, "num_prefix_tokens", None)
    if isinstance(said, int):
        return (said,)
    return (1, 2) if getattr(net, "global_pool", None) == "token" else (0, 1, 2)
