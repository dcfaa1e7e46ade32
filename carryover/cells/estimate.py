"""Estimates how long a cell takes, from the records of earlier cells."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stream import StreamInfo
from carryover.cells.ready import ReadyCell
from carryover.metrics.kinds import kind_of, protocol_of
from carryover.records.record import SEARCH, Record


def seconds(cell: ReadyCell, records: Sequence[Record], chosen: bool) -> float | None:
    """The expected seconds, from the most similar record; None without one of this method, backbone,
    protocol and rule.

    chosen: whether the options are chosen already, so that no candidate is tried. The time of the record is
    scaled by how much there is to learn and to score, as the protocol counts it (`Kind.work`).
    """
    info, wanted = cell.stream.info, cell.cell
    rule = "" if cell.rule is None else cell.rule.describe()
    alike = [
        record
        for record in records
        if record.status == "ok"
        and record.rows
        and (record.cell.method, record.cell.backbone) == (wanted.method, wanted.backbone)
        and protocol_of(record.contract) == info.protocol
        and _rule(record) == rule
    ]
    if not alike:
        return None
    nearest = max(
        alike,
        key=lambda record: (
            record.cell.stream == wanted.stream,
            record.cell.options == wanted.options,
            record.ended,
        ),
    )
    cost, tried = nearest.cost, sum(candidate.passes for candidate in nearest.selection.candidates)
    train = cost.train_s * (1 + (0 if chosen else tried / (cost.passes or 1)))
    learnt, scored = _ratios(nearest, info)
    return cost.prepare_s + train * learnt + cost.eval_s * scored


def _rule(record: Record) -> str:
    """The rule that chose the options; "" if they were not searched."""
    said = record.contract.get("selection", "")
    return said.partition(";")[0] if said.startswith(SEARCH) else ""


def _ratios(record: Record, info: StreamInfo) -> tuple[float, float]:
    """(to learn, to score) on the stream, relative to the record."""
    kind = kind_of(info.protocol)
    (learnt, scored), (to_learn, to_score) = kind.worked(record), kind.work(info)
    return to_learn / max(learnt, 1), to_score / max(scored, 1)
