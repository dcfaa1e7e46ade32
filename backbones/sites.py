"""Where self-attention happens: one `Site` for each block; ConvNets and external attention have none.

A block is a module with one child that attends (it has a number of heads) and one that is an MLP (Linears of
its own), both called in a pass. Blocks are found in any network of timm's, in the order in which they run.
What differs: a ViT has blocks on one sequence, prefix tokens (class, registers) before its patches, and
attends globally; a Swin has stages, no prefix, maps in NHWC, and attends within windows that every second
block shifts, unless its map is no larger than the window; Hiera and others have stages of sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from backbones.external_attention.attention import ExternalAttention, MultiHeadExternalAttention
from backbones.structure import BATCH, Pair, Pass, fits, grid_of, pass_through, prefixes
from benchmarks.errors import RequestError

EXTERNAL = (ExternalAttention, MultiHeadExternalAttention)


@dataclass
class Site:
    """One attention block.

    index: position in the network; stage: 0 for a ViT; name: the block's path in the network; grid: (h, w)
    of the patch tokens that it returns, (0, 0) if it returns class tokens alone; prefix: tokens before the
    patches; width: channels that it returns; heads: of its attention as loaded; window: (h, w) and shift:
    (h, w) after clipping, None where attention is global; children: the names of its attention and its MLP.
    """

    index: int
    stage: int
    name: str
    grid: Pair
    prefix: int
    width: int
    heads: int
    window: Pair | None
    shift: Pair | None
    block: nn.Module
    children: tuple[str, str] = ("attn", "mlp")

    @property
    def attention(self) -> nn.Module:
        """The attention module; assign another one to replace it.

        One that keeps the old layers' names keeps the weights' names. A ViT's takes (B, N, C), prefix
        first, and `attn_mask`, rotary ones also `rope`; a Swin's (windows * B, N, C) and `mask`, additive,
        (windows, N, N) or None, and adds the relative position bias itself.
        """
        return cast(nn.Module, getattr(self.block, self.children[0]))

    @attention.setter
    def attention(self, module: nn.Module) -> None:
        setattr(self.block, self.children[0], module)

    @property
    def mlp(self) -> nn.Module:
        """The MLP, which takes and returns tokens; assign another one to replace it."""
        return cast(nn.Module, getattr(self.block, self.children[1]))

    @mlp.setter
    def mlp(self, module: nn.Module) -> None:
        setattr(self.block, self.children[1], module)

    @property
    def fc1(self) -> nn.Linear:
        """The first layer of a plain MLP: width to hidden."""
        return cast(nn.Linear, self.mlp.fc1)

    @property
    def fc2(self) -> nn.Linear:
        """The second layer of a plain MLP: hidden to width."""
        return cast(nn.Linear, self.mlp.fc2)

    def readers(self) -> dict[str, str]:
        """The Linears that make queries, keys and values: their names in the attention, by what they make.

        {"qkv": "qkv"} where they are fused, {"q": "q_proj", "k": "k_proj", "v": "v_proj"} where not; other
        attention may have {"q": "q", "kv": "kv"}, or nothing that is a Linear.
        """
        found = {
            made: name
            for name, layer in self.attention.named_children()
            if isinstance(layer, nn.Linear) and set(made := name.removesuffix("_proj")) <= set("qkv")
        }
        return found if sorted("".join(found)) == sorted("qkv") else {}

    def projection(self) -> str | None:
        """The name of the attention's last Linear, which joins the heads."""
        names = [name for name, layer in self.attention.named_children() if isinstance(layer, nn.Linear)]
        return next((name for name in ("proj", "o_proj", "out_proj") if name in names), None)

    def mlp_layers(self) -> list[str]:
        """The names of the MLP's Linears, two of a plain one, three of a gated one."""
        return [name for name, layer in self.mlp.named_children() if isinstance(layer, nn.Linear)]


def find_sites(net: nn.Module, size: Pair | None = None) -> tuple[Site, ...]:
    """All sites in the order of the forward pass; none where no blocks are found, or not all can be read.

    size: (height, width) of the images, by default what the network's patches are made for.
    """
    seen = pass_through(net, size or net.patch_embed.img_size)  # type: ignore[union-attr, arg-type]
    return sites_of(seen, net)


