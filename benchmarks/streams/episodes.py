"""Few-shot streams: episodes of variable way and shots over one or more sources.

    episodes:omniglot+cifar100?episodes=200&support=100
    embedded-episodes?way=5
    meta-dataset

Every source gives `episodes` episodes, drawn as in Meta-Dataset (`benchmarks.episodes.sampler`) from (seed,
source, split, number), so they are the same for every method, network and worker count. The pool to
meta-train on holds the training classes of the same sources, or of those that `pool` names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from benchmarks.episodes.classes import FEWEST_WAY
from benchmarks.episodes.config import EpisodeConfig
from benchmarks.episodes.official import OfficialEpisodes
from benchmarks.episodes.pool import EpisodePool
from benchmarks.episodes.recorded import RecordedEpisodes
from benchmarks.episodes.sampler import Sampler
from benchmarks.episodes.source import EpisodeSource, LabelledEpisodes, drawn_keys
from benchmarks.errors import DataError, RequestError
from benchmarks.images import Labelled
from benchmarks.naming import canonical
from benchmarks.sources.counts import many
from benchmarks.sources.listed import ListSource
from benchmarks.sources.local import LocalSource
from benchmarks.sources.lookup import may_mirror, open_source
from benchmarks.sources.paths import parts_of
from benchmarks.sources.reading import Reading
from benchmarks.stream import Exam, Place, Pool, Stream, StreamInfo, Task
from benchmarks.tfrecords.known import META_DATASET

ANY = "episodes:"
RECORDS = "meta-dataset/"
PRESETS = {
    "embedded-episodes": ("glyphs", "textures", "objects"),
    "meta-dataset": tuple(RECORDS + name for name, source in META_DATASET.items() if not source.extra),
}
IMAGE_SIDE = 64
POOLED = 100  # images of each class of records that a pool has


class EpisodeStream(Stream):
    """Episodes over the test classes of some sources."""

    catalogue: ClassVar[Mapping[str, str]] = {
        "embedded-episodes": "episodes of glyphs, textures and objects; procedural",
        "meta-dataset": "Meta-Dataset's ten sources, from its records in $CARRYOVER_DATA/meta-dataset",
        "episodes:SOURCE+SOURCE": "any sources, e.g. episodes:cifar100+meta-dataset/aircraft?episodes=200",
    }

    @dataclass(frozen=True)
    class Parameters(Reading):
        """
        episodes: how many of each source
        size: side in pixels that images are squashed to
        way: most classes of an episode (50); fewer than 5, or with shots: exactly so many
        shots: support images of each class, exactly so many, of exactly `way` classes (N ways and K shots)
        support: most support images of an episode (Meta-Dataset: 500)
        queries: most query images of a class; with shots: exactly so many
        classes: test (held out from the pool, which has the rest of a source; as the data set has them, if
            its train and test have other classes) or all
        per_class: images of each class that may be drawn (all by default; not for records)
        pool: sources to prepare on, joined by "+" (with classes=test, the same ones by default)
        pool_per_class: images of each class in the pool (by default all; of records, which have millions, the
            first 100)
        """

        episodes: int = 600
        size: int = IMAGE_SIDE
        way: int | None = None
        shots: int | None = None
        support: int = 500
        queries: int = 10
        classes: Literal["test", "all"] = "test"
        per_class: int | None = None
        pool: str = ""
        pool_per_class: int | None = None

    @classmethod
    def accepts(cls, name: str) -> bool:
        return name in PRESETS or name.startswith(ANY)

    def __init__(self, name: str, parameters: Parameters, place: Place) -> None:
        self._name = canonical(name, parameters)
        self._parameters = parameters
        self._place = place
        self._config = _config(self._name, parameters)
        if not 1 <= parameters.episodes <= 10**6:
            raise RequestError(f"{self._name}: episodes={parameters.episodes} lies outside 1 to 1000000")
        if not 1 <= parameters.size <= 4096:
            raise RequestError(f"{self._name}: size={parameters.size} lies outside 1 to 4096")
        for limit in ("per_class", "pool_per_class"):
            number = getattr(parameters, limit)
            if number is not None and number < 2:
                raise RequestError(f"{self._name}: {limit}={number} leaves no query image; give 2 or more")
        names = PRESETS.get(name) or _listed(self._name, name.removeprefix(ANY))
        whole = parameters.classes == "all"
        self._loaded: dict[tuple[str, bool, int | None], EpisodeSource] = {}
        self._sources = [self._open(source, whole=whole) for source in names]
        called = [source.name for source in self._sources]
        if twice := sorted({name for name in called if called.count(name) > 1}):
            same = ", ".join(source.typed for source in self._sources if source.name in twice)
            raise RequestError(
                f"{self._name}: two sources are called {', '.join(twice)} ({same}), and results are named by "
                "source; take one of them at a time"
            )
        self._classes = [source.classes("test") for source in self._sources]
        prepared_on = _listed(self._name, parameters.pool) if parameters.pool else () if whole else names
        pooled = [self._open_pooled(source) for source in prepared_on]
        # By what sources are called: a folder, which has many paths, by its content.
        both = [source.typed for source in pooled if source.name in called]
        if whole and both:
            raise RequestError(
                f"{self._name}: {', '.join(both)} cannot be both pool and test set with classes=all; take "
                "another pool, or classes=test"
            )
        self._pool = self._pooled(pooled)
        self._shared = _shared(self._sources, pooled)
        self._info = self._describe()

    @property
    def info(self) -> StreamInfo:
        return self._info

    def open(self, seed: int) -> tuple[Sequence[Task], Exam]:
        """One task per episode (its support images); the exam holds the queries."""
        tasks: list[Task] = []
        test: dict[int, Labelled] = {}
        for number, (source, classes) in enumerate(zip(self._sources, self._classes, strict=True)):
            sampler = Sampler(classes, self._config, seed)
            draws = [sampler.draw(episode) for episode in range(self._parameters.episodes)]
            bank = source.bank("test", drawn_keys(draws))
            nothing = bank.inputs.select(np.arange(0))
            for episode, draw in enumerate(draws):
                support, queries = bank.parts(draw, classes.names)
                at = number * self._parameters.episodes + episode
                globally = tuple(self._info.classes[number][c] for c in draw.classes)
                none = Labelled(nothing, np.zeros(0, np.int64), support.class_names)
                tasks.append(Task(at, support, none, globally))
                test[at] = queries
        return tasks, Exam(test, {task.id: task.classes for task in tasks})

    @property
    def pool(self) -> Pool | None:
        return self._pool

    def _pooled(self, sources: Sequence[EpisodeSource]) -> Pool | None:
        """The training classes of `sources`; of those without any (test only), none."""
        trained = [source for source in sources if source.has("train")]
        if not trained:
            return None
        validated = [source for source in trained if source.has("valid")]
        validation = EpisodePool(validated, "valid", self._config) if validated else None
        return EpisodePool(trained, "train", self._config, validation)

    def _open(self, name: str, *, whole: bool) -> EpisodeSource:
        if name.startswith(RECORDS):
            return RecordedEpisodes(name.removeprefix(RECORDS), self._parameters.size, self._place)
        return self._labelled(name, whole, self._parameters.per_class)

    def _open_pooled(self, name: str) -> EpisodeSource:
        """As `_open`, but all of its images are going to be decoded, and held as token maps."""
        parameters = self._parameters
        if name.startswith(RECORDS):
            most = parameters.pool_per_class or POOLED
            bare = name.removeprefix(RECORDS)
            return RecordedEpisodes(bare, parameters.size, self._place, most, ("train", "valid"))
        return self._labelled(name, False, parameters.pool_per_class or parameters.per_class)

    def _labelled(self, name: str, whole: bool, per_class: int | None) -> EpisodeSource:
        asked = name, whole, per_class
        if asked not in self._loaded:
            self._loaded[asked] = self._read(name, whole, per_class)
        return self._loaded[asked]

    def _read(self, name: str, whole: bool, per_class: int | None) -> EpisodeSource:
        place, size, fewest = self._place, self._parameters.size, self._config.least_way
        source = open_source(name, self._parameters.reading)
        mirror = may_mirror(name)
        if isinstance(source, LocalSource | ListSource):
            parts = source.class_parts(place.store, place.progress, size)
            if parts is not None and whole:
                raise DataError(
                    f"{self._name}: {name} has classes of its own for train and test, so classes=all would "
                    "test on those to train on; leave classes=all out, or name the folder of one part"
                )
            if parts is not None:
                return OfficialEpisodes(name, parts, mirror, fewest=fewest, per_class=per_class)
        data = source.load(place.store, place.progress, size=size)
        return LabelledEpisodes(name, data, mirror, whole=whole, per_class=per_class, fewest=fewest)

    def _describe(self) -> StreamInfo:
        classes, names, at = [], [], 0
        for source, found in zip(self._sources, self._classes, strict=True):
            classes.append(tuple(range(at, at + len(found.names))))
            names += [f"{source.name}/{name}" for name in found.names]
            at += len(found.names)
        digest = hashlib.sha256("".join(source.fingerprint for source in self._sources).encode())
        rules = "; ".join(source.rule for source in self._sources)
        side = self._parameters.size
        return StreamInfo(
            name=self._name,
            protocol="few_shot",
            scenario="task",
            classes=tuple(classes),
            class_names=tuple(names),
            order=None,
            data=digest.hexdigest(),
            rule=f"{self._parameters.episodes} episodes of each source; {self._config.describe()}; {rules}",
            image_size=(side, side),
            sizes=tuple((0, 0, int(found.counts.sum())) for found in self._classes),
            mirror=all(source.mirror for source in self._sources),
            notes=(*(note for source in self._sources for note in source.notes), *self._shared),
            task_names=tuple(source.name for source in self._sources),
            episodes=self._parameters.episodes,
            counts=tuple((0, count) for found in self._classes for count in found.counts.tolist()),
        )


def _shared(tested: Sequence[EpisodeSource], pooled: Sequence[EpisodeSource]) -> list[str]:
    """Notes on images of test classes that are in the pool as well: equal pixels, whatever their class."""
    said = []
    for test in tested:
        asked = test.digests("test")
        for source in pooled:
            known = source.digests("train")
            count = 0 if asked is None or known is None else int(np.isin(asked, known).sum())
            if count:
                said.append(
                    f"{test.name}: {many(count, 'image')} of its test classes are also in the pool of "
                    f"{source.name} (identical pixels)"
                )
    return said


def _config(name: str, parameters: EpisodeStream.Parameters) -> EpisodeConfig:
    """RequestError in the words that are typed."""
    support, least = parameters.support, FEWEST_WAY
    if parameters.shots is not None and parameters.way is None:
        raise RequestError(
            f"{name}: shots={parameters.shots} needs the number of classes; add way=5, for example"
        )
    way = EpisodeConfig.most_way if parameters.way is None else parameters.way
    if way < least:
        raise RequestError(f"{name}: way={way} is fewer than {least}, the fewest classes of an episode")
    if support < way:
        smaller = f", or way={support}" if support >= least else ""
        raise RequestError(
            f"{name}: support={support} is fewer than way={way}, and every class needs a support image; take "
            f"support={way} or more{smaller}"
        )
    try:
        return EpisodeConfig(
            least_way=way if parameters.shots is not None else min(way, EpisodeConfig.least_way),
            most_way=way,
            most_support=support,
            most_queries=parameters.queries,
            shots=parameters.shots,
        )
    except RequestError as error:
        raise RequestError(f"{name}: {error}") from None


def _listed(stream: str, names: str) -> tuple[str, ...]:
    found = tuple(parts_of(names, "+"))
    if not found or len(set(found)) < len(found):
        raise RequestError(
            f"{stream}: {names!r} names no source, or one twice; join sources by +, as in omniglot+dtd"
        )
    return found
