"""Records: what is written can be read, by this version and by others; what is broken says so."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made_records import COST, made
from msgspec.structs import replace

import carryover.records.record
from carryover.records.record import Cell, decode, encode, json_schema
from carryover.records.row import Row, pack_hits, unpack_hits

PUBLISHED = Path(carryover.records.record.__file__).with_name("record.schema.json")

hits = arrays.arrays(bool, st.integers(0, 70))
options = st.dictionaries(
    st.text(max_size=8),
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.lists(st.integers(-9, 9) | st.text(max_size=3), max_size=3),
    max_size=4,
)


def changed(record, **fields):
    """The record's JSON with some fields put in by hand."""
    return json.dumps(json.loads(encode(record)) | fields).encode()


@settings(deadline=None)
@given(hits)
def test_hits_come_back_as_they_were_packed(hits):
    assert np.array_equal(unpack_hits(pack_hits(hits), len(hits)), hits)


def test_the_packing_is_the_documented_one():
    assert pack_hits(np.array([True] + [False] * 8 + [True])) == "gEA="  # 0b10000000, 0b01000000


@settings(deadline=None)
@given(options, hits)
def test_a_record_survives_writing_and_reading(options, hits):
    record = made(options=options, rows=(Row.scored(0, 0, hits), Row(step=1, task=0, n=3)))
    data = encode(record)
    assert decode(data) == record
    assert encode(decode(data)) == data


def test_equal_records_have_equal_bytes_whatever_the_order_of_their_options():
    assert encode(made(options={"a": 1, "b": 2}, key="0" * 64)) == encode(
        made(options={"b": 2, "a": 1}, key="0" * 64)
    )


def test_rows_stand_one_to_a_line():
    lines = encode(made(tasks=3)).decode().splitlines()
    assert sum('"step"' in line for line in lines) == 12


def test_the_published_schema_is_in_step():
    assert PUBLISHED.read_bytes() == json_schema(), (
        "write it anew: python -c 'import sys, carryover.records.record as r; "
        "sys.stdout.buffer.write(r.json_schema())' > carryover/records/record.schema.json"
    )


@pytest.mark.parametrize("status", ["ok", "failed", "skipped", "timeout"])
def test_a_record_fits_the_published_schema(status):
    schema = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(encode(made(status=status, options={"lr": [1, None]}))), schema)


@pytest.mark.parametrize("wrong", [{"status": "done"}, {"key": "short"}, {"rows": [{"step": -1}]}])
def test_the_published_schema_and_the_reader_refuse_the_same(wrong):
    data = changed(made(), **wrong)
    with pytest.raises(ValueError, match="not a record"):
        decode(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(data), json.loads(PUBLISHED.read_text()))


def test_a_newer_minor_version_with_more_fields_is_read():
    record = made()
    assert decode(changed(record, schema="1.9", carbon={"grams": 3})) == replace(record, schema="1.9")


@pytest.mark.parametrize("schema", ["2.0", "0.9", "10.0"])
def test_another_major_version_is_refused_by_name(schema):
    with pytest.raises(ValueError, match=f"schema {schema}.*reads 1.x"):
        decode(changed(made(), schema=schema, cell="something else altogether"))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, encode(made())[:-20], encode(made()) + b"}"]
)
def test_broken_json_is_refused_with_a_reason(data):
    with pytest.raises(ValueError, match=r"JSON is broken|not a record"):
        decode(data)


@pytest.mark.parametrize(
    "row",
    [
        {"step": 0, "task": 0, "n": 3, "correct": 4},
        {"step": 0, "task": 0, "n": 9, "correct": 1, "hits": pack_hits(np.array([True]))},
        {"step": 0, "task": 0, "n": 1, "correct": 0, "hits": pack_hits(np.array([True]))},
        {"step": 0, "task": 0, "n": 1, "hits": pack_hits(np.array([True]))},
    ],
)
def test_rows_that_contradict_themselves_are_no_rows(row):
    with pytest.raises(ValueError, match=r"step 0, task 0|do not hold"):
        Row(**row)
    with pytest.raises(ValueError, match="not a record"):
        decode(changed(made(), rows=[row]))


def test_a_metric_is_never_nan():
    with pytest.raises(ValueError, match="leave out"):
        made(metrics={"accuracy_last": float("nan")})


def test_time_and_place_do_not_enter_the_outcome_and_rows_do():
    one = made(key="0" * 64)
    other = made(key="0" * 64, minute=7, notes=("slow",), cost=replace(COST, train_s=1.0, peak_mb=3.0))
    assert one.outcome() == other.outcome()
    assert one.outcome() != replace(one, rows=one.rows[:-1]).outcome()
    assert one.outcome() != replace(one, cost=replace(COST, exemplars=1)).outcome()


def test_a_cell_reads_as_it_is_typed():
    cell = Cell(method="meat", stream="s", backbone="b", seed=3, options={"lr": 0.1, "on": True, "x": [1, 2]})
    assert str(cell) == "meat lr=0.1 on=true x=1,2 on s, b, seed 3"
