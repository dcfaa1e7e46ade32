"""Meta-training on a frozen backbone: every token map is computed once.

An ordinary episode gathers rows of the pool's maps. A converted one needs augmented images, of which only
a bank is kept: `views` views as supports and as many as queries (blurred) of each of some images. An image
outside the bank is stood in for by one of its own class, or else of any; none occurs twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from backbones.backbone import Backbone
from backbones.features import evaluating
from benchmarks.images import Indices, Inputs, Labelled
from benchmarks.progress import Progress
from benchmarks.seeds import derive, generator
from benchmarks.stream import Pool
from methods.base.prepared import store_key
from methods.crosstransformer.augmentation import views
from methods.crosstransformer.episodes import (
    EpisodeMaps,
    as_labels,
    converts,
    copied,
    in_unit_range,
    normalised,
)

BATCH = 64  # images whose views are made at once


class PoolMaps:
    """The token maps of all images of a pool, memory-mapped chunk by chunk, read by table and row."""

    def __init__(self, backbone: Backbone, images: Labelled, progress: Progress | None = None) -> None:
        self.chunks = images.inputs.chunks
        self._maps = [backbone.tokens(Inputs([chunk]), progress=progress) for chunk in self.chunks]
        self._ends = np.cumsum([len(chunk.rows) for chunk in self.chunks])
        self._places: dict[str, Indices] = {}  # by table: position in the pool of each row, -1 if it is not
        for chunk, end in zip(self.chunks, self._ends, strict=True):
            places = self._places.setdefault(chunk.content, np.full(len(chunk.table), -1))
            places[chunk.rows] = np.arange(end - len(chunk.rows), end)

    def positions(self, inputs: Inputs) -> Indices:
        """(n,) where in the pool these images are; ValueError for one that is not in it."""
        found = []
        for chunk in inputs.chunks:
            places = self._places.get(chunk.content)
            here = np.full(len(chunk.rows), -1) if places is None else places[chunk.rows]
            if (here < 0).any():
                raise ValueError(f"row {chunk.rows[here < 0][0]} of an episode is not an image of its pool")
            found.append(here)
        return np.concatenate(found)

    def __call__(self, inputs: Inputs) -> Tensor:
        """(n, T, D) float32 on the CPU, a copy."""
        positions = self.positions(inputs)
        owners = np.searchsorted(self._ends, positions, side="right")
        out = torch.empty(len(positions), *self._maps[0].shape[1:])
        for owner in np.unique(owners):
            here = np.flatnonzero(owners == owner)
            start = self._ends[owner] - len(self.chunks[owner].rows)
            out[torch.from_numpy(here)] = self._maps[owner][torch.from_numpy(positions[here] - start)]
        return out


class Bank:
    """Cached views of some images of a pool.

    positions: (n,) of the images in the pool, spread evenly over its classes; maps: (n, 2 views, T, D) in
    half precision, the views as supports before those as queries; size: views kept.
    """

    def __init__(
        self, backbone: Backbone, pool: Pool, images: int, count: int, seed: int, progress: Progress
    ) -> None:
        """images: how many, 0 for all; count: views of each kind."""
        self.views = count
        self._labels = pool.images.labels
        self.positions = _spread(self._labels, images or len(self._labels), seed)
        self._slots = np.full(len(self._labels), -1)
        self._slots[self.positions] = np.arange(len(self.positions))
        inputs = pool.images.inputs.select(self.positions)
        height, across = backbone.info.grid
        shape = (len(inputs), 2 * count, height * across, backbone.info.width)
        if backbone.store is None or not backbone.pristine:
            self.maps = torch.empty(shape, dtype=torch.float16)
            _fill(self.maps, backbone, inputs, count, seed, pool.mirror, progress)
            return

        def make(folder: Path) -> None:
            out = np.lib.format.open_memmap(folder / "views.npy", mode="w+", dtype=np.float16, shape=shape)
            _fill(torch.from_numpy(out), backbone, inputs, count, seed, pool.mirror, progress)
            out.flush()

        package = (__package__ or "",)
        key = store_key(package, backbone, "views", BATCH, inputs.fingerprint, count, seed, pool.mirror)
        folder = backbone.store.get("crosstransformer-views", key, make)
        self.maps = torch.from_numpy(np.load(folder / "views.npy", mmap_mode="c"))

    @property
    def size(self) -> int:
        return self.maps.shape[0] * self.maps.shape[1]

    def read(self, slots: Indices, numbers: Indices) -> Tensor:
        """(n, T, D): of each slot the view of that number."""
        return self.maps[torch.from_numpy(slots), torch.from_numpy(numbers)]

    def stand_ins(self, positions: Indices, rng: np.random.Generator) -> Indices:
        """(n,) distinct places in the bank for images of the pool; -1 once the bank is used up."""
        slots = self._slots[positions]
        free = np.ones(len(self.positions), dtype=bool)
        free[slots[slots >= 0]] = False
        of_slot = self._labels[self.positions]
        for place in np.flatnonzero(slots < 0):
            same = np.flatnonzero(free & (of_slot == self._labels[positions[place]]))
            choice = same if len(same) else np.flatnonzero(free)
            if len(choice):
                slots[place] = rng.choice(choice)
                free[slots[place]] = False
        return slots


class FrozenEpisodes:
    """Episodes of a pool from cached maps; nothing of the backbone trains."""

    parameters: Sequence[nn.Parameter] = ()
    buffers: Sequence[Tensor] = ()
    kernels: Sequence[nn.Parameter] = ()

    def __init__(
        self,
        backbone: Backbone,
        pool: Pool,
        seed: int,
        simclr: float,
        views: int,
        bank_images: int,
        progress: Progress,
    ) -> None:
        self._pool, self._seed, self._share, self._device = pool, seed, simclr, backbone.device
        self._maps = PoolMaps(backbone, pool.images, progress)
        held = pool.validation
        self._validation = None if held is None else PoolMaps(backbone, held.images, progress)
        self.bank = Bank(backbone, pool, bank_images, views, seed, progress) if simclr > 0 else None

    def training(self, number: int) -> EpisodeMaps:
        episode = self._pool.episode(self._seed, number)
        if self.bank is not None and converts(self._seed, number, self._share):
            copies = copied(episode.support.labels, episode.query.labels)
            return self._converted(self.bank, self._maps.positions(episode.support.inputs), copies, number)
        return _ordinary(self._maps, episode.support, episode.query, self._device)

    def validation(self, number: int) -> EpisodeMaps | None:
        if self._pool.validation is None or self._validation is None:
            return None
        episode = self._pool.validation.episode(self._seed, number)
        return _ordinary(self._validation, episode.support, episode.query, self._device)

    def _converted(self, bank: Bank, positions: Indices, copies: Indices, number: int) -> EpisodeMaps:
        rng = generator("views of an episode", self._seed, number)
        slots = bank.stand_ins(positions, rng)
        kept = slots >= 0
        answers = (np.cumsum(kept) - 1)[copies[kept[copies]]]
        slots = slots[kept]
        shown = rng.integers(bank.views, size=len(slots))
        asked = rng.integers(bank.views, size=len(answers)) + bank.views
        return EpisodeMaps(
            bank.read(slots, shown).float().to(self._device),
            as_labels(np.arange(len(slots)), self._device),
            bank.read(slots[answers], asked).float().to(self._device),
            as_labels(answers, self._device),
            len(slots),
        )


def _ordinary(maps: PoolMaps, support: Labelled, query: Labelled, device: torch.device) -> EpisodeMaps:
    return EpisodeMaps(
        maps(support.inputs).to(device),
        as_labels(support.labels, device),
        maps(query.inputs).to(device),
        as_labels(query.labels, device),
        len(support.class_names),
    )


def _spread(labels: Indices, count: int, seed: int) -> Indices:
    """Sorted positions of `count` images, from every class as many as from any other where it has them."""
    shuffled = generator("bank", seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[np.argsort(rank, kind="stable")][:count])


def _fill(
    out: Tensor, backbone: Backbone, inputs: Inputs, count: int, seed: int, mirror: bool, progress: Progress
) -> None:
    source = torch.Generator(backbone.device).manual_seed(derive("bank", seed))
    size = backbone.info.input_size
    with (
        torch.no_grad(),
        evaluating(backbone.net),
        progress.bar("views", len(inputs) * 2 * count, "images") as bar,
    ):
        for start in range(0, len(inputs), BATCH):
            images = in_unit_range(inputs.pixels(slice(start, start + BATCH)), backbone.device)
            for number in range(2 * count):
                seen = views(images, size, source, blurred=number >= count, mirror=mirror)
                tokens = backbone.forward_tokens(normalised(backbone, seen))
                out[start : start + len(images), number] = tokens.half().cpu()
                bar.advance(len(images))
