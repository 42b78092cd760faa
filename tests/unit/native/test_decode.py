"""Decoding equals an independent reading: the standard library's json with Decimal."""

from __future__ import annotations

import base64
import datetime as dt
import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

pytest.importorskip("dativo.native", reason="dativo.native is not built: uv sync")

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.native.tables import DOUBLES, JSON_TEXTS, LONGS, TEXT, decimals

from dativo import native

NUMBERS = LONGS.map(str) | DOUBLES.map(repr) | decimals(20, 6).map(str)
INTEGERS = (
    LONGS.map(str)
    | st.integers(-(10**6), 10**6).map(lambda n: f"{n}.0")
    | LONGS.filter(lambda n: n % 10 == 0).map(lambda n: f"{n // 10}e1")
)
STAMPS = st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29))
ZONES = st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))

# A JSON Schema, texts of values, and what the text means by the standard library.
KINDS: dict[str, tuple[dict[str, Any], st.SearchStrategy[str], Any]] = {
    "boolean": ({"type": "boolean"}, st.sampled_from(["true", "false"]), json.loads),
    "long": ({"type": ["null", "integer"]}, INTEGERS, lambda text: int(Decimal(text))),
    "double": ({"type": "number"}, NUMBERS, float),
    "decimal": (
        {"type": "string", "format": "singer.decimal", "precision": 38, "scale": 9},
        decimals(29, 9).map(str) | decimals(29, 9).map(lambda d: f'"{d}"'),
        lambda text: Decimal(text.strip('"')),
    ),
    "big": (
        {"type": "integer", "airbyte_type": "big_integer"},
        st.integers(1 - 10**38, 10**38 - 1).map(str),
        Decimal,
    ),
    "date": (
        {"type": "string", "format": "date"},
        st.dates().map(lambda day: f'"{day.isoformat()}"'),
        lambda text: dt.date.fromisoformat(json.loads(text)),
    ),
    "time": (
        {"type": "string", "format": "time"},
        st.times().map(lambda at: f'"{at.isoformat()}"'),
        lambda text: dt.time.fromisoformat(json.loads(text)),
    ),
    "timestamptz": (
        {"type": "string", "format": "date-time"},
        st.builds(lambda at, zone: f'"{at.replace(tzinfo=zone).isoformat()}"', STAMPS, ZONES),
        lambda text: dt.datetime.fromisoformat(json.loads(text)).astimezone(dt.UTC),
    ),
    "timestamp": (
        {"type": "string", "airbyte_type": "timestamp_without_timezone"},
        st.datetimes().map(lambda at: f'"{at.isoformat(sep=" ")}"'),
        lambda text: dt.datetime.fromisoformat(json.loads(text)),
    ),
    "string": (
        {"anyOf": [{"type": "null"}, {"type": "string"}]},
        st.builds(lambda text, plain: json.dumps(text, ensure_ascii=plain), TEXT, st.booleans()),
        json.loads,
    ),
    "binary": (
        {"type": "string", "contentEncoding": "base64"},
        st.binary(max_size=12).map(lambda raw: f'"{base64.b64encode(raw).decode()}"'),
        lambda text: base64.b64decode(json.loads(text)),
    ),
    "json": ({}, JSON_TEXTS, str),
}
SCHEMA = {
    "properties": {
        **{name: schema for name, (schema, _, _) in KINDS.items()},
        "nested": {
            "type": "object",
            "properties": {name: schema for name, (schema, _, _) in KINDS.items()},
        },
        "list": {"type": "array", "items": KINDS["long"][0]},
        "map": {"type": "object", "additionalProperties": KINDS["double"][0]},
    }
}
SPACE = st.sampled_from(["", "", "", " ", "\t", "  "])


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """The text of an object with some of the properties, in any order, and its values."""
    names = draw(st.permutations([*KINDS, "other"]))[: draw(st.integers(0, len(KINDS)))]
    parts, values = [], dict.fromkeys(KINDS)
    for name in names:
        if name == "other":
            text = draw(JSON_TEXTS)
        elif draw(st.integers(0, 4)) == 0:
            text = "null"
        else:
            _, texts, meaning = KINDS[name]
            text = draw(texts)
            values[name] = meaning(text)
        space = [draw(SPACE) for _ in range(4)]
        parts.append(f'{space[0]}"{name}"{space[1]}:{space[2]}{text}{space[3]}')
    return "{" + ",".join(parts) + "}", values


@st.composite
def records(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    text, values = draw(objects())
    inner, nested = draw(st.none() | objects()) or ("null", None)
    numbers = draw(st.lists(st.none() | INTEGERS, max_size=3))
    entries = draw(st.dictionaries(TEXT, st.none() | NUMBERS, max_size=3))
    elements = ", ".join("null" if n is None else n for n in numbers)
    members = ",".join(f"{json.dumps(k)}:{v or 'null'}" for k, v in entries.items())
    comma = "" if text == "{}" else ","
    text = f'{text[:-1]}{comma}"nested":{inner},"list":[{elements}],"map":{{{members}}}}}'
    return text, {
        **values,
        "nested": nested,
        "list": [None if n is None else int(Decimal(n)) for n in numbers],
        "map": [(k, None if v is None else float(v)) for k, v in entries.items()],
    }


@given(st.lists(records(), max_size=3), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_decode_means_what_json_means(
    drawn: list[tuple[str, dict[str, Any]]], end: str, ended: bool
) -> None:
    text = "".join(line + end for line, _ in drawn)
    source = text if ended or not drawn else text.removesuffix(end)
    reader = native.read_jsonl(source.encode(), SCHEMA)
    table = pa.table(reader)
    table.validate(full=True)
    assert table.to_pylist() == [values for _, values in drawn]


@given(st.lists(NUMBERS, min_size=1, max_size=5))
@example(["1e400", "0.1"])
def test_numbers_are_what_is_asked_for(texts: list[str]) -> None:
    schema = {"properties": {"n": {"type": "number"}}}
    lines = "".join(f'{{"n":{text}}}\n' for text in texts).encode()
    assert pa.table(native.read_jsonl(lines, schema, numbers="text"))[0].to_pylist() == texts
    exact = native.read_jsonl(lines, schema, numbers="decimal")
    held = [abs(Decimal(t)) < 10**29 and Fraction(t) * 10**9 % 1 == 0 for t in texts]
    if all(held):
        assert pa.table(exact)[0].to_pylist() == [Decimal(text) for text in texts]
    else:
        with pytest.raises(native.DecodeError) as caught:
            exact.read_all()
        assert (caught.value.code, caught.value.line) == ("record.value", held.index(False) + 1)


def test_the_schema_is_text_bytes_a_mapping_or_arrows() -> None:
    schema = {"properties": {"a": {"type": "integer"}, "é": {"type": "array", "items": {}}}}
    found = native.schema_of(schema)
    assert found.names == ["a", "é"]
    expected = pa.schema(found)
    assert expected.field("a").type == pa.int64()
    for same in (json.dumps(schema), json.dumps(schema).encode(), expected, found):
        assert pa.schema(native.schema_of(same)).equals(expected, check_metadata=True)
