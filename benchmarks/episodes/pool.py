"""Episodes to meta-train on, from the training classes of some sources."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from benchmarks.episodes.config import EpisodeConfig
from benchmarks.episodes.sampler import Sampler
from benchmarks.episodes.source import Bank, EpisodeSource, SplitName, pack
from benchmarks.images import Inputs, Labelled
from benchmarks.seeds import generator
from benchmarks.stream import Episode, Pool

FLAT_SHARE = 0.5  # of training episodes that ignore alphabets and graphs, as CrossTransformers are trained


class EpisodePool(Pool):
    """The classes of one split of some sources, all drawn from as often (Triantafillou et al., 2020)."""

    def __init__(
        self,
        sources: Sequence[EpisodeSource],
        split: SplitName,
        config: EpisodeConfig,
        validation: Pool | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._split = split
        self._config = config
        self._classes = [source.classes(split) for source in sources]
        self._samplers: dict[int, list[Sampler]] = {}
        self._shown: dict[int, Bank] = {}
        self.validation = validation
        self.mirror = all(source.mirror for source in sources)

    @cached_property
    def images(self) -> Labelled:  # type: ignore[override]
        """Every image of the split, classes named "source/class"."""
        parts, labels, names = [], [], list[str]()
        for number, (source, classes) in enumerate(zip(self._sources, self._classes, strict=True)):
            bank = self._bank(number)
            parts.append(bank.inputs)
            labels.append((bank.keys >> 32) + len(names))
            names += [f"{source.name}/{name}" for name in classes.names]
        return Labelled(Inputs.join(parts), np.concatenate(labels), tuple(names))

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self._split} {self._config.describe()} flat {FLAT_SHARE}".encode())
        for source, classes in zip(self._sources, self._classes, strict=True):
            # The rule says how images were cut and sized; the fingerprint of records is of encoded images.
            digest.update(f"{source.fingerprint} {source.rule}".encode())
            digest.update(f"{classes.names} {classes.counts.tolist()}".encode())
        return digest.hexdigest()

    def episode(self, seed: int, number: int) -> Episode:
        if seed not in self._samplers:
            share = FLAT_SHARE if self._split == "train" else 0.0
            self._samplers[seed] = [Sampler(c, self._config, seed, flat_share=share) for c in self._classes]
        source = int(
            generator("source of an episode", seed, self._split, number).integers(len(self._sources))
        )
        draw = self._samplers[seed][source].draw(number)
        return Episode(*self._bank(source).parts(draw, self._classes[source].names))

    def _bank(self, source: int) -> Bank:
        """All images of one source's split."""
        if source not in self._shown:
            counts = self._classes[source].counts
            classes = np.repeat(np.arange(len(counts)), counts)
            images = np.concatenate([np.arange(count) for count in counts])
            self._shown[source] = self._sources[source].bank(self._split, pack(classes, images))
        return self._shown[source]
