"""How long a cell may take, told from the records of earlier ones."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stream import StreamInfo
from carryover.cells.ready import ReadyCell
from carryover.metrics.kinds import kind_of, protocol_of
from carryover.records.record import SEARCH, Record


def seconds(cell: ReadyCell, records: Sequence[Record], chosen: bool) -> float | None:
    """From the record most like the cell; None where none has its method, backbone, protocol and rule.

    chosen: whether the cell's options are chosen already, so that no candidate need be tried. What a record
    says is scaled by how much there is to learn and to score, as the protocol counts it (`Kind.work`).
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
    """By which options were searched; "" where they were not."""
    said = record.contract.get("selection", "")
    return said.partition(";")[0] if said.startswith(SEARCH) else ""


def _ratios(record: Record, info: StreamInfo) -> tuple[float, float]:
    """How much more there is to learn, and to score, than what was recorded."""
    kind = kind_of(info.protocol)
    (learnt, scored), (to_learn, to_score) = kind.worked(record), kind.work(info)
    return to_learn / max(learnt, 1), to_score / max(scored, 1)
