"""What is written is read back the same, and is JSON to others."""

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("dativo.native", reason="dativo.native is not built: uv sync")

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.native.tables import JSON_TEXTS, TEXT, tables

from dativo import native


def lines_of(table: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    native.write_jsonl(table, out, **options)
    return out.getvalue()


@given(tables(), st.sampled_from(["string", "number"]), st.integers(1, 4))
def test_every_table_comes_back(
    table: pa.Table, decimals: Literal["string", "number"], batch_rows: int
) -> None:
    lines = lines_of(table, decimals=decimals)
    assert lines.count(b"\n") == table.num_rows
    for line in lines.splitlines():
        assert list(json.loads(line)) == table.column_names
    read = pa.table(native.read_jsonl(lines, table.schema, batch_rows=batch_rows))
    assert read.schema.equals(table.schema, check_metadata=True)
    read.validate(full=True)
    assert read.equals(table)


@given(st.lists(st.none() | JSON_TEXTS, min_size=1, max_size=5))
def test_json_text_comes_back(texts: list[str | None]) -> None:
    schema = {"properties": {"any": {}, "list": {"type": "array"}}}
    kind = pa.schema(native.schema_of(schema))
    column = pa.array(texts, pa.string())
    table = pa.table([column.cast(kind.field(0).type)] * 2, schema=kind)
    lines = lines_of(table)
    for line, text in zip(lines.splitlines(), texts, strict=True):
        assert json.loads(line)["any"] == (None if text is None else json.loads(text))
    read = pa.table(native.read_jsonl(lines, schema))
    assert read.column("any").cast(pa.string()).to_pylist() == texts
    assert read.equals(table)


@given(st.lists(TEXT, max_size=5), st.text(min_size=1), st.sampled_from([None, "app"]))
def test_messages_come_back(texts: list[str], stream: str, namespace: str | None) -> None:
    table = pa.table({"text": pa.array(texts, pa.string())})
    if any(0xD800 <= ord(character) < 0xE000 for character in stream):
        return
    for dialect in ("singer", "airbyte"):
        place = {"stream": stream, "namespace": namespace if dialect == "airbyte" else None}
        lines = lines_of(table, dialect=dialect, **place)
        other = lines_of(table, dialect=dialect, stream=stream + "2")
        options: Any = {"dialect": dialect, **place}
        read = native.read_jsonl(other + lines + other, table.schema, **options)
        assert pa.table(read).equals(table)


def test_the_forms_of_values() -> None:
    table = pa.table(
        {
            "small": pa.array([Decimal("-0.05")], pa.decimal128(5, 2)),
            "whole": pa.array([Decimal("12300")], pa.decimal128(5, -2)),
            "wide": pa.array([Decimal("1" * 50)], pa.decimal256(60, 3)),
            "float32": pa.array([0.1], pa.float32()),
            "large": pa.array([1e300], pa.float64()),
            "most": pa.array([2**64 - 1], pa.uint64()),
            "date": pa.array([dt.date(1, 1, 1)], pa.date64()),
            "ns": pa.array([1], pa.timestamp("ns")),
            "ms": pa.array([-1], pa.timestamp("ms", "Asia/Tokyo")),
            "s": pa.array([0], pa.timestamp("s", "UTC")),
            "time": pa.array([86_399], pa.time32("s")),
            "bytes": pa.array([b"\xfb\xff"], pa.binary(2)),
            "text": pa.array(['"\\\n\x01é\u2028'], pa.large_string()),
            "view": pa.array(["a long text that is kept apart"], pa.string_view()),
            "word": pa.array(["b"]).dictionary_encode(),
            "pair": pa.array([[1, None]], pa.list_(pa.int8(), 2)),
            "none": pa.nulls(1),
        }
    )
    lines = lines_of(table, decimals="number").decode()
    assert lines == (
        r'{"small":-0.05,"whole":12300,"wide":' + "1" * 50 + '.000,"float32":0.1,"large":1e300,'
        r'"most":18446744073709551615,"date":"0001-01-01","ns":"1970-01-01T00:00:00.000000001",'
        r'"ms":"1969-12-31T23:59:59.999Z","s":"1970-01-01T00:00:00Z","time":"23:59:59","bytes":"+/8=",'
        '"text":"\\"\\\\\\n\\u0001é\u2028","view":"a long text that is kept apart","word":"b","pair":[1,null],"none":null}\n'
    )


def test_a_slice_is_a_table_too() -> None:
    table = pa.table({"n": list(range(10)), "l": [[n, n] for n in range(10)]}).slice(3, 4)
    written = [json.loads(line) for line in lines_of(table).splitlines()]
    assert written == table.to_pylist()
    batch = table.to_batches()[0]
    assert lines_of(batch) == lines_of(table)


@pytest.mark.parametrize(
    ("choice", "written"),
    [("null", "[null,null,null]"), ("token", "[NaN,Infinity,-Infinity]")],
)
def test_what_is_not_finite(choice: Literal["null", "token"], written: str) -> None:
    values = pa.array([[float("nan"), float("inf"), float("-inf")]], pa.list_(pa.float64()))
    table = pa.table({"n": values})
    assert lines_of(table, nonfinite=choice) == f'{{"n":{written}}}\n'.encode()
    with pytest.raises(native.EncodeError, match=r"column n\.0, row 0: JSON has no NaN") as caught:
        lines_of(table)
    error = caught.value
    assert (error.code, error.column, error.row) == ("encode.nonfinite", "n.0", 0)
    if choice == "token":
        read = pa.table(native.read_jsonl(lines_of(table, nonfinite=choice), table.schema))
        assert str(read.to_pylist()) == str(table.to_pylist())


@pytest.mark.parametrize(
    ("values", "column", "row", "said"),
    [
        (pa.array([None, 2**40], pa.timestamp("s")), "c", 1, "not a timestamp"),
        (pa.array([dt.date(1, 1, 1)]).cast(pa.int32()).view(pa.date32()), None, None, ""),
        (pa.array([-800_000], pa.int32()).view(pa.date32()), "c", 0, "not a date"),
        (pa.array([-1], pa.int64()).view(pa.time64("us")), "c", 0, "not a time"),
        (pa.array([dt.timedelta(1)]), "c", None, "Duration"),
        (pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64())), "c.key", None, "keys of JSON"),
        (pa.array(['{"a":', "1"]).cast(pa.json_()), "c", 0, "no JSON text"),
        (pa.array(["NaN"]).cast(pa.json_()), "c", 0, "no JSON text"),
    ],
)
def test_what_json_cannot_hold(
    values: pa.Array, column: str | None, row: int | None, said: str
) -> None:
    table = pa.table({"c": values})
    if column is None:
        lines_of(table)
        return
    with pytest.raises(native.EncodeError, match=said) as caught:
        lines_of(table)
    assert (caught.value.column, caught.value.row) == (column, row)


def test_a_line_end_in_json_text_does_not_end_a_line(tmp_path: Path) -> None:
    table = pa.table({"j": pa.array(['{\n"a":\r\n1}']).cast(pa.json_())})
    assert native.write_jsonl(table, tmp_path / "lines.jsonl") == 1
    assert (tmp_path / "lines.jsonl").read_bytes() == b'{"j":{ "a":  1}}\n'
