"""What the writer refuses, tolerates and passes on, line by line (docs/spec/wire.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.contract.writer_kernel import Writer, opening, play, stream

SCHEMA = {
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "money": {"type": "number", "multipleOf": 0.01},
        "any": {"type": "object"},
        "ratio": {"type": "number"},
    }
}
GOOD = '{"type":"RECORD","record":{"stream":"s","data":{"id":1}}}'


def record(data: str) -> str:
    return f'{{"type":"RECORD","record":{{"stream":"s","data":{data}}}}}'


def state(name: str = "s", text: str = "1") -> str:
    return (
        '{"type":"STATE","state":{"type":"STREAM","stream":'
        f'{{"stream_descriptor":{{"name":"{name}"}},"stream_state":{text}}}}}}}'
    )


def airbyte(staging: Path, **more: Any) -> dict[str, Any]:
    return opening("airbyte", staging, [stream("s", SCHEMA)], **more)


BAD_AIRBYTE: list[tuple[str, str, dict[str, Any]]] = [
    ("{", "json.invalid", {}),
    ('{"type":"RECORD","record":{"stream":"s","data":{"id":1}}', "json.invalid", {}),
    (GOOD + "x", "json.invalid", {"value": "x"}),
    (GOOD + GOOD, "json.invalid", {}),
    (record('{"id":01}'), "json.invalid", {}),
    (record('{"id":1,}'), "json.invalid", {}),
    (record('{"other":tru}'), "json.invalid", {}),
    (record('{"name":"\t"}'), "json.invalid", {}),
    (record('{"name":"\\x"}'), "json.invalid", {}),
    ("{'type':'RECORD'}", "json.invalid", {}),
    ('{"type":"LOG","log":{"level":"INFO","message":"a"}', "json.invalid", {}),
    (record('{"other":' + "[" * 100 + "]" * 100 + "}"), "json.too_deep", {}),
    (record('{"any":' + '{"a":' * 100 + "1" + "}" * 100 + "}"), "json.too_deep", {}),
    ('{"x":' + "[" * 1_000_000, "json.too_deep", {}),
    ('{"type":"RECORD","type":"RECORD","record":{"stream":"s","data":{}}}', "json.duplicate_key", {}),
    ('{"type":"RECORD","record":{"stream":"s","data":{},"stream":"s"}}', "json.duplicate_key", {}),
    ('{"type":"RECORD","record":{"stream":"s","data":{},"d\\u0061ta":{}}}', "json.duplicate_key", {}),
    ('{"type":"STATE","state":{},"state":{}}', "json.duplicate_key", {}),
    ("{}", "message.invalid", {}),
    ('{"fish":"tuna"}', "message.invalid", {}),
    ('{"type":"RECORD"}', "message.invalid", {}),
    ('{"type":"record","record":{"stream":"s","data":{}}}', "message.invalid", {}),
    ('{"type":"RECORD","record":{"stream":"s"}}', "message.invalid", {}),
    (record("[]"), "message.invalid", {"stream": "s"}),
    (record("null"), "message.invalid", {"stream": "s"}),
    ('{"type":"RECORD","record":{"stream":"t","data":{}}}', "message.unknown_stream", {"stream": "t"}),
    ('{"type":"RECORD","record":{"stream":"s","data":{},"namespace":"n"}}', "message.unknown_stream", {"stream": "s"}),
    ('{"type":"RECORD","record":{"stream":"' + "t" * 100000 + '","data":{}}}', "message.unknown_stream", {}),
    (record('{"id":1,"id":"2"}'), "record.value", {"field": "id", "value": '"2"', "stream": "s"}),
    (record('{"id":"ten"}'), "record.value", {"field": "id", "value": '"ten"', "stream": "s"}),
    (record('{"id":1.5}'), "record.value", {"field": "id", "value": "1.5"}),
    (record('{"id":9223372036854775808}'), "record.value", {"field": "id"}),
    (record('{"id":NaN}'), "record.value", {"field": "id", "value": "NaN"}),
    (record('{"name":7}'), "record.value", {"field": "name"}),
    (record('{"name":"\\ud800"}'), "record.value", {"field": "name"}),
    (record('{"name":["' + "x" * 1000 + '"]}'), "record.value", {"field": "name"}),
    (record('{"at":"2024-02-30T00:00:00Z"}'), "record.value", {"field": "at"}),
    (record('{"at":"2016-12-31T23:59:60Z"}'), "record.value", {"field": "at"}),
    (record('{"at":1700000000}'), "record.value", {"field": "at"}),
    (record('{"money":1.005}'), "record.value", {"field": "money", "value": "1.005"}),
    (record('{"money":NaN}'), "record.value", {"field": "money"}),
    (record('{"ratio":1e999}'), "record.value", {"field": "ratio", "value": "1e999"}),
    (record('{"any":{"a":NaN}}'), "record.value", {"field": "any"}),
    ('{"type":"STATE"}', "state.empty", {}),
    ('{"type":"STATE","state":{}}', "state.empty", {}),
    ('{"type":"STATE","state":{"type":"STREAM","stream":{}}}', "state.invalid", {}),
    (state(text="NaN"), "state.invalid", {}),
    (state("t"), "state.undeclared", {"stream": "t"}),
    (state(text='"' + "x" * 1048576 + '"'), "state.too_large", {}),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "code", "more"), BAD_AIRBYTE)
def test_bad_lines_of_airbyte(tmp_path: Path, bad: str, code: str, more: dict[str, Any]) -> None:
    lines = ["starting up", GOOD, GOOD, bad, GOOD]
    writer = play(airbyte(tmp_path), ("\n".join(lines) + "\n").encode())
    error = writer.error()
    assert error["code"] == code
    assert error["blame"] == "plugin"
    assert error["line"] == 4
    assert error["byte"] == len("starting up") + 2 * len(GOOD) + 3
    assert len(error.get("value", "")) <= 200
    name = error.get("stream", {"name": None})["name"]
    assert {"stream": name, **error}.items() >= {
        k: v for k, v in more.items() if k != "stream"
    }.items()
    assert name == more.get("stream", name)
    assert writer.status == 7
    assert writer.of("sealed") == []
    assert list(tmp_path.iterdir()) == []


SINGER_SCHEMA = json.dumps(
    {"type": "SCHEMA", "stream": "s", "schema": SCHEMA, "key_properties": ["id"]}
)


def singer_schema(schema: object, keys: object = ()) -> str:
    return json.dumps({"type": "SCHEMA", "stream": "s", "schema": schema, "key_properties": keys})


BAD_SINGER: list[tuple[list[str], str]] = [
    (['{"type":"RECORD","stream":"s","record":{}}'], "message.record_before_schema"),
    (['{"type":"RECORD","stream":"t","record":{}}'], "message.unknown_stream"),
    (['{"type":"SCHEMA","stream":"t","schema":{},"key_properties":[]}'], "message.unknown_stream"),
    (['{"type":"SCHEMA","stream":"s","key_properties":[]}'], "schema.invalid"),
    ([singer_schema({})], "schema.invalid"),
    ([singer_schema({"type": "object", "properties": {}})], "schema.invalid"),
    ([singer_schema(["properties"])], "schema.invalid"),
    ([singer_schema({"properties": {"a": {"$ref": "http://x.example/y.json"}}})], "schema.invalid"),
    ([singer_schema({"properties": {"a": {"$ref": "#/definitions/b"}}, "definitions": {"b": {"$ref": "#/definitions/b"}}})],
     "schema.invalid"),
    ([singer_schema({"properties": {"a": {"type": "integer"}}}, ["b"])], "schema.invalid"),
    ([singer_schema({"properties": {f"c{n}": {} for n in range(2001)}})], "limit.columns"),
    ([singer_schema({"properties": {"a": {}}, "x": "y" * 3_000_000})], "limit.schema_bytes"),
    (['{"type":"STATE"}'], "state.empty"),
    (['{"type":"STATE","value":null}'], "state.empty"),
    ([SINGER_SCHEMA, '{"type":"RECORD","stream":"s","record":{"id":true}}'], "record.value"),
    ([SINGER_SCHEMA, '{"type":"RECORD","stream":"s"}'], "message.invalid"),
    ([SINGER_SCHEMA, '{"type":"RECORD","stream":"s","record":{"id":1},"record":{}}'], "json.duplicate_key"),
    ([SINGER_SCHEMA, '{"type":"RECORD","stream":"s","record":{"id":1}} {}'], "json.invalid"),
    ([SINGER_SCHEMA, '{"type":"RECORD","stream":"s","record":{"name":"x"}}'], "record.missing_key"),
    ([SINGER_SCHEMA, '{"type":"RECORD","stream":"s","record":{"id":null}}', '{"type":"RECORD","stream":"s","record":{"Id":1}}'],
     "record.missing_key"),
    ([SINGER_SCHEMA, '{"type":"RECORD","stream":"s","record":{}}'], "record.missing_key"),
    ([SINGER_SCHEMA, '{"type":"RECORD","stream":"s","record":{"id":1},"version":-1}'], "message.invalid"),
    ([SINGER_SCHEMA, '{"type":"RECORD","stream":"s","record":{"id":1},"version":"1"}'], "message.invalid"),
    (['{"type":"ACTIVATE_VERSION","stream":"s","version":-1}'], "message.invalid"),
    (['{"type":"ACTIVATE_VERSION","stream":"s"}'], "message.invalid"),
    (['{"type":"ACTIVATE_VERSION","stream":"t","version":1}'], "message.unknown_stream"),
    (['{"type":"BATCH","stream":"s","manifest":["file:///etc/passwd"]}'], "message.batch"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "code"), BAD_SINGER)
def test_bad_lines_of_singer(tmp_path: Path, lines: list[str], code: str) -> None:
    writer = play(opening("singer", tmp_path, [stream("s")]), ("\n".join(lines) + "\n").encode())
    error = writer.error()
    assert (error["code"], error["line"]) == (code, len(lines))
    assert writer.status == (6 if code.startswith("limit.") else 7)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "end", [b'{"type":"RECORD","record":{"stream":"s","da', GOOD.encode(), b"Traceback", b" "]
)
def test_half_a_line_at_the_end_is_an_error(tmp_path: Path, end: bytes) -> None:
    writer = play(airbyte(tmp_path), f"{GOOD}\n{state()}\n{GOOD}\n".encode(), end)
    error = writer.error()
    assert (error["code"], error["line"], writer.status) == ("framing.half_line", 4, 7)
    assert error["byte"] == 2 * len(GOOD) + len(state()) + 3
    # What the last state covers is sealed before.
    (sealed,) = writer.of("sealed")
    assert (sealed["final"], sealed["complete"]) == (True, False)
    assert [
        (file["rows"], c["read"]) for file, c in zip(sealed["files"], sealed["counts"], strict=True)
    ] == [(1, 1)]
    assert [event["type"] for event in writer.events][-2:] == ["sealed", "error"]


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    bad = b'{"type":"RECORD","record":{"stream":"s","data":{"name":"\xff"}}}\n'
    writer = play(airbyte(tmp_path), b"\xff\xfe text may be anything\n", bad)
    error = writer.error()
    assert (error["code"], error["line"], writer.status) == ("framing.invalid_utf8", 2, 7)
    assert writer.of("message")[0]["text"] == "\ufffd\ufffd text may be anything"


def test_a_line_without_end_is_cut_off_early(tmp_path: Path) -> None:
    def endless() -> Any:
        yield b'{"type":"RECORD","record":{"stream":"s","data":{"name":"'
        while True:
            yield b"x" * 65536

    with Writer(airbyte(tmp_path)) as writer:
        writer.feed_all(endless())
        writer.drain()
    error = writer.error()
    assert (error["code"], error["line"], error["byte"]) == ("framing.line_too_long", 1, 0)
    assert writer.status == 7
    assert 0 < writer.peak_bytes < 80 << 20


def test_all_that_was_granted_is_taken_and_not_a_byte_more(tmp_path: Path) -> None:
    """What a state has covered is sealed; the line that goes beyond the cap is no row, and leaves no file."""
    lines = f"{GOOD}\n{state()}\n{GOOD}\n{GOOD}\n".encode()
    staging = [tmp_path / name for name in ("whole", "less")]
    for folder in staging:
        folder.mkdir()
    limits = {"max_output_bytes": len(lines)}
    writer = play(airbyte(staging[0], limits=limits, epoch={"max_rows": 1}), lines)
    assert writer.status == 0
    assert sum(f["rows"] for e in writer.of("sealed") for f in e["files"]) == 3
    limits = {"max_output_bytes": len(lines) - 1}
    writer = play(airbyte(staging[1], limits=limits, epoch={"max_rows": 1}), lines)
    error = writer.error()
    assert writer.status == 6
    assert (error["code"], error["line"]) == ("limit.output", 4)
    assert error["byte"] == len(lines) - len(GOOD) - 1
    assert "grants.output" in error["hint"]
    assert sum(f["rows"] for e in writer.of("sealed") for f in e["files"]) == 1
    assert len(list(staging[1].rglob("*.parquet"))) == 1


def test_a_long_line_within_the_limit_is_read(tmp_path: Path) -> None:
    name = "é" * 15_000_000
    writer = play(
        airbyte(tmp_path),
        f"{record(json.dumps({'name': name}, ensure_ascii=False))}\n{GOOD}\n".encode(),
    )
    assert writer.of("error") == []
    (file,) = writer.files("s")
    assert pq.read_table(tmp_path / file["path"])["name"].to_pylist() == [name, None]


def test_what_is_tolerated(tmp_path: Path) -> None:
    text = "\ufeff" + "\r\n".join(
        [
            GOOD,
            "",
            "   ",
            " \t" + GOOD + "  ",
            "WARNING: plain text",
            '[1,2] is text too, as is "this"',
            '{ "record" : {"data":{"id":2,"unknown":[{"deep":NaN}]},"emitted_at":1,'
            '"stream":"s","namespace":""},"type":"RECORD","x":[]}',
            record("{}"),
            "",
        ]
    )
    writer = play(airbyte(tmp_path), text.encode())
    assert writer.of("error") == []
    (file,) = writer.files("s")
    assert pq.read_table(tmp_path / file["path"])["id"].to_pylist() == [1, 1, 2, None]
    stats = writer.of("stats")[-1]
    assert (stats["lines"], stats["text_lines"], stats["bytes"]) == (8, 2, len(text.encode()))
    assert [(m["kind"], m["text"], m["line"]) for m in writer.of("message")] == [
        ("text", "WARNING: plain text", 5),
        ("text", '[1,2] is text too, as is "this"', 6),
    ]


def test_what_a_source_says_is_passed_on(tmp_path: Path) -> None:
    config = json.dumps(
        {"type": "CONNECTOR_CONFIG", "connectorConfig": {"config": {"token": "t" * 100_000}}}
    )
    lines = [
        '{"type":"LOG","log":{"level":"WARN","message":"a\\nb"}}',
        '{"type":"TRACE","trace":{"type":"ERROR","emitted_at":1.5,"error":{"message":"broke","stack_trace":"long"}}}',
        '{"type":"TRACE","trace":{"type":"STREAM_STATUS","stream_status":{"status":"STARTED"}}}',
        '{"type":"TRACE","trace":{"type":"ESTIMATE","estimate":{"row_estimate":5}}}',
        '{"type":"TRACE","trace":{"type":"ANALYTICS"}}',
        '{"type":"CONTROL","control":' + config + "}",
        '{"type":"DEBUG","x":1}',
        '{"type":"LOG","log":{"level":"INFO","message":"' + "é" * 5000 + '"}}',
    ]
    writer = play(airbyte(tmp_path), ("\n".join(lines) + "\n").encode())
    said = [(m["kind"], m["level"], m["text"]) for m in writer.of("message")]
    assert said[:7] == [
        ("log", "WARN", "a\nb"),
        ("trace_error", "ERROR", "broke"),
        ("trace_status", "", '{"status":"STARTED"}'),
        ("trace_estimate", "", '{"row_estimate":5}'),
        ("trace_other", "", '{"type":"ANALYTICS"}'),
        ("control", "", config),
        ("unknown", "", '{"type":"DEBUG","x":1}'),
    ]
    assert 4000 < len(said[7][2].encode()) <= 4096


def test_singers_types_may_be_written_in_any_case(tmp_path: Path) -> None:
    lines = [
        '{"type":"ACTIVATE_VERSION","stream":"s","version":1}',
        '{"type":"Schema","stream":"s","schema":{"properties":{"id":{"type":"integer"}}},"key_properties":["id"]}',
        '{"type":"record","stream":"s","record":{"id":1}}',
        '{"record":{"id":2},"stream":"s","type":"Record"}',
        '{"type":"state","value":{"a":1}}',
    ]
    writer = play(opening("singer", tmp_path, [stream("s")]), ("\n".join(lines) + "\n").encode())
    assert writer.of("message") == []
    assert writer.of("stats")[-1]["oddities"] == {"type_case": 4}
    assert writer.of("sealed")[-1]["states"] == [
        {"kind": "singer", "stream": None, "text": '{"a":1}'}
    ]
    assert writer.of("stream_schema")[0]["key"] == ["id"]
    assert writer.of("sealed")[-1]["counts"][0]["read"] == 2


def test_messages_are_counted_and_bounded(tmp_path: Path) -> None:
    log = '{"type":"LOG","log":{"level":"INFO","message":"x"}}\n'
    error = '{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"broke"}}}\n'
    writer = play(airbyte(tmp_path), (log * 1500 + error + log * 10 + error).encode())
    messages = writer.of("message")
    assert len(messages) == 1002
    assert [m["suppressed"] for m in messages[-2:]] == [500, 10]
    assert writer.of("stats")[-1]["suppressed"] == 510


@pytest.mark.parametrize(
    ("line", "count", "code"),
    [
        ("just text", 11, "limit.text_lines"),
        (
            '{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"x"}}}',
            10_001,
            "limit.messages",
        ),
        ('{"type":"CONTROL","control":"' + "x" * 1_100_000 + '"}', 1, "limit.control_bytes"),
    ],
)
def test_bounds_on_what_a_source_says(tmp_path: Path, line: str, count: int, code: str) -> None:
    writer = play(airbyte(tmp_path, limits={"max_text_lines": 10}), f"{line}\n".encode() * count)
    error = writer.error()
    assert (error["code"], error["line"], writer.status) == (code, count, 6)


def test_streams_of_two_namespaces(tmp_path: Path) -> None:
    schema = {"properties": {"id": {"type": "integer"}}}
    streams = [stream("s", schema, namespace=""), stream("s", schema, namespace="n")]
    lines = [
        '{"type":"RECORD","record":{"namespace":"n","stream":"s","data":{"id":1}}}',
        '{"type":"RECORD","record":{"stream":"s","data":{"id":2},"namespace":null}}',
        '{"type":"RECORD","record":{"stream":"s","data":{"id":3},"namespace":"n"}}',
        '{"type":"RECORD","record":{"stream":"s","namespace":"","data":{"id":4}}}',
        '{"type":"RECORD","record":{"data":{"id":5},"namespace":"n","stream":"s"}}',
    ]
    writer = play(opening("airbyte", tmp_path, streams), ("\n".join(lines) + "\n").encode())
    ids = {
        file["stream"]["namespace"]: pq.read_table(tmp_path / file["path"])["id"].to_pylist()
        for file in writer.files("s")
    }
    assert ids == {None: [2, 4], "n": [1, 3, 5]}


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ("{", "schema.invalid"),
        ("{}", "schema.invalid"),
        ('{"properties":{"a":{"type":"text"}}}', "schema.invalid"),
    ],
)
def test_an_airbyte_schema_that_cannot_be_used(tmp_path: Path, schema: str, code: str) -> None:
    writer = play(opening("airbyte", tmp_path, [stream("s", schema)]))
    error = writer.error()
    assert (error["code"], error["stream"]["name"], writer.status) == (code, "s", 7)