def sites_of(seen: Pass, net: nn.Module) -> tuple[Site, ...]:
    """The sites of `net`, which is what was passed through, or the network that it is a sketch of."""
    try:
        return tuple(_sites(seen, net))
    except RequestError:
        return ()


def why_none(seen: Pass) -> str:
    """Why a network has no sites, as a part of a sentence."""
    try:
        found = list(_sites(seen, seen.net))
    except RequestError as error:
        return str(error)
    if found:
        return ""
    if any(isinstance(module, EXTERNAL) for module in seen.net.modules()):
        return "its attention reads a memory and not other tokens"
    return "no module of it holds one attention and one MLP"


def parts_of(module: nn.Module) -> tuple[str, str] | None:
    """The names of the attention and the MLP of a block; None if the module is none."""
    attentions, mlps = [], []
    for name, child in module.named_children():
        if heads_of(child):
            attentions.append((name, child))
        elif sum(isinstance(layer, nn.Linear) for layer in child.children()) > 1 and not _holds(child):
            mlps.append(name)
    if len(attentions) != 1 or len(mlps) != 1:
        return None
    name, attention = attentions[0]
    return None if isinstance(attention, EXTERNAL) else (name, mlps[0])


def heads_of(module: nn.Module) -> int:
    """The number of heads of an attention; 0 for a module that is none."""
    for name in ("num_heads", "heads"):
        heads = getattr(module, name, None)
        if isinstance(heads, int):
            return heads
    return 0


def _holds(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList)


def _sites(seen: Pass, net: nn.Module) -> Iterator[Site]:
    modules, own = dict(net.named_modules()), dict(seen.net.named_modules())
    stage, before = -1, None
    index = 0
    for name, call in seen.calls.items():
        parts = parts_of(own[name])
        if parts is None or any(f"{name}.{part}" not in seen.calls for part in parts):
            continue
        if name in seen.again:
            raise RequestError(f"its block {name} runs more than once")
        attention, mlp = (seen.calls[f"{name}.{part}"] for part in parts)
        if mlp.returned is None:
            raise RequestError(f"the MLP of its block {name} returns no tokens")
        width = mlp.returned[-1]
        place = _place(seen, call.first, width)
        if place is None:
            raise RequestError(f"its block {name} ({type(own[name]).__name__}) returns no map of patches")
        grid, prefix = place
        if (grid, width) != before and grid != (0, 0):
            stage, before = stage + 1, (grid, width)
        block = own[name]
        heads = heads_of(getattr(block, parts[0]))
        window, shift = _window(block, attention.given)
        yield Site(index, stage, name, grid, prefix, width, heads, window, shift, modules[name], parts)
        index += 1


def _place(seen: Pass, shape: tuple[int, ...] | None, width: int) -> tuple[Pair, int] | None:
    """Grid and prefix of a block's output; None where it is no map of patches."""
    if shape is None or shape[0] != BATCH:
        return None
    if len(shape) == 4:
        last = shape[3] == width and fits(shape[1:3], seen.size)
        if not last and shape[1] != width:
            return None
        grid: Pair = shape[1:3] if last else shape[2:]
        return (grid, 0) if fits(grid, seen.size) else None
    if len(shape) != 3 or shape[2] != width:
        return None
    if seen.shape.prefix and shape[1] == seen.shape.prefix:
        return (0, 0), shape[1]  # a block on the class token alone
    for prefix in dict.fromkeys((seen.shape.prefix, *prefixes(seen.net), 0)):
        found = grid_of(seen.net, seen.size, shape[1] - prefix) if shape[1] > prefix else None
        if found is not None:
            return found, prefix
    return None


def _window(block: nn.Module, given: tuple[int, ...] | None) -> tuple[Pair | None, Pair | None]:
    """Window and shift of a block whose attention is given its windows one by one."""
    window = _pair(getattr(block, "window_size", None))
    if window is None or given is None:
        return None, None
    tokens = given[1] if len(given) == 3 else given[1] * given[2]
    if tokens != window[0] * window[1]:
        return None, None
    return window, _pair(getattr(block, "shift_size", None)) or (0, 0)


def _pair(value: Any) -> Pair | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value) if value else None
    if isinstance(value, tuple | list) and len(value) == 2:
        return int(value[0]), int(value[1])
    return None
