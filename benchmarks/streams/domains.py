"""Domain streams over several sources: the same classes in every task, the images of one source each.

    domains:folder:/data/clipart+folder:/data/sketch?size=224

Class ids come from one list for all sources, not from each: the names that any of them has, sorted as
strings, or the list that `classes` gives (DomainNet's own ids sort its names otherwise). A source may lack
some classes; notes say which. The test images of a task are those of its source; the metric
`accuracy_all_incremental_micro` asks for those of all sources after every task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmarks.errors import DataError, RequestError
from benchmarks.images import Indices, Labelled
from benchmarks.naming import canonical
from benchmarks.orders import NATURAL, Rule, names_in, order_of
from benchmarks.seeds import generator
from benchmarks.sources.lookup import may_mirror, open_source
from benchmarks.sources.paths import folder_name
from benchmarks.sources.reading import Reading
from benchmarks.sources.source import SourceData
from benchmarks.stream import Exam, Place, Stream, StreamInfo, Task
from benchmarks.streams.shares import Amounts, Share, check_ranges, shares

ANY = "domains:"
NAMED = 5  # classes that a note lists


@dataclass(frozen=True, eq=False)
class Domain:
    """A source as a task. ids: the global ids of its classes; given: how many images each of those gives."""

    name: str
    data: SourceData
    ids: Indices
    given: Sequence[Share]


class DomainStream(Stream):
    """A continual stream with one source for each task."""

    catalogue: ClassVar[dict[str, str]] = {
        "domains:SOURCE+SOURCE": "the same classes in several sources, one for each task, e.g. "
        "domains:folder:/data/clipart+folder:/data/sketch?size=224"
    }

    @dataclass(frozen=True)
    class Parameters(Reading):
        """
        classes: file with the names of all classes in the order of their ids, @FILE (by default sorted)
        order: of the domains: natural (as typed), a number, a list (sketch+clipart) or @FILE
        rule: generator that makes an order of a number: numpy, inverse, python or torch
        per_class: images of each class of a domain to use for train and val, drawn per seed (all by default)
        size: side in pixels that all images are squashed to
        val: share of each class's training images held out for validation; 0 for none
        mirror: whether a mirrored image keeps its class (training may flip images then)
        """

        classes: str = ""
        order: int | str | None = None
        rule: Rule = "numpy"
        per_class: int | None = None
        size: int | None = None
        val: float = 0.1
        mirror: bool | None = None

    @classmethod
    def accepts(cls, name: str) -> bool:
        return name.startswith(ANY)

    def __init__(self, name: str, parameters: Parameters, place: Place) -> None:
        self._parameters = parameters
        self._name = canonical(name, replace(parameters, order=None))
        sources = [part for part in name.removeprefix(ANY).split("+") if part]
        if len(sources) < 2:
            raise RequestError(f"{name}: a domain stream needs two sources or more; write {ANY}SOURCE+SOURCE")
        limits: list[tuple[str, float | None, float, float]] = [
            ("per_class", parameters.per_class, 2 if parameters.val else 1, 10**9),
            ("size", parameters.size, 1, 4096),
            ("val", parameters.val or None, 0.001, 0.9),
        ]
        check_ranges(self._name, limits)
        names = [Path(folder_name(source) or source).name for source in sources]
        if twice := {one for one in names if names.count(one) > 1}:
            raise RequestError(f"{name}: two sources are called {min(twice)}; rename a folder")
        self._amounts = Amounts(parameters.val, parameters.per_class)
        loaded = [
            open_source(source, parameters.reading).load(place.store, place.progress, size=parameters.size)
            for source in sources
        ]
        self._class_names = self._classes(names, loaded)
        domains = [self._domain(name, data) for name, data in zip(names, loaded, strict=True)]
        self._check(domains)
        asked = NATURAL if parameters.order is None else str(parameters.order)
        self._order = order_of(self._name, asked, parameters.rule, names, kind="domain")
        self._domains = [domains[number] for number in self._order.classes]
        mirror = all(map(may_mirror, sources)) if parameters.mirror is None else parameters.mirror
        # As typed: two streams that list their sources otherwise have other natural orders.
        typed = hashlib.sha256("\0".join(domain.data.fingerprint for domain in domains).encode())
        self._info = self._describe(typed.hexdigest(), bool(mirror))

    @property
    def info(self) -> StreamInfo:
        return self._info

    def open(self, seed: int) -> tuple[Sequence[Task], Exam]:
        tasks, test = [], {}
        for number, domain in enumerate(self._domains):
            kept, held = self._cut(domain, seed)
            train, val = (self._labelled(domain, domain.data.train.select(rows)) for rows in (kept, held))
            tasks.append(Task(number, train, val, self._info.classes[number]))
            test[number] = self._labelled(domain, domain.data.test)
        return tasks, Exam(test, dict(enumerate(self._info.classes)))

    def _cut(self, domain: Domain, seed: int) -> tuple[Indices, Indices]:
        """Rows of train and of val, sorted within each class."""
        kept, held = [], []
        drawn_by = f"{domain.data.fingerprint}?per_class={self._parameters.per_class}"
        for cls, share in enumerate(domain.given):
            rows = np.flatnonzero(domain.data.train.labels == cls)
            drawn = generator("val", drawn_by, seed, cls).permutation(rows)[: share.used]
            held.append(np.sort(drawn[: share.val]))
            kept.append(np.sort(drawn[share.val :]))
        return np.concatenate(kept), np.concatenate(held)

    def _labelled(self, domain: Domain, part: Labelled) -> Labelled:
        return Labelled(part.inputs, domain.ids[part.labels], self._class_names)

    def _classes(self, names: Sequence[str], loaded: Sequence[SourceData]) -> tuple[str, ...]:
        """The names of all classes, by their ids; RequestError if the given list lacks one."""
        found = {cls for data in loaded for cls in data.class_names}
        if not self._parameters.classes:
            return tuple(sorted(found))
        given = names_in(self._name, "classes", self._parameters.classes)
        if len(set(given)) < len(given):
            twice = next(cls for cls in given if given.count(cls) > 1)
            raise RequestError(f"{self._name}: classes names {twice!r} twice; name each class once")
        for name, data in zip(names, loaded, strict=True):
            for cls in data.class_names:
                if cls not in given:
                    raise RequestError(
                        f"{self._name}: {name} has the class {cls!r}, which classes does not name"
                    )
        return given

    def _domain(self, name: str, data: SourceData) -> Domain:
        ids = np.array([self._class_names.index(cls) for cls in data.class_names], dtype=np.int64)
        counts = np.bincount(data.train.labels, minlength=len(ids)).tolist()
        owner = f"{self._name}: {name}"
        given = shares(owner, self._amounts, [range(len(ids))], counts, data.class_names)
        return Domain(name, data, ids, given)

    def _check(self, domains: Sequence[Domain]) -> None:
        """DataError unless the domains have one image size and share classes."""
        first, *others = domains
        for other in others:
            sizes = [domain.data.train.inputs.image_size for domain in (first, other)]
            if sizes[0] != sizes[1]:
                (h, w), (oh, ow) = sizes
                raise DataError(
                    f"{self._name}: images of {first.name} are {h}x{w}, of {other.name} {oh}x{ow} pixels; "
                    f"add size={min(h, w, oh, ow)} to bring all to one size"
                )
            if not set(first.data.class_names) & set(other.data.class_names):
                raise DataError(
                    f"{self._name}: {first.name} and {other.name} share no class by name; domains have the "
                    "same classes, so give their folders the same names"
                )

    def _describe(self, fingerprint: str, mirror: bool) -> StreamInfo:
        count = len(self._class_names)
        notes = list(dict.fromkeys(note for domain in self._domains for note in domain.data.notes))
        for domain in self._domains:
            lacking = sorted(set(range(count)) - set(domain.ids.tolist()))
            if lacking:
                said = ", ".join(self._class_names[cls] for cls in lacking[:NAMED])
                more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
                notes.append(f"{domain.name} lacks {len(lacking)} of the {count} classes: {said}{more}")
        rules = dict.fromkeys(domain.data.rule for domain in self._domains)
        return StreamInfo(
            name=self._name,
            protocol="continual",
            scenario="domain",
            classes=(tuple(range(count)),) * len(self._domains),
            class_names=self._class_names,
            order=self._order,
            data=fingerprint,
            rule=f"{'; '.join(sorted(rules))}; {self._amounts.said()}; tested on the images of each domain",
            image_size=self._domains[0].data.train.inputs.image_size,
            sizes=tuple(
                (
                    sum(share.train for share in domain.given),
                    sum(share.val for share in domain.given),
                    len(domain.data.test),
                )
                for domain in self._domains
            ),
            mirror=mirror,
            notes=tuple(notes),
            task_names=tuple(domain.name for domain in self._domains),
        )
