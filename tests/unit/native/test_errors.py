"""Every fault has its code, its place and its value; none ends the interpreter."""

from __future__ import annotations

import inspect
import json
import pickle
from typing import Any

import pytest

pytest.importorskip("dativo.native", reason="dativo.native is not built: uv sync")

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dativo import native
from dativo.kernel import limits

SCHEMA = {
    "properties": {
        "a": {"type": "integer"},
        "t": {"type": "string", "format": "date-time"},
        "s": {
            "type": "object",
            "properties": {"l": {"type": "array", "items": {"type": "boolean"}}},
        },
        "j": {},
    }
}
GOOD = b'{"a":1}\n'


@pytest.mark.parametrize(
    ("line", "code", "field", "value"),
    [
        (b'{"a":"x"}', "record.value", "a", '"x"'),
        (b'{"a":9223372036854775808}', "record.value", "a", "9223372036854775808"),
        (b'{"t":"2023-02-29T00:00:00Z"}', "record.value", "t", '"2023-02-29T00:00:00Z"'),
        (b'{"s":{"l":[true,null,0]}}', "record.value", "s.l.2", "0"),
        (b'{"j":NaN}', "record.value", "j", "NaN"),
        (b'{"a":1', "json.invalid", None, ""),
        (b'{"a":01}', "json.invalid", None, "1}"),
        (b'{"a":1} {"a":2}', "json.invalid", None, '{"a":2}'),
        (b'{"a":1}}', "json.invalid", None, "}"),
        (b'{"x":"\x01"}', "json.invalid", None, '\x01"}'),
        (b"[1]", "message.invalid", None, None),
        (b"text", "message.invalid", None, None),
        (b'{"x":"\xff"}', "framing.invalid_utf8", None, '\ufffd"}'),
        (b'{"x":' + b"[" * 64 + b"]" * 64 + b"}", "json.too_deep", None, "]" * 64 + "}"),
        (b'{"x":"' + b"y" * 1000 + b'"}', "framing.line_too_long", None, None),
    ],
)
def test_faults(line: bytes, code: str, field: str | None, value: str | None) -> None:
    reader = native.read_jsonl(GOOD + line + b"\n" + GOOD, SCHEMA, max_line_bytes=1000)
    with pytest.raises(native.DecodeError) as caught:
        reader.read_all()
    error = caught.value
    assert isinstance(error, ValueError)
    assert (error.code, error.line, error.byte, error.field) == (code, 2, len(GOOD), field)
    if value is not None:
        assert error.value == value
    assert str(error).startswith("line 2 (byte 8): ")
    same = pickle.loads(pickle.dumps(error))
    assert (str(same), same.code, same.value) == (str(error), error.code, error.value)

    # Whoever reads on is told again, in an Arrow stream by its text.
    with pytest.raises(native.DecodeError):
        next(reader)
    with pytest.raises(pa.ArrowInvalid) as arrow:
        pa.table(reader)
    assert str(error).replace("\0", "␀") in str(arrow.value)
    assert isinstance(reader.error, native.DecodeError) and str(reader.error) == str(error)


@pytest.mark.parametrize(
    ("line", "dialect", "code"),
    [
        (b'{"type":"RECORD","stream":"s","record":1}', "singer", "message.invalid"),
        (b'{"type":"RECORD","stream":"s","record":{"a":""}}', "singer", "record.value"),
        (b'{"type":"RECORD","stream":"other","record":{"a":01}}', "singer", "json.invalid"),
        (b'{"type":"BATCH","stream":"s"}', "singer", "message.batch"),
        (b'{"type":"STATE","value":null}', "singer", "state.empty"),
        (b'{"type":"RECORD","record":{"stream":"s","data":[]}}', "airbyte", "message.invalid"),
        (b'{"stream":"s"}', "airbyte", "message.invalid"),
    ],
)
def test_faults_of_messages(line: bytes, dialect: Any, code: str) -> None:
    with pytest.raises(native.DecodeError) as caught:
        native.read_jsonl(line + b"\n", SCHEMA, dialect=dialect, stream="s").read_all()
    assert (caught.value.code, caught.value.line) == (code, 1)


def test_half_a_line_is_no_message() -> None:
    line = b'{"type":"RECORD","stream":"s","record":{"a":1}}'
    with pytest.raises(native.DecodeError) as caught:
        native.read_jsonl(line + b"\n" + line, SCHEMA, dialect="singer", stream="s").read_all()
    assert (caught.value.code, caught.value.line) == ("framing.half_line", 2)
    # Of plain records the last one may lack its end.
    assert len(native.read_jsonl(b'\xef\xbb\xbf{"a":1}\r', SCHEMA).read_all()) == 1


def test_what_is_tolerated_is_counted_or_refused() -> None:
    text = b'\xef\xbb\xbf{"a":1}\r\n\n{"a":1,"a":2}\n{"x":NaN}\n'
    reader = native.read_jsonl(text, SCHEMA)
    assert pa.table(reader).column("a").to_pylist() == [1, 2, None]
    assert reader.oddities == {"bom": 1, "crlf": 1, "blank_line": 1, "duplicate_key": 1, "nan": 1}
    with pytest.raises(native.DecodeError) as caught:
        native.read_jsonl(text, SCHEMA, strict=True).read_all()
    assert caught.value.code == "framing.bom"


def test_a_null_where_none_may_be() -> None:
    schema = pa.schema([pa.field("a", pa.int64(), False)])
    for line in (b'{"a":null}', b"{}"):
        with pytest.raises(native.DecodeError) as caught:
            native.read_jsonl(line, schema).read_all()
        assert (caught.value.code, caught.value.field) == ("record.value", "a")


