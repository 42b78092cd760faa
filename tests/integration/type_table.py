"""Every type: its JSON Schema, values as a source writes them, and what Python reads in them.

``Column.values`` pairs the JSON text that is sent with the value that must come back. The expected side is made with int,
Decimal, float, datetime and base64 alone; nothing of ours takes part.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

Node = dict[str, Any]

MAX_LONG, MIN_LONG = 2**63 - 1, -(2**63)
MAX_DIGITS = 10**38 - 1
DECIMAL, BIG_INTEGER, TIMESTAMPTZ = "DECIMAL(38,9)", "DECIMAL(38,0)", "TIMESTAMP WITH TIME ZONE"


@dataclass(frozen=True, slots=True)
class Column:
    """One property. ``engine_type`` is what DuckDB calls its type; ``bad`` holds JSON texts that are no value of it."""

    name: str
    node: Node
    engine_type: str
    values: tuple[tuple[str, object], ...]
    bad: tuple[str, ...]


def read(parse: Callable[[str], object], *texts: str) -> tuple[tuple[str, object], ...]:
    """Pair JSON numbers, or other bare texts, with what ``parse`` makes of them."""
    return tuple((text, parse(text)) for text in texts)


def quoted(parse: Callable[[str], object], *texts: str) -> tuple[tuple[str, object], ...]:
    """Pair JSON strings with what ``parse`` makes of their text."""
    return tuple((json.dumps(text), parse(text)) for text in texts)


def at(
    hours: float, year: int, month: int, day: int, hour: int = 0, minute: int = 0, us: int = 0
) -> datetime:
    """Return a moment as a clock ``hours`` east of UTC shows it."""
    zone = timezone(timedelta(hours=hours))
    return datetime(year, month, day, hour, minute, tzinfo=zone) + timedelta(microseconds=us)


def json_text(*texts: str) -> tuple[tuple[str, object], ...]:
    """Pair texts with themselves: a JSON column keeps key order, spaces and the text of numbers."""
    return read(str, *texts)


STRINGS = (
    *quoted(
        str,
        "",
        "plain",
        "null",
        'quo"te \\ back / slash',
        "tab\t line\n nul\0 end\x7f",
        "é漢字 🎉👩‍👩‍👧 \u2028\ufeff",
        "x" * 70_000,
    ),
    ('"漢字 🎉"', "漢字 🎉"),
    (r'"\ud83c\udf89\u0000\/\u00e9"', "🎉\0/é"),
)

MOMENTS = (
    ('"1970-01-01T00:00:00Z"', at(0, 1970, 1, 1)),
    ('"2024-02-29T23:59:59.999999Z"', at(0, 2024, 2, 29, 23, 59, 59_999_999)),
    ('"2024-02-29T12:00:00+14:00"', at(14, 2024, 2, 29, 12)),
    ('"2024-02-29T12:00:00-14:00"', at(-14, 2024, 2, 29, 12)),
    ('"2024-03-01T05:15:00.5+05:45"', at(5.75, 2024, 3, 1, 5, 15, 500_000)),
    ('"2024-03-01T05:15:00-0330"', at(-3.5, 2024, 3, 1, 5, 15)),
    ('"2024-03-01T05:15:00-00:00"', at(0, 2024, 3, 1, 5, 15)),
    ('"2024-03-01 05:15:00+02"', at(2, 2024, 3, 1, 5, 15)),
    ('"2024-03-01t05:15:00z"', at(0, 2024, 3, 1, 5, 15)),
    # Without an offset UTC is meant.
    ('"2024-03-01T05:15:00"', at(0, 2024, 3, 1, 5, 15)),
    # Finer digits are cut off, before 1970 too.
    ('"2024-03-01T05:15:00.123456999Z"', at(0, 2024, 3, 1, 5, 15, 123_456)),
    ('"2024-03-01T05:15:00.0000009Z"', at(0, 2024, 3, 1, 5, 15)),
    ('"1969-12-31T23:59:59.9999999Z"', at(0, 1969, 12, 31, 23, 59, 59_999_999)),
    ('"0001-01-01T00:00:00Z"', at(0, 1, 1, 1)),
    ('"0001-01-01T00:00:00-14:00"', at(0, 1, 1, 1, 14)),
    ('"9999-12-31T23:59:59.999999Z"', at(0, 9999, 12, 31, 23, 59, 59_999_999)),
    ('"9999-12-31T23:59:59.999999+14:00"', at(0, 9999, 12, 31, 9, 59, 59_999_999)),
    (r'"2024-03-01T05\u003a15:00Z"', at(0, 2024, 3, 1, 5, 15)),
)
LOCAL_MOMENTS = quoted(
    datetime.fromisoformat,
    "1970-01-01T00:00:00",
    "2024-02-29 23:59:59.999999",
    "2024-03-01T05:15:00.123456999",
    "1969-12-31T23:59:59.9999999",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59.999999",
)
TIMES = quoted(
    time.fromisoformat, "00:00:00", "23:59:59.999999", "12:34:56.5", "01:02:03.123456999"
)
DATES = quoted(
    date.fromisoformat, "1970-01-01", "2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"
)
LONGS = (
    *read(int, "0", "-0", "7", str(MAX_LONG), str(MIN_LONG), "999999999999999999"),
    ("7.0", 7),
    ("7e3", 7000),
    ("-7.50e1", -75),
)
WIDE_INTEGERS = (
    *read(Decimal, "0", "-1", "1e37", str(2**63), str(2**64), str(MAX_DIGITS), str(-MAX_DIGITS)),
    *quoted(Decimal, str(MAX_DIGITS), "12"),
)
DOUBLES = read(
    float,
    "0",
    "-0.0",
    "0.1",
    "-2.5",
    "1e308",
    "-1.7976931348623157e308",
    "5e-324",
    "1e-400",
    "9007199254740993",
    "123456789012345678901234567890",
    "3.141592653589793238462643",
    "1E+2",
    "NaN",
    "Infinity",
    "-Infinity",
)
# 29 digits before the point and 9 behind it.
DECIMAL_TEXTS = (
    "0", "-0.000", "0.1", "-12345.678901234", "12345678901234567890123456789.123456789",
    "-99999999999999999999999999999.999999999", "0.000000001", "1.5E+3", "1.50000000000000000", "007.5",
)  # fmt: skip
DECIMALS = quoted(Decimal, *DECIMAL_TEXTS) + read(Decimal, "1.1", "-0", "2.5e-3")
BLOBS = tuple(
    (json.dumps(base64.b64encode(data).decode()), data)
    for data in (b"", b"\0", b"ab", b"abc", bytes(range(256)), "漢".encode())
)
UUIDS = quoted(
    str, "123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-000000000000", "no uuid"
)
WORDS = ("alpha", "")
NULL: Node = {"type": "null"}
TEXTS: Node = {"type": "array", "items": {"type": "string"}}
WELL_KNOWN = "WellKnownTypes.json#/definitions/"


def with_format(name: str, **more: object) -> Node:
    """Return the node of a string of a format."""
    return {"type": ["null", "string"], "format": name, **more}


def airbyte(kind: str, name: str, **more: object) -> Node:
    """Return a node of an ``airbyte_type``."""
    return {"type": ["null", kind], "airbyte_type": name, **more}


# fmt: off
COLUMNS = (
    Column("bool", {"type": "boolean"}, "BOOLEAN", (("true", True), ("false", False)), ('"true"', "1")),
    Column("bool_null", {"type": ["boolean", "null"]}, "BOOLEAN", (("true", True), ("null", None)), ("[]",)),
    Column("int", {"type": "integer"}, "BIGINT", LONGS, (str(MAX_LONG + 1), "1.5", '"12"')),
    Column("int_null_first", {"type": ["null", "integer"]}, "BIGINT", LONGS, (str(MIN_LONG - 1),)),
    Column("int_any_of", {"anyOf": [{"type": "integer"}, NULL]}, "BIGINT", LONGS, ("true",)),
    Column("int_of_number", airbyte("number", "integer"), "BIGINT", LONGS, ("0.1",)),
    Column("int_bounded", {"type": "integer", "maximum": MAX_LONG}, "BIGINT", LONGS, ("1e19",)),
    Column("wide_by_maximum", {"type": "integer", "maximum": 2**64 - 1}, BIG_INTEGER, WIDE_INTEGERS, ("1.5",)),
    Column("wide_by_minimum", {"type": "integer", "minimum": -10**30}, BIG_INTEGER, WIDE_INTEGERS, (str(10**38),)),
    Column("big_integer", airbyte("integer", "big_integer"), BIG_INTEGER, WIDE_INTEGERS, (str(-10**38),)),
    Column("big_integer_text", airbyte("string", "big_integer"), BIG_INTEGER, WIDE_INTEGERS, ('"1.5"', '"NaN"')),
    Column("number", {"type": "number"}, "DOUBLE", DOUBLES, ("1e400", '"1.5"', '"NaN"')),
    Column("number_null", {"type": ["number", "null"]}, "DOUBLE", DOUBLES, ("{}",)),
    Column("number_one_of", {"oneOf": [NULL, {"type": "number"}]}, "DOUBLE", DOUBLES, ("-1e400",)),
    Column("number_or_integer", {"type": ["integer", "number"]}, "DOUBLE", DOUBLES, ("false",)),
    Column("cents", {"type": "number", "multipleOf": 0.01}, "DECIMAL(38,2)",
           read(Decimal, "0", "-0.01", "1.10", "1e2", "0.1", "9" * 36 + ".99", "-" + "9" * 36 + ".99"),
           ("0.005", "1" + "0" * 36)),
    Column("nanos", {"type": ["null", "number"], "multipleOf": 1e-09}, DECIMAL, DECIMALS, ("0.0000000001",)),
    Column("whole", {"type": "number", "multipleOf": 1}, BIG_INTEGER, WIDE_INTEGERS, ("0.5",)),
    Column("no_power_of_ten", {"type": "number", "multipleOf": 0.05}, "DOUBLE", DOUBLES, ('"x"',)),
    Column("singer_decimal", with_format("singer.decimal"), DECIMAL, DECIMALS, ('"12,5"', '""', '"Infinity"')),
    Column("x_singer_decimal", with_format("x-singer.decimal", precision=10, scale=3), "DECIMAL(10,3)",
           quoted(Decimal, "0", "9999999.999", "-9999999.999", "1E+2", "0.5"), ('"10000000"', '"0.0001"')),
    # Nine digits and fewer are stored in 32 bits, eighteen in 64.
    Column("x_singer_decimal_short", with_format("x-singer.decimal", precision=4, scale=4), "DECIMAL(4,4)",
           quoted(Decimal, "0.9999", "-0.9999", "0.0001", "0"), ('"1"',)),
    Column("singer_decimal_step", with_format("singer.decimal", multipleOf=0.0001), "DECIMAL(38,4)",
           quoted(Decimal, "12.3456", "9" * 34 + ".9999"), ('"0.00001"',)),
    Column("big_number", airbyte("number", "big_number"), DECIMAL, DECIMALS, ("NaN",)),
    Column("big_number_text", airbyte("string", "big_number"), DECIMAL, DECIMALS, ('"1' + "0" * 29 + '"',)),
    Column("text", {"type": "string"}, "VARCHAR", STRINGS, ("12", r'"\ud800"', "{}")),
    Column("text_null", {"type": ["string", "null"]}, "VARCHAR", STRINGS, ("false",)),
    Column("text_any_of", {"anyOf": [NULL, {"type": "string", "format": "email"}]}, "VARCHAR", STRINGS, ("0",)),
    Column("word", {"enum": ["alpha", "", None]}, "VARCHAR", quoted(str, *WORDS), ("1",)),
    Column("day", with_format("date"), "DATE", DATES, ('"2023-02-29"', '"0000-01-01"', '"2024-02-29T00:00:00Z"', "20240229")),
    Column("day_one_of", {"oneOf": [{"type": "string", "format": "date"}, NULL]}, "DATE", DATES, ('"29.02.2024"',)),
    Column("moment", with_format("date-time"), TIMESTAMPTZ, MOMENTS,
           ('"2024-02-30T00:00:00Z"', '"2024-02-29T24:00:00Z"', '"0001-01-01T00:00:00+14:00"',
            '"9999-12-31T23:59:59-14:00"', "1709164800", '""')),
    Column("moment_any_of", {"anyOf": [{"type": "string", "format": "date-time"}, NULL]}, TIMESTAMPTZ, MOMENTS, ('"now"',)),
    Column("with_timezone", airbyte("string", "timestamp_with_timezone", format="date-time"), TIMESTAMPTZ, MOMENTS,
           ('"2024-02-29"',)),
    Column("without_timezone", airbyte("string", "timestamp_without_timezone", format="date-time"), "TIMESTAMP",
           LOCAL_MOMENTS, ('"2024-02-29T00:00:00Z"', '"2024-02-29T00:00:00+00:00"')),
    Column("clock", with_format("time"), "TIME", (*TIMES, ('"12:34:56Z"', time(12, 34, 56))),
           ('"24:00:00"', '"12:34:56+01:00"')),
    Column("clock_without_timezone", airbyte("string", "time_without_timezone", format="time"), "TIME", TIMES, ('"12:34"',)),
    Column("clock_with_timezone", airbyte("string", "time_with_timezone", format="time"), "VARCHAR",
           quoted(str, "12:34:56.789+14:00", "00:00:00Z", "anything"), ("123456",)),
    Column("uuid", with_format("uuid"), "VARCHAR", UUIDS, ("[]",)),
    Column("base64", {"type": "string", "contentEncoding": "base64"}, "BLOB", BLOBS, ('"a"', '"ab=="', '"YWJj\\n"')),
    Column("binary_data", airbyte("string", "binary_data"), "BLOB", BLOBS, ('"_-=="',)),
    Column("ref_number", {"$ref": WELL_KNOWN + "Number"}, "DOUBLE",
           (*quoted(float, "0.1", "-1e308", "NaN", "-Infinity"), ("2.5", 2.5)), ('"twelve"',)),
    Column("ref_integer", {"$ref": WELL_KNOWN + "Integer"}, "BIGINT", quoted(int, str(MIN_LONG), "12"), ('"1.5"',)),
    Column("ref_moment", {"$ref": "#/definitions/moment"}, TIMESTAMPTZ, MOMENTS, ('"x"',)),
    Column("struct", {"type": ["null", "object"], "properties": {"b": {"type": "integer"}, "c": with_format("date")}},
           "STRUCT(b BIGINT, c DATE)",
           (('{"b":1,"c":"2024-02-29"}', {"b": 1, "c": date(2024, 2, 29)}), ("{}", {"b": None, "c": None}),
            ('{"z":[{}],"c":null,"b":7e3}', {"b": 7000, "c": None})), ("[]", "7")),
    Column("list", {"type": "array", "items": {"type": "number"}}, "DOUBLE[]",
           (("[]", []), ("[1.0,null,1e0]", [1.0, None, 1.0])), ("{}",)),
    Column("map", {"type": "object", "additionalProperties": {"type": ["integer", "null"]}}, "MAP(VARCHAR, BIGINT)",
           (("{}", {}), ('{"b":1,"a":null,"\\u00e9":3}', {"b": 1, "a": None, "é": 3})), ('{"a":1,"a":2}', "[]")),
    Column("structs", {"type": "array", "items": {"type": "object", "properties": {"x": TEXTS}}}, "STRUCT(x VARCHAR[])[]",
           (('[{"x":["a",""]},null,{}]', [{"x": ["a", ""]}, None, {"x": None}]),), ('"x"',)),
    Column("object", {"type": ["null", "object"]}, "VARCHAR",
           json_text("{}", '{"b":1,"a":2}', '{ "z" : 1.0, "a" : 1e2, "z2":[1.50, {"n":12345678901234567890.0}] }',
                     r'{"é":"\u00e9 é \u0000"}'), ('{"b":NaN}',)),
    Column("array", {"type": "array"}, "VARCHAR",
           json_text("[]", "[1.0,1,1e0]", '[null,{"b":1,"a":[[]]}]'), ("[Infinity]",)),
    Column("mixed", {"type": ["string", "integer", "null"]}, "VARCHAR",
           (*json_text('""', '"x"', "12", "-0", '"12"'), ("null", None)), ("-Infinity",)),
    Column("untyped", {}, "VARCHAR", json_text("true", "1.10", '"x"', "[1]", '{"b":1,"a":2}'), ("NaN",)),
    Column("nothing", {"type": "null"}, "VARCHAR", (("null", None),), ("NaN",)),
    Column("moment_or_text", {"anyOf": [{"type": "string", "format": "date-time"}, {"type": ["string", "null"]}]}, "VARCHAR",
           (('"2024-02-29T00:00:00Z"', "2024-02-29T00:00:00Z"), ('"soon"', "soon")), ("NaN",)),
)
# fmt: on

SCHEMA: Node = {
    "type": "object",
    "properties": {"n": {"type": "integer"}} | {column.name: column.node for column in COLUMNS},
    "definitions": {"moment": with_format("date-time")},
}


def records() -> tuple[list[str], list[dict[str, object]]]:
    """Return records as JSON texts and the rows that they must become.

    A column that has run out of values is null, then missing, by turns; keys come in their order and reversed by turns.
    The last record has nothing but its key.
    """
    texts: list[str] = []
    rows: list[dict[str, object]] = []
    names = [column.name for column in COLUMNS]
    for n in range(max(len(column.values) for column in COLUMNS) + 3):
        members = [f'"n":{n}']
        row: dict[str, object] = {"n": n, **dict.fromkeys(names)}
        for index, column in enumerate(COLUMNS):
            if n < len(column.values):
                text, row[column.name] = column.values[n]
                members.append(f'"{column.name}":{text}')
            elif (n + index) % 2:
                members.append(f'"{column.name}":null')
        texts.append("{" + ",".join(reversed(members) if n % 2 else members) + "}")
        rows.append(row)
    texts.append(f'{{"n":{len(rows)}}}')
    rows.append({"n": len(rows), **dict.fromkeys(names)})
    return texts, rows
