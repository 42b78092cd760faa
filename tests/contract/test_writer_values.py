"""Every scalar through both dialects into Parquet, compared with what Python's json, Decimal and datetime read."""

from __future__ import annotations

import base64
import functools
import json
import random
import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.contract.writer_kernel import Writer, opening, plan_for, play, stream

TEXTS = [
    "",
    "plain",
    'quo"te',
    "back\\slash",
    "tab\t nl\n nul\0",
    "é漢🎉",
    "\u2028 \ufeff",
    "x" * 5000,
    "null",
    "\x7f",
]
NAMES = [
    "id",
    "big",
    "number",
    "money",
    "exact",
    "flag",
    "text",
    "day",
    "moment",
    "local",
    "clock",
    "clock_zone",
    "blob",
    "nested",
    "any",
    "odd name.é",
    "inside",
    "listed",
    "by_name",
]
INSIDE_TYPE = (
    "struct<id: int64, money: decimal128(38, 2), exact: decimal128(38, 9), flag: bool, text: string, "
    "moment: timestamp[us, tz=UTC], blob: binary, odd name.é: string>"
)
INSIDE = ["id", "money", "exact", "flag", "text", "moment", "blob", "odd name.é"]
PROPERTIES: dict[str, Any] = {
    "id": {"type": "integer"},
    "big": {"type": ["null", "integer"], "airbyte_type": "big_integer"},
    "number": {"type": ["number", "null"]},
    "money": {"type": ["null", "number"], "multipleOf": 0.01},
    "exact": {"type": ["string", "null"], "format": "singer.decimal"},
    "flag": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    "text": {"type": ["string", "null"]},
    "day": {"type": ["null", "string"], "format": "date"},
    "moment": {"type": ["null", "string"], "format": "date-time"},
    "local": {
        "type": "string",
        "format": "date-time",
        "airbyte_type": "timestamp_without_timezone",
    },
    "clock": {"type": "string", "format": "time", "airbyte_type": "time_without_timezone"},
    "clock_zone": {"type": "string", "format": "time", "airbyte_type": "time_with_timezone"},
    "blob": {"type": "string", "contentEncoding": "base64"},
    "nested": {"type": ["object", "null"]},
    "any": {},
    "odd name.é": {"$ref": "#/definitions/word"},
}
PROPERTIES["inside"] = {
    "type": ["null", "object"],
    "properties": {name: PROPERTIES[name] for name in INSIDE},
}
PROPERTIES["listed"] = {"type": "array", "items": {"$ref": "#/properties/inside"}}
PROPERTIES["by_name"] = {"type": "object", "additionalProperties": PROPERTIES["listed"]}
SCHEMA = {
    "type": "object",
    "properties": PROPERTIES,
    "definitions": {"word": {"type": ["null", "string"]}},
}


def bare(number: object) -> str:
    """Return a mark that ``encoder`` turns into the number's own text, which json.dumps would round."""
    return f"@number:{number}"


def moment(r: random.Random) -> tuple[str, datetime]:
    at = datetime(1, 1, 3, tzinfo=UTC) + timedelta(
        days=r.randrange(3_652_050),
        seconds=r.randrange(86400),
        microseconds=r.choice([0, r.randrange(10**6)]),
    )
    zone = timezone(timedelta(minutes=r.randrange(-1439, 1440)))
    text = r.choice([at, at.astimezone(zone), at.replace(tzinfo=None)]).isoformat(
        sep=r.choice("T ")
    )
    return r.choice([text, text.replace("+00:00", "Z")]), at


def digits(r: random.Random, whole: int, fraction: int) -> Decimal:
    sign = r.choice(["", "-"])
    return Decimal(
        f"{sign}{r.randrange(10 ** r.randrange(1, whole))}.{r.randrange(10**fraction):0{fraction}d}"
    )