@pytest.mark.parametrize(
    ("schema", "code", "said"),
    [
        ({}, "schema.invalid", "no properties"),
        ({"properties": {"a": {"type": "what"}}}, "schema.invalid", "not a type"),
        ('{"properties":', "schema.invalid", "cannot be read"),
        (b"\xff", "schema.invalid", "UTF-8"),
        ({"properties": {"a": {"$ref": "http://x/y"}}}, "schema.invalid", "not followed"),
        ({"properties": {"a\0": {}}}, "schema.invalid", r"U\+0000"),
        ({"properties": {"a": {"type": "object", "properties": {"b\0": {"type": "string"}}}}}, "schema.invalid", "field a"),
        ({"properties": {str(n): {} for n in range(6)}}, "limit.columns", "5 columns"),
        (pa.schema([pa.field(str(n), pa.int64()) for n in range(6)]), "limit.columns", "5 columns"),
        (pa.schema([]), "schema.invalid", "no columns"),
        (pa.schema([("a", pa.int32())]), "schema.invalid", "Int32.*field a.*int64"),
        (pa.schema([("a", pa.int64()), ("a", pa.int64())]), "schema.invalid", "distinct"),
        (pa.schema([("a", pa.map_(pa.int64(), pa.int64()))]), "schema.invalid", "field a.key"),
        (pa.schema([("a", pa.list_(pa.field("x", pa.int64(), False)))]), "schema.invalid", "null"),
        (pa.schema([("a", pa.decimal128(5, -2))]), "schema.invalid", "Decimal128"),
    ],
)  # fmt: skip
def test_schemas_that_are_none(schema: Any, code: str, said: str) -> None:
    with pytest.raises(native.DecodeError, match=said) as caught:
        native.read_jsonl(b"", schema, max_columns=5)
    assert (caught.value.code, caught.value.line) == (code, None)


def test_types_are_nested_to_a_bound() -> None:
    kind = pa.int64()
    for _ in range(16):
        kind = pa.list_(kind)
    native.read_jsonl(b"", pa.schema([("a", kind)]))
    with pytest.raises(native.DecodeError, match="nested deeper"):
        native.read_jsonl(b"", pa.schema([("a", pa.list_(kind))]))
    with pytest.raises(native.DecodeError, match="nested deeper"):
        native.read_jsonl(b"", pa.schema([("a", pa.struct([("b", kind)]))]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dialect": "json", "stream": "s"}, "singer"),
        ({"dialect": "singer"}, "stream="),
        ({"stream": "s"}, "dialect"),
        ({"dialect": "singer", "stream": "s", "namespace": "n"}, "no namespaces"),
        ({"numbers": "strict"}, "double, decimal, text"),
    ],
)
def test_parameters_that_do_not_fit(options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        native.read_jsonl(b"", SCHEMA, **options)


def test_the_bounds_are_those_of_a_job() -> None:
    defaults = inspect.signature(native.read_jsonl).parameters
    for name in ("max_line_bytes", "max_depth", "max_columns"):
        assert defaults[name].default == getattr(limits, name.upper())
    deep = b'{"x":' + b"[" * (limits.MAX_DEPTH - 1) + b"]" * (limits.MAX_DEPTH - 1) + b"}"
    assert len(native.read_jsonl(deep, SCHEMA).read_all()) == 1
    properties: dict[str, dict[str, str]] = {str(n): {} for n in range(limits.MAX_COLUMNS + 1)}
    wide = {"properties": properties}
    with pytest.raises(native.DecodeError, match=f"{limits.MAX_COLUMNS} columns"):
        native.schema_of(wide)


JSONISH = st.text(
    st.sampled_from('{}[]",:0123456789.eE+-truefalsn ua\\\n\r"stj\u00e9\0'), max_size=60
)
LINES = st.lists(
    st.binary(max_size=40)
    | JSONISH.map(str.encode)
    | st.sampled_from([b'{"a":1,"t":"2024-01-01T00:00:00Z","s":{"l":[true]},"j":{"k":[1]}}', b'{"s":']),
    max_size=6,
)  # fmt: skip


@given(LINES, st.integers(1, 3), st.sampled_from([None, "singer", "airbyte"]), st.booleans())
def test_any_bytes_are_read_or_refused(
    lines: list[bytes], batch_rows: int, dialect: Any, strict: bool
) -> None:
    stream = None if dialect is None else "s"
    prefix = b'{"type":"RECORD","stream":"s","record":' if dialect == "singer" else b""
    prefix = b'{"type":"RECORD","record":{"stream":"s","data":' if dialect == "airbyte" else prefix
    text = b"\n".join(prefix + line for line in lines)
    reader = native.read_jsonl(
        text, SCHEMA, dialect=dialect, stream=stream, strict=strict, batch_rows=batch_rows
    )
    try:
        table = pa.table(reader.read_all())
    except native.DecodeError as error:
        assert error.code and (error.line or 0) <= text.count(b"\n") + 1
        assert error.value is None or len(error.value) <= 200
    else:
        table.validate(full=True)
        assert table.num_rows <= len(lines) + text.count(b"\n")


WORDS = ["type", "properties", "items", "anyOf", "$ref", "object", "array", "x"]
NODES = st.recursive(
    st.none() | st.text(max_size=5) | st.sampled_from(WORDS) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*WORDS, "additionalProperties"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(NODES)
def test_any_schema_is_read_or_refused(schema: Any) -> None:
    try:
        found = native.schema_of(json.dumps({"properties": {"a": schema}}))
    except native.DecodeError as error:
        assert error.code.startswith(("schema.", "limit."))
    else:
        assert found.names == ["a"]
        pa.schema(found)
