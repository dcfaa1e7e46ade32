"""The contract: the rules that must be equal for two numbers to share a table.

Each part is a rule in words (with the hashes that it depends on), so that a refusal can say what differs.
What belongs to one seed or one order of classes, such as its test images, is not a part: records hold it as
fingerprints, and methods are compared if those agree (`carryover/metrics/statistics.py`). So the order is
there as the rule that makes orders of numbers, and records of several orders meet in one table, which says
over which ones it averages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from benchmarks.errors import RequestError, unknown
from benchmarks.stream import StreamInfo
from carryover.records.record import DEFAULT, Record

PARTS = {
    "protocol": "what is learnt and scored when, and its version",
    "data": "the source's images and labels",
    "split": "how train, validation and test were cut",
    "order": "the rule of the orders in which classes come; a table names those that it averages over",
    "scenario": "whether the task is known at test time",
    "labels": "the classes of each task",
    "preprocessing": "resize rule and resolution, and whether images may be mirrored in training",
    "backbone": "weights, normalisation and pooling, and whose pooling it is",
    "selection": "how options were chosen: default, manual, or a rule with its budget",
    "inference": "whether predictions may depend on the rest of the batch",
}
PER_SAMPLE = "per sample"


def short(digest: str) -> str:
    """The first digits of a hash, as shown to people."""
    return digest[:8]


class Contract(Mapping[str, str]):
    """The named parts in the order of `PARTS`, then those that a newer version added."""

    def __init__(self, parts: Mapping[str, str]) -> None:
        known = {name: parts[name] for name in PARTS if name in parts}
        self._parts = known | {name: parts[name] for name in sorted(parts) if name not in PARTS}

    def __getitem__(self, name: str) -> str:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        return f"Contract({self._parts})"

    def __hash__(self) -> int:
        return hash(self.hash)

    @property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each part, over name and rule."""
        return {name: _sha256([name, rule]) for name, rule in self._parts.items()}

    @property
    def hash(self) -> str:
        """The sha256 of the contract; equal for equal parts in any order."""
        return _sha256(sorted(self.hashes.items()))

    def without(self, names: Sequence[str]) -> Contract:
        """The contract without the parts `names`."""
        return Contract({name: rule for name, rule in self._parts.items() if name not in names})


def contract_of(
    info: StreamInfo,
    *,
    protocol: str,
    scenario: str,
    preprocessing: str,
    backbone: str,
    selection: str = DEFAULT,
) -> Contract:
    """The contract of cells on a stream.

    protocol: name and version; scenario: what is known at test time; preprocessing: resize rule and
    resolution; backbone: weight hash, pooling and the network's own normalisation, so that a ViT and a Swin
    at one resolution differ only in this part; selection: "default", "manual", or the rule with its budget.
    """
    order, classes, images = "as the source has them", info.classes, info.sizes
    if info.order is not None:
        # Equal for every order: how many classes a task has, and how many images there are in all.
        order = info.order.rule
        classes = tuple((len(task),) for task in info.classes)
        whole = zip(*info.sizes, strict=True)
        train, val, test = (sum(part) for part in whole)
        images = ((0, 0, test),) if info.sizes_by_order else ((train, val, test),)
    labels = _sha256([[list(task) for task in classes], list(info.class_names)])
    sizes = _sha256([list(size) for size in images])
    return Contract(
        {
            "protocol": protocol,
            "data": f"{info.image_size[0]}x{info.image_size[1]} images {info.data}",
            "split": f"{info.rule}; sizes {sizes[:16]}",
            "order": order,
            "scenario": scenario,
            "labels": f"{len(info.class_names)} classes in {info.tasks} tasks {labels[:16]}",
            "preprocessing": f"{preprocessing}; {'may' if info.mirror else 'must not'} be mirrored",
            "backbone": backbone,
            "selection": selection,
            "inference": PER_SAMPLE,
        }
    )


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """The names of the parts that differ or that only one contract has, in the order of `PARTS`."""
    return [name for name in Contract({**a, **b}) if a.get(name) != b.get(name)]


def check_vary(vary: Sequence[str]) -> tuple[str, ...]:
    """Check that `vary` names at most one part; returns it. RequestError for more, or an unknown one."""
    for name in vary:
        if name not in PARTS:
            raise unknown("part of a contract", name, PARTS)
    if len(vary) > 1:
        raise RequestError(f"a table can vary one part, not {' and '.join(vary)}; choose one of them.")
    return tuple(vary)


def same_table(records: Sequence[Record], vary: Sequence[str] | None = None) -> Contract:
    """The contract that `records` share, without the varied part.

    vary: at most one part that may differ. RequestError names the first record that differs in anything
    else, and in what, and refuses an unknown part or more than one.
    """
    vary = check_vary(vary or ())
    if not records:
        raise RequestError("there are no records for a table; run a cell first.")
    first, *others = records
    for other in others:
        parts = [name for name in differences(first.contract, other.contract) if name not in vary]
        if parts:
            named = "; ".join(
                f"{name}: {first.contract.get(name, 'none')!r} against {other.contract.get(name, 'none')!r}"
                for name in parts
            )
            raise RequestError(
                f"{first.cell} and {other.cell} were measured under different contracts ({named}); "
                "put them into separate tables."
            )
    return Contract(first.contract).without(vary)


def _sha256(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()