def make(r: random.Random, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a record as it is sent and the row that it must become."""
    text, at = moment(r)
    local = datetime(1, 1, 1) + timedelta(
        days=r.randrange(3_652_059), microseconds=r.randrange(86_400_000_000)
    )
    exact, money, big = digits(r, 28, 9), digits(r, 35, 2), r.randrange(-(10**38) + 1, 10**38)
    blob = r.randbytes(r.randrange(40))
    nested = {"a": [r.randrange(10), {"b": None, "c": r.choice(TEXTS)}], "f": 1.5}
    anything = r.choice([1, "x", [1, "y"], {"k": True}, False, 2.5])
    double = r.choice(
        [r.random(), r.uniform(-1e300, 1e300), float(r.randrange(10**6)), 5e-324, -0.0]
    )
    sent: dict[str, tuple[Any, Any]] = {
        "id": (r.choice([number, float(number)]), number),
        "big": (big, Decimal(big)),
        "number": (double, double),
        "money": (bare(money), money),
        "exact": (r.choice([str(exact), bare(exact)]), exact),
        "flag": (flag := r.choice([True, False]), flag),
        "text": (word := r.choice(TEXTS), word),
        "day": (local.date().isoformat(), local.date()),
        "moment": (text, at),
        "local": (local.isoformat(), local),
        "clock": (local.time().isoformat(), local.time()),
        "clock_zone": ("10:20:30.5+01:00", "10:20:30.5+01:00"),
        "blob": (base64.b64encode(blob).decode(), blob),
        "nested": (nested, nested),
        "any": (anything, anything),
        "odd name.é": ("é", "é"),
        "not in the schema": ({"id": [None]}, None),
    }
    objects = [
        ({key: sent[key][0] for key in chosen}, {key: sent[key][1] for key in chosen})
        for chosen in (r.sample(INSIDE, k=r.randrange(len(INSIDE) + 1)) for _ in range(3))
    ]
    pairs: list[tuple[Any, Any]] = [(told, dict.fromkeys(INSIDE) | kept) for told, kept in objects]
    sent["inside"] = pairs[0]
    lists: list[list[tuple[Any, Any]]] = [[], [(None, None)], pairs[1:], [*pairs, (None, None)]]
    listed = [([told for told, _ in one], [kept for _, kept in one]) for one in lists]
    sent["listed"] = r.choice(listed)
    keys = r.sample(TEXTS, k=r.randrange(4))
    several = [(key, r.choice(listed)) for key in keys]
    sent["by_name"] = (
        {key: told for key, (told, _) in several},
        [(key, kept) for key, (_, kept) in several],
    )
    names = r.sample(list(sent), k=r.randrange(len(sent) + 1)) if r.random() < 0.5 else list(sent)
    record, row = {}, dict.fromkeys(NAMES)
    for name in names:
        record[name], value = sent[name]
        if r.random() < 0.1:
            record[name] = value = None
        if name in row:
            row[name] = value
    return record, row


def encoder(r: random.Random) -> Callable[[object], str]:
    """Return one way to write JSON: spaced or not, escaped or not."""
    dump = functools.partial(
        json.dumps,
        separators=r.choice([(",", ":"), (", ", ": "), (" , ", " : ")]),
        ensure_ascii=r.choice([True, False]),
    )
    return lambda value: re.sub(r'"@number:([^"]*)"', r"\1", dump(value))


def rows_of(writer: Writer, staging: Path, name: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(staging / file["path"]) for file in writer.files(name)])


def field_ids(fields: Iterable[pa.Field]) -> list[int]:
    """Return the Iceberg ids of fields and of those inside them, each before its own."""
    ids = []
    for field in fields:
        if field.metadata and b"PARQUET:field_id" in field.metadata:
            ids.append(int(field.metadata[b"PARQUET:field_id"]))
        kind = field.type
        if pa.types.is_map(kind):
            ids += field_ids([kind.key_field, kind.item_field])
        elif pa.types.is_nested(kind):
            ids += field_ids(kind.field(index) for index in range(kind.num_fields))
    return ids


def check_rows(table: pa.Table, rows: list[dict[str, Any]]) -> None:
    """Compare row by row; JSON columns by their parsed value."""
    assert table.num_rows == len(rows)
    for got, wanted in zip(table.to_pylist(), rows, strict=True):
        for name in ("nested", "any"):
            if got[name] is not None:
                got[name] = json.loads(got[name])
        assert got == wanted


@pytest.mark.parametrize("dialect", ["airbyte", "singer"])
def test_all_types_read_back(tmp_path: Path, dialect: str) -> None:
    r = random.Random(f"values {dialect}")
    made = [make(r, number) for number in range(3000)]
    lines: list[str] = []
    if dialect == "singer":
        lines.append(
            json.dumps({"type": "SCHEMA", "stream": "s", "schema": SCHEMA, "key_properties": []})
        )
    for record, _ in made:
        if dialect == "singer":
            message = [
                ("type", "RECORD"),
                ("stream", "s"),
                ("record", record),
                ("time_extracted", "x"),
            ]
        else:
            inner = [("stream", "s"), ("data", record), ("emitted_at", 1), ("namespace", None)]
            r.shuffle(inner)
            message = [("type", "RECORD"), ("record", dict(inner))]
        if r.random() < 0.3:
            r.shuffle(message)
        lines.append(encoder(r)(dict(message)))
    entry = stream("s", SCHEMA if dialect == "airbyte" else None)
    writer = play(opening(dialect, tmp_path, [entry]), ("\n".join(lines) + "\n").encode())
    assert (writer.status, writer.of("error")) == (0, [])
    table = rows_of(writer, tmp_path, "s")
    check_rows(table, [row for _, row in made])
    kinds = [str(table.schema.field(name).type).replace(" ('by_name')", "") for name in NAMES]
    assert kinds == [
        "int64", "decimal128(38, 0)", "double", "decimal128(38, 2)", "decimal128(38, 9)", "bool", "string", "date32[day]",
        "timestamp[us, tz=UTC]", "timestamp[us]", "time64[us]", "string", "binary", "string", "string", "string",
        INSIDE_TYPE, f"list<element: {INSIDE_TYPE}>", f"map<string, list<element: {INSIDE_TYPE}>>",
    ]  # fmt: skip
    assert field_ids(table.schema) == list(range(1, len(field_ids(table.schema)) + 1))


def test_json_columns_hold_the_text_itself(tmp_path: Path) -> None:
    texts = [
        '{ "b" : 1.10, "a":[ 1e2,12345678901234567890123 ] }',
        '"s\\u00e9"',
        "[]",
        "true",
        "7.0",
    ]
    lines = [
        f'{{"type":"RECORD","record":{{"stream":"s","data":{{"v": {text} }}}}}}\n'
        for text in [*texts, "null"]
    ]
    schema = {"properties": {"v": {"type": ["array", "object"]}}}
    writer = play(opening("airbyte", tmp_path, [stream("s", schema)]), "".join(lines).encode())
    assert rows_of(writer, tmp_path, "s")["v"].to_pylist() == [*texts, None]


def test_the_edges_of_values(tmp_path: Path) -> None:
    cases: list[tuple[str, dict[str, Any], Any]] = [
        ("1.0", {"type": "integer"}, 1),
        ("-0", {"type": "integer"}, 0),
        ("12e2", {"type": "integer"}, 1200),
        ("9223372036854775807", {"type": "integer"}, 2**63 - 1),
        ("-9223372036854775808", {"type": "integer"}, -(2**63)),
        ("18446744073709551615", {"type": "integer", "maximum": 18446744073709551615}, Decimal(2**64 - 1)),
        ("Infinity", {"type": "number"}, float("inf")),
        ("-Infinity", {"type": "number"}, float("-inf")),
        ("1e-400", {"type": "number"}, 0.0),
        ('"1E+3"', {"type": "string", "format": "x-singer.decimal"}, Decimal(1000)),
        ('"0E-20"', {"type": "string", "format": "x-singer.decimal"}, Decimal(0)),
        ("12345678901234567890123456789.123456789", {"type": "number", "airbyte_type": "big_number"},
         Decimal("12345678901234567890123456789.123456789")),
        ('"0001-01-01"', {"type": "string", "format": "date"}, date(1, 1, 1)),
        ('"9999-12-31"', {"type": "string", "format": "date"}, date(9999, 12, 31)),
        ('"2024-02-29T23:59:59.9999999z"', {"type": "string", "format": "date-time"},
         datetime(2024, 2, 29, 23, 59, 59, 999999, UTC)),
        ('"2024-01-01t00:00:00-0800"', {"type": "string", "format": "date-time"}, datetime(2024, 1, 1, 8, tzinfo=UTC)),
        ('"12:34:56Z"', {"type": "string", "format": "time"}, time(12, 34, 56)),
        ('"a\\u0000\\ud83c\\udf89"', {"type": "string"}, "a\0🎉"),
        ('"12.5"', {"$ref": "WellKnownTypes.json#/definitions/Number"}, 12.5),
        ('"-Infinity"', {"$ref": "WellKnownTypes.json#/definitions/Number"}, float("-inf")),
        ('"12"', {"$ref": "WellKnownTypes.json#/definitions/Integer"}, 12),
    ]  # fmt: skip
    schema = {"properties": {f"c{n}": node for n, (_, node, _) in enumerate(cases)}}
    record = ",".join(f'"c{n}":{text}' for n, (text, _, _) in enumerate(cases))
    line = f'{{"type":"RECORD","record":{{"stream":"s","data":{{{record}}}}}}}\n'
    writer = play(opening("airbyte", tmp_path, [stream("s", schema)]), line.encode())
    assert writer.of("error") == []
    (row,) = rows_of(writer, tmp_path, "s").to_pylist()
    assert list(row.values()) == [value for _, _, value in cases]


def test_a_wider_table_gets_wider_values(tmp_path: Path) -> None:
    def widen(schema: dict[str, Any]) -> dict[str, Any]:
        plan = plan_for(schema)
        plan["columns"][0] |= {"type": "decimal(38, 3)", "column": "other name", "field_id": 77}
        return plan

    node = {"type": "string", "format": "x-singer.decimal", "precision": 6, "scale": 3}
    open_ = opening("airbyte", tmp_path, [stream("s", {"properties": {"v": node}})])
    with Writer(open_, plan=widen) as writer:
        writer.feed(b'{"type":"RECORD","record":{"stream":"s","data":{"v":"12345678901.125"}}}\n')
        writer.close_stdin()
        writer.finish()
        writer.drain()
    table = rows_of(writer, tmp_path, "s")
    assert table.to_pylist() == [{"other name": Decimal("12345678901.125")}]
    assert table.schema.field(0).metadata[b"PARQUET:field_id"] == b"77"


def test_shuffled_keys_are_found(tmp_path: Path) -> None:
    r = random.Random("shuffled")
    names = [f"column_{n}" for n in range(50)]
    schema = {"properties": {name: {"type": "integer"} for name in names}}
    lines, rows = [], []
    for _ in range(2000):
        r.shuffle(names)
        row = {name: r.randrange(10**9) for name in names[: r.randrange(51)]}
        lines.append(json.dumps({"type": "RECORD", "record": {"stream": "s", "data": row}}) + "\n")
        rows.append(dict.fromkeys(sorted(schema["properties"])) | row)
    writer = play(opening("airbyte", tmp_path, [stream("s", schema)]), "".join(lines).encode())
    assert rows_of(writer, tmp_path, "s").to_pylist() == rows


def test_a_thousand_columns(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(1000)]
    schema = {"properties": {name: {"type": ["null", "integer"]} for name in names}}
    rows = [{name: number for name in names[number % 7 :: 3]} for number in range(2000)]
    lines = [
        json.dumps({"type": "RECORD", "record": {"stream": "s", "data": row}}) + "\n"
        for row in rows
    ]
    writer = play(opening("airbyte", tmp_path, [stream("s", schema)]), "".join(lines).encode())
    assert writer.of("error") == []
    table = rows_of(writer, tmp_path, "s")
    assert [{k: v for k, v in row.items() if v is not None} for row in table.to_pylist()] == rows
    assert 0 < writer.peak_bytes < 128 << 20


def test_a_wide_table_of_few_values_makes_neither_memory_nor_tiny_row_groups(
    tmp_path: Path,
) -> None:
    schema = {"properties": {f"c{n}": {"type": "integer"} for n in range(2000)}}
    record = ",".join(f'"c{n}":{n}' for n in range(2000))
    line = f'{{"type":"RECORD","record":{{"stream":"s","data":{{{record}}}}}}}\n'.encode()
    writer = play(opening("airbyte", tmp_path, [stream("s", schema)]), *[line * 100] * 100)
    assert writer.of("error") == []
    files = [pq.ParquetFile(tmp_path / file["path"]).metadata for file in writer.files("s")]
    groups = [file.row_group(n).num_rows for file in files for n in range(file.num_row_groups)]
    assert sum(groups) == 10_000
    assert len(groups) < 15
    assert 0 < writer.peak_bytes < 256 << 20


@pytest.mark.parametrize(
    ("numbers", "kind", "kept"),
    [
        ("double", "double", [0.1, 1e300, 12345678901234567890.0]),
        ("text", "string", ["0.1", "1e300", "12345678901234567890.10"]),
    ],
)
def test_numbers_become_what_the_job_asks_for(
    tmp_path: Path, numbers: str, kind: str, kept: list[object]
) -> None:
    entry = stream("s", {"properties": {"n": {"type": ["null", "number"]}}})
    records = [
        f'{{"type":"RECORD","record":{{"stream":"s","data":{{"n":{text}}}}}}}\n'.encode()
        for text in ("0.1", "1e300", "12345678901234567890.10")
    ]
    writer = play({**opening("airbyte", tmp_path, [entry]), "numbers": numbers}, *records)
    assert (writer.status, writer.of("error")) == (0, [])
    table = rows_of(writer, tmp_path, "s")
    assert str(table.schema.field("n").type) == kind
    assert table["n"].to_pylist() == kept


def test_exact_numbers_are_exact_or_refused(tmp_path: Path) -> None:
    entry = stream("s", {"properties": {"n": {"type": "number"}}})
    record = '{{"type":"RECORD","record":{{"stream":"s","data":{{"n":{}}}}}}}\n'
    asked = {**opening("airbyte", tmp_path, [entry]), "numbers": "decimal"}
    writer = play(asked, record.format("12345678901234567890.10").encode())
    assert rows_of(writer, tmp_path, "s")["n"].to_pylist() == [Decimal("12345678901234567890.10")]
    (tmp_path / "more").mkdir()
    refused = {**opening("airbyte", tmp_path / "more", [entry]), "numbers": "decimal"}
    assert play(refused, record.format("1e300").encode()).error()["code"] == "record.value"
