"""The results store: nothing lost, nothing mixed up, and whatever is broken named."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import CONTRACT, made

import carryover.records.results
from benchmarks.errors import RequestError
from carryover.records.record import encode
from carryover.records.results import Results, current, failures, slug


@pytest.fixture
def results(tmp_path):
    (tmp_path / "reference").mkdir()
    return Results(tmp_path / "mine", tmp_path / "reference")


def reference_of(results):
    """The reference folder as a maintainer fills it."""
    return Results(results.reference)


def test_a_record_lies_where_the_layout_says(results):
    record = made("meat", 2)
    path = results.write(record)
    assert (
        path.relative_to(results.root).as_posix()
        == f"records/split-cifar100/vit/meat/2-{record.key[:8]}.json"
    )
    assert results.all() == ([record], [])
    assert not [name for name in os.listdir(path.parent) if name.startswith(".")]


def test_an_order_is_a_part_of_the_place(results):
    records = [made("meat", 2, order=order) for order in ("1993", "natural", "list-0b019832a2a9", None)]
    assert [results.write(record).name for record in records] == [
        f"{order}2-{record.key[:8]}.json"
        for order, record in zip(("1993-", "natural-", "list-0b019832a2a9-", ""), records, strict=True)
    ]
    assert [results.find(record.cell) for record in records] == [[record] for record in records]


def test_predictions_come_back_and_hold_no_pickle(results):
    classes = {(1, 0): np.arange(5), (2, 1): np.array([7, 7])}
    path = results.write(made(), classes)
    found = results.predictions(made())
    assert {place: ids.tolist() for place, ids in found.items()} == {(1, 0): [0, 1, 2, 3, 4], (2, 1): [7, 7]}
    np.load(path.with_suffix(".predictions.npz"), allow_pickle=False)
    assert results.predictions(made("ncm")) is None


def test_find_gives_the_records_of_that_cell_only_newest_first(results):
    old, new = made(minute=1), made(minute=2)
    for record in (new, old, made(seed=1), made(options={"lr": 0.1})):
        results.write(record)
    assert results.find(new.cell) == [new, old]


@settings(deadline=None)
@given(st.text(min_size=1, max_size=120), st.text(min_size=1, max_size=120))
def test_slugs_are_single_folder_names_and_never_shared(one, other):
    for name in (one, other):
        assert "/" not in slug(name)
        assert slug(name) not in (".", "..", "")
        assert len(slug(name).encode()) < 100
        assert slug(slug(name)) == slug(name) or "~" in slug(name)
    assert (slug(one) == slug(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("vit_tiny_patch16_224.augreg_in21k", "vit_tiny_patch16_224.augreg_in21k"),
        ("split-cifar100?per_class=50", "split-cifar100-per_class=50~"),
        ("../../etc", "etc~"),
        ("Split", "split~"),
        ("x" * 200, "x" * 80 + "~"),
        ("a~00000000", "a-00000000~"),
    ],
)
def test_slugs_stay_readable(name, readable):
    assert slug(name) == readable or (readable.endswith("~") and slug(name).startswith(readable))


def test_my_record_wins_over_the_reference_and_leaves_it_alone(results):
    theirs, mine = made(key="a" * 64, notes=("theirs",)), made(key="a" * 64, notes=("mine",))
    path = reference_of(results).write(theirs)
    before = path.read_bytes()
    results.write(mine)
    assert results.all()[0] == [mine]
    assert path.read_bytes() == before


def test_reference_records_stand_beside_mine(results):
    reference_of(results).write(made("ncm"))
    results.write(made("meat"))
    assert {record.cell.method for record in results.all()[0]} == {"ncm", "meat"}


def test_the_reference_is_never_the_place_to_write(results):
    for root in (results.reference, results.reference / "deeper"):
        with pytest.raises(RequestError, match="committed reference"):
            Results(root, results.reference).check_writable()


def test_broken_files_are_named_with_a_reason_and_the_rest_is_shown(results):
    good = made()
    folder = results.write(good).parent
    (folder / "1-aaaaaaaa.json").write_bytes(encode(good)[:-40])
    (folder / "2-bbbbbbbb.json").write_text(json.dumps({"schema": "2.0", "who": "knows"}))
    (folder / "3-cccccccc.json").write_text('{"schema": "1.0"}')
    (folder / "4-dddddddd.json").mkdir()
    records, broken = results.all()
    assert records == [good]
    assert [file.path.name[0] for file in broken] == ["1", "2", "3", "4"]
    for file, said in zip(broken, ["JSON is broken", "schema 2.0", "not a record", "directory"], strict=True):
        assert said in file.reason
    assert len(list(folder.iterdir())) == 5


def test_a_broken_file_is_kept_when_its_cell_is_run_again(results):
    path = results.write(made())
    path.write_bytes(b"{")
    results.write(made())
    assert results.all() == ([made()], [])
    assert path.with_name(f"{path.name}.broken").read_bytes() == b"{"


def test_a_failure_never_replaces_a_success_of_the_same_key_but_is_kept(results):
    good, bad = made(key="a" * 64), made(key="a" * 64, status="failed", minute=5)
    results.write(good)
    results.write(bad)
    records, _ = results.all()
    assert current(records) == [good]
    assert failures(records) == [bad]


def test_a_success_replaces_the_failure_before_it(results):
    results.write(made(key="a" * 64, status="failed"))
    results.write(made(key="a" * 64, minute=5))
    records, _ = results.all()
    assert [record.status for record in records] == ["ok"]
    assert failures(records) == []


def test_the_newest_success_of_a_cell_counts_under_each_contract():
    old, new, failed = made(minute=1), made(minute=2), made(minute=3, status="failed")
    elsewhere = made(minute=0, contract=CONTRACT | {"order": "another"})
    assert current([new, failed, elsewhere, old]) == [elsewhere, new]
    assert failures([old, failed, new]) == [failed]
    assert failures([old, failed, made(minute=4)]) == []


def test_a_higher_rank_counts_before_a_newer_record():
    old, new = made(minute=1), made(minute=2)
    assert current([old, new], rank=lambda record: record == old) == [old]


def test_half_written_files_are_no_records(results):
    path = results.write(made())
    path.with_name(f".{path.name}.x1y2").write_bytes(b"{")
    assert results.all()[1] == []


def test_an_empty_or_missing_folder_holds_no_records(results):
    assert results.all() == ([], [])


def test_a_folder_that_cannot_be_written_is_refused_before_and_while_writing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RequestError, match=r"cannot be written .*--results DIR"):
            Results(root).check_writable()

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(carryover.records.results, "write_atomic", full)
    with pytest.raises(RequestError, match="No space left on device"):
        Results(tmp_path).write(made())


def test_a_read_only_file_system_is_refused(tmp_path, monkeypatch):
    def read_only(**where):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(carryover.records.results.tempfile, "TemporaryFile", read_only)
    with pytest.raises(RequestError, match="Read-only file system"):
        Results(tmp_path).check_writable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RequestError, match="Permission denied"):
        Results(tmp_path / "new").check_writable()


def test_a_folder_without_room_is_refused_and_one_with_room_left_clean(tmp_path):
    with pytest.raises(RequestError, match="MiB free"):
        Results(tmp_path).check_writable(needed_bytes=2**60)
    Results(tmp_path / "new").check_writable()
    assert list((tmp_path / "new").iterdir()) == []


def test_the_environment_moves_the_store_and_an_argument_moves_it_further(tmp_path, monkeypatch):
    monkeypatch.setenv("CARRYOVER_RESULTS", str(tmp_path / "env"))
    assert Results.default().root == tmp_path / "env"
    assert Results.default(tmp_path / "typed").root == tmp_path / "typed"
    monkeypatch.delenv("CARRYOVER_RESULTS")
    assert Results.default().root.name == "results"


def test_the_lock_outlives_the_journal(results):
    assert results.journal("k" * 64) not in results.lock("k" * 64).parents
