"""The first pass read from the store: it depends on the frozen network and the image alone."""

from __future__ import annotations

import copy
import itertools

from torch import Tensor

from backbones.backbone import Backbone
from backbones.features import extract
from benchmarks.images import Inputs
from benchmarks.progress import Progress

LIMIT = 4 * 2**30  # bytes for one set of images; above, reading it costs more than computing it


class FirstPass:
    """The plain network, apart from the one that is fed: same tensors, own modules."""

    def __init__(self, backbone: Backbone) -> None:
        net = backbone.net
        shared = {id(tensor): tensor for tensor in itertools.chain(net.parameters(), net.buffers())}
        self._plain = Backbone(
            copy.deepcopy(net, shared).eval(),
            backbone.info,
            backbone.preprocessing,
            backbone.identity,
            backbone.weights,
            backbone.numerics,
            store=None,
            sites=backbone.sites(),
        )
        # What is stored under the name of the weights must come from them.
        self._store = backbone.store if backbone.pristine else None

    def __call__(self, inputs: Inputs, batch_size: int, progress: Progress, *, kept: bool) -> Tensor | None:
        """(N, prefix + T, C) float32 on the CPU; None where it would be too large.

        kept: whether it is read from the store, and left there.
        """
        info = self._plain.info
        tokens = info.prefix_tokens + info.grid[0] * info.grid[1]
        if len(inputs) * tokens * info.width * 4 > LIMIT:
            return None
        self._plain.store = self._store if kept else None
        return extract(self._plain, inputs, "maps", batch_size, progress)
