"""The order of classes as a coordinate of a cell: typed beside its seed, recorded, resumed, averaged over."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from tiny_cells import only_record, ready, stream_of, words

from benchmarks.errors import RequestError
from benchmarks.orders import hash_of
from carryover.commands.cli import cli
from carryover.metrics.kinds import metrics_of
from carryover.records.record import Record
from carryover.records.results import Results

DIGITS = "split-digits?scenario=class"


def recorded(root: Path) -> dict[tuple[str | None, int], Record]:
    records, broken = Results(root).all()
    assert broken == []
    return {record.draw: record for record in records}


def test_an_order_in_the_name_of_a_stream_and_one_beside_it_are_one_cell(pictures: Path) -> None:
    beside = ready("ncm", stream_of(pictures), order="7")
    inside = ready("ncm", stream_of(pictures, order="07"))
    assert (beside.cell, beside.key, beside.contract) == (inside.cell, inside.key, inside.contract)
    assert beside.cell.order == "7"
    assert "order" not in beside.cell.stream
    assert str(beside.cell).endswith(", tiny_vit, order 7, seed 0")
    plain = ready("ncm", stream_of(pictures))
    assert plain.cell.order == "1993"
    assert plain.cell.stream == beside.cell.stream
    assert plain.key != beside.key
    assert plain.contract == beside.contract  # so that both meet in one table


def test_the_rule_that_makes_orders_of_numbers_is_in_the_contract(pictures: Path) -> None:
    contracts = [ready("ncm", stream_of(pictures, rule=rule)).contract for rule in ("numpy", "python")]
    assert contracts[0] != contracts[1]
    assert contracts[1]["order"] == "random.seed(order), random.shuffle"
    assert contracts[1].without(["order"]) == contracts[0].without(["order"])


@pytest.mark.parametrize(
    ("stream", "order", "said"),
    [
        ("split-digits?order=7", "8", "split-digits?order=7 is asked for in the order 8 as well"),
        ("split-digits?scenario=domain", "8", "order=8 has no meaning in a domain stream"),
        ("embedded-transfer?only=digits", "8", "embedded-transfer has no order of classes to choose"),
        ("split-digits", "first", "order=first is no order"),
    ],
)
def test_an_order_that_means_nothing_is_refused(stream: str, order: str, said: str) -> None:
    with pytest.raises(RequestError) as error:
        ready("ncm", stream, order=order)
    assert said in str(error.value)


def test_a_given_list_is_told_by_its_hash_and_can_be_typed_again(
    measured: None, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "order.txt").write_text("5\n0\n4\n1\n3\n2\n")
    cell = ready("ncm", stream_of(pictures), order=f"@{tmp_path / 'order.txt'}")
    assert cell.cell.order == f"list-{hash_of([5, 0, 4, 1, 3, 2])}"
    again = ready("ncm", stream_of(pictures), order=cell.typed.order)
    assert (again.key, again.cell) == (cell.key, cell.cell)
    assert cli(words("ncm", stream_of(pictures), tmp_path / "r", "--order", "5+0+4+1+3+2", "--quiet")) == 0
    record = only_record(tmp_path / "r")
    assert record.order is not None
    assert (record.order.classes, record.order.rule) == ((5, 0, 4, 1, 3, 2), "a given list")
    assert record.cell.order == f"list-{record.order.hash}"


def test_a_record_without_an_order_is_read(pictures: Path, measured: None, tmp_path: Path) -> None:
    """As written before schema 1.4: the contract names the order, the cell does not."""
    assert cli(words("ncm", stream_of(pictures), tmp_path, "--quiet")) == 0
    (path,) = (tmp_path / "records").rglob("*.json")
    assert path.name.startswith("1993-0-")
    old = msgspec.json.decode(path.read_bytes())
    del old["cell"]["order"], old["order"]
    old["schema"], old["contract"]["order"] = "1.3", "numpy RandomState(1993) permutation"
    path.write_bytes(msgspec.json.encode(old))
    assert only_record(tmp_path).draw == ("1993", 0)


def test_a_plan_names_the_order_by_its_hash_and_what_is_left_for_the_last_task(
    measured: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = "split-digits?inc=4&scenario=class"
    assert cli(["plan", *words("ncm", stream, tmp_path, "--order", "0,natural")[1:]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{stream}: 3 tasks, 10 classes, ")
    sizes = "  note: 10 classes in 3 tasks: 2 of 4, then 1 of 2; accuracy_last counts each task alike, "
    assert [line for line in lines if line.startswith(sizes)] == [lines[2]], "once for both orders"
    first, second = hash_of([2, 8, 4, 9, 1, 6, 7, 3, 0, 5]), hash_of(range(10))
    assert lines[3] == f"  orders of classes (hash): 0 ({first}), natural ({second})"


def test_without_validation_images_a_cell_runs_and_a_search_is_refused(
    measured: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stream in ("split-digits?val=0&per_class=5", "split-digits?inc=4&shots=3&scenario=class"):
        asked = words("linear_probe", stream, tmp_path, "--quiet")
        assert cli(asked) == 0
        assert cli([*asked, "--selection", "search?candidates=2&epochs=3"]) == 2
        assert (
            "of the first 3 tasks have no validation images to choose options on" in capsys.readouterr().err
        )


def test_ncm_ends_alike_in_every_order_and_one_table_tells_orders_from_seeds(
    measured: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Class means know nothing of the order, once every class has come: each image counts the same."""
    asked = ["--order", "0,1,2", "--seed", "0,1", "--quiet"]
    assert cli(words("ncm", DIGITS, tmp_path, *asked)) == 0
    out = capsys.readouterr().out
    found = {draw: metrics_of(record) for draw, record in recorded(tmp_path).items()}
    assert set(found) == {(order, seed) for order in ("0", "1", "2") for seed in (0, 1)}
    for seed in (0, 1):
        assert len({found[order, seed]["accuracy_last_micro"] for order in ("0", "1", "2")}) == 1
        assert len({found[order, seed]["accuracy_incremental"] for order in ("0", "1", "2")}) == 3
        # Tasks have other classes, and unequal numbers of images: each task counts the same here.
        assert len({found[order, seed]["accuracy_last"] for order in ("0", "1", "2")}) > 1
    assert " · 3 orders (0, 1, 2) · " in " ".join(out.split("\n")[:4])
    assert re.search(r"ncm \* +3 +2 +\d+\.\d+±", out)
