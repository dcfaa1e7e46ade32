"""Features of a frozen network, computed once for each run of images and memory-mapped afterwards.

One entry of the store holds the features, or the patch tokens, of one chunk of images as float32:
half precision would halve the file but change what is trained on them. The key names everything that
may change a bit, the batch size and the versions of torch and timm included, so that what is read
equals what would be computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import timm
import torch
from torch import Tensor, nn

from benchmarks.images import Chunk, Indices, Inputs
from benchmarks.progress import Bar, Progress, Silent
from benchmarks.store import Store

# "maps" is what timm's `forward_features` returns, prefix included, before any norm after pooling.
Kind = Literal["features", "tokens", "maps"]


class Extractor(Protocol):
    """What `extract` needs of a backbone.

    store: where features are kept, None for nowhere; shared: per table, by its content, the images that are
    computed together.
    """

    net: nn.Module
    store: Store | None
    shared: dict[str, Chunk]

    @property
    def pristine(self) -> bool:
        """Whether the network is as it was loaded."""
        ...

    def prepare(self, pixels: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to the network's input, (B, 3, S, S) float32, on its device."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """The features (B, C) of prepared images."""
        ...

    def forward_tokens(self, images: Tensor) -> Tensor:
        """The patch tokens (B, N, C) of prepared images."""
        ...

    def forward_maps(self, images: Tensor) -> Tensor:
        """The maps (B, prefix + N, C) of prepared images."""
        ...

    def shape(self, kind: Kind) -> tuple[int, ...]:
        """The shape of one image's values."""
        ...

    def facts(self) -> Mapping[str, object]:
        """All of the backbone that the bits of its values depend on, for JSON."""
        ...


def extract(
    backbone: Extractor, inputs: Inputs, kind: Kind, batch_size: int = 256, progress: Progress | None = None
) -> Tensor:
    """Features (N, C), tokens (N, T, C) or maps (N, prefix + T, C), float32 on the CPU, without gradients.

    They come from the backbone's store while it is as it was loaded, and are computed otherwise, in
    evaluation mode.
    """
    cached = backbone.store is not None and backbone.pristine
    wanted = [_shared(backbone, chunk) if cached else (chunk, None) for chunk in inputs.chunks]
    distinct = {id(chunk): chunk for chunk, _ in wanted}
    read = _stored if cached else _fresh
    with (progress or Silent()).bar(kind, sum(len(c.rows) for c in distinct.values()), "images") as bar:
        values = {key: read(backbone, chunk, kind, batch_size, bar) for key, chunk in distinct.items()}
    parts = [
        values[id(chunk)] if places is None else values[id(chunk)][torch.from_numpy(places)]
        for chunk, places in wanted
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def cache_key(backbone: Extractor, kind: Kind, batch_size: int, chunk: Chunk) -> str:
    """The entry's name; equal only where every bit of the features is."""
    parts = {
        **backbone.facts(),
        "versions": [torch.__version__, timm.__version__],
        "kind": kind,
        "batch": batch_size,
        "images": chunk.fingerprint,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def _shared(backbone: Extractor, chunk: Chunk) -> tuple[Chunk, Indices | None]:
    """The images that are computed together with those of `chunk`, and where among them these are."""
    shared = backbone.shared.get(chunk.content)
    if shared is None or not len(chunk.rows):
        return chunk, None
    places = np.minimum(np.searchsorted(shared.rows, chunk.rows), len(shared.rows) - 1)
    return (shared, places) if np.array_equal(shared.rows[places], chunk.rows) else (chunk, None)


def _stored(backbone: Extractor, chunk: Chunk, kind: Kind, batch_size: int, bar: Bar) -> Tensor:
    assert backbone.store is not None
    if not len(chunk.rows):
        return _fresh(backbone, chunk, kind, batch_size, bar)  # an empty file cannot be mapped
    made = False

    def make(folder: Path) -> None:
        nonlocal made
        made = True
        shape = (len(chunk.rows), *backbone.shape(kind))
        out = np.lib.format.open_memmap(folder / "values.npy", mode="w+", dtype=np.float32, shape=shape)
        _fill(torch.from_numpy(out), backbone, chunk, kind, batch_size, bar)
        out.flush()

    folder = backbone.store.get("features", cache_key(backbone, kind, batch_size, chunk), make)
    if not made:
        bar.advance(len(chunk.rows), note="cached")
    # Copy-on-write: a caller that writes into its tensor changes its own copy and never the file.
    return torch.from_numpy(np.load(folder / "values.npy", mmap_mode="c"))


def _fresh(backbone: Extractor, chunk: Chunk, kind: Kind, batch_size: int, bar: Bar) -> Tensor:
    out = torch.empty(len(chunk.rows), *backbone.shape(kind))
    _fill(out, backbone, chunk, kind, batch_size, bar)
    return out


def _fill(out: Tensor, backbone: Extractor, chunk: Chunk, kind: Kind, batch_size: int, bar: Bar) -> None:
    rows = Inputs([chunk])
    forwards: dict[Kind, Callable[[Tensor], Tensor]] = {
        "features": backbone,
        "tokens": backbone.forward_tokens,
        "maps": backbone.forward_maps,
    }
    forward = forwards[kind]
    with torch.no_grad(), evaluating(backbone.net):
        for start in range(0, len(rows), batch_size):
            pixels = torch.from_numpy(rows.pixels(slice(start, start + batch_size)))
            values = forward(backbone.prepare(pixels))
            out[start : start + len(values)] = values.float().cpu()
            bar.advance(len(values))


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; every module's own mode afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
