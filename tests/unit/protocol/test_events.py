"""The parser of control messages and schemas/events.json are one contract: they accept and refuse the same."""

import json
import re
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.protocol import control, events, handshake
from dativo.protocol.errors import ProtocolViolation

SCHEMA = json.loads(resources.files("dativo.schemas").joinpath("events.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
STREAM = {"namespace": None, "name": "users"}
COUNTS = {"stream": STREAM, "read": 3, "written": 3, "rejected": 0, "filtered": 0, "changed": 2}

GOOD: dict[str, control.Event] = {
    "hello": {
        "type": "hello",
        "protocol": "1.0",
        "program": "dativo-writer",
        "version": "0.1.0",
        "features": [],
    },
    "opened": {
        "type": "opened",
        "input": "0",
        "epoch": 3,
        "states": [{"kind": "stream", "stream": STREAM, "text": "{}"}],
        "recovered": [{"epoch": 4, "action": "dropped", "files": 2}],
    },
    "stream_schema": {
        "type": "stream_schema",
        "input": "0",
        "stream": STREAM,
        "revision": 1,
        "key": ["id"],
        "columns": [
            {"property": "id", "type": "decimal(38,9)"},
            {"property": "_dativo_id", "type": "string", "metadata": True},
        ],
    },
    "stream_plan": {
        "type": "stream_plan",
        "input": "0",
        "stream": STREAM,
        "revision": 1,
        "table": "shop.users",
        "schema_id": 0,
        "columns": [
            {"property": "id", "column": "id", "type": "long", "field_id": 1, "required": False},
            {
                "property": "A",
                "column": "a",
                "field_id": 2,
                "type": {
                    "type": "struct",
                    "fields": [
                        {
                            "property": "l",
                            "column": "l",
                            "field_id": 3,
                            "type": {
                                "type": "list",
                                "element_id": 4,
                                "element": {
                                    "type": "map",
                                    "key_id": 5,
                                    "value_id": 6,
                                    "value": "date",
                                },
                            },
                        }
                    ],
                },
            },
        ],
        "epoch": 3,
        "generation": 2,
        "partition": [{"field_id": 1, "transform": "bucket[16]"}],
        "sort": [{"field_id": 1, "descending": False, "nulls_first": True}],
    },
    "table": {
        "type": "table",
        "input": "0",
        "stream": STREAM,
        "table": "shop.users",
        "metadata_location": None,
        "files": [{"path": "/lake/shop/users/1.parquet", "rows": 3, "bytes": 400}],
        "columns": [{"property": "Id", "column": "id", "type": "long", "field_id": 1}],
    },
    "state_seen": {
        "type": "state_seen",
        "input": "0",
        "kind": "stream",
        "stream": STREAM,
        "line": 812,
    },
    "sealed": {
        "type": "sealed",
        "input": "0",
        "sequence": 1,
        "final": False,
        "files": [
            {
                "stream": STREAM,
                "revision": 1,
                "path": "000001-0000.parquet",
                "rows": 3,
                "bytes": 400,
                "sha256": "a" * 64,
                "version": 7,
                "partition": [None, True, -1, "a"],
            }
        ],
        "states": [{"kind": "singer", "stream": None, "text": "{}"}],
        "counts": [COUNTS],
        "complete": False,
        "echo": [{"number": 1, "text": "{}"}],
        "activations": [{"stream": STREAM, "version": 7}],
        "consumed": ["a/b.json.gz"],
    },
    "inspected": {
        "type": "inspected",
        "input": "0",
        "sequence": 1,
        "path": "000001-0000.parquet",
        "rows": 3,
        "bytes": 400,
        "sha256": "0" * 64,
        "columns": [
            {
                "field_id": 1,
                "bytes": 90,
                "values": 3,
                "nulls": 0,
                "nans": None,
                "lower": "AQAAAAAAAAA=",
                "upper": None,
            }
        ],
    },
    "committed": {
        "type": "committed",
        "input": "0",
        "sequence": 1,
        "epoch": 4,
        "tables": [
            {
                "stream": STREAM,
                "table": "shop.users",
                "rows": 3,
                "files": 1,
                "bytes": 400,
                "snapshot_id": "73",
                "metadata_location": "/lake/shop/users/metadata/1.json",
            }
        ],
    },
    "stats": {
        "type": "stats",
        "input": "0",
        "bytes": 1,
        "lines": 1,
        "text_lines": 0,
        "idle_s": 0.5,
        "blocked_s": 0,
        "staged_bytes": 0,
        "ended": False,
        "counts": [COUNTS],
        "waited_s": 1.5,
        "oddities": {"blank_line": 2},
    },
    "state_passed": {
        "type": "state_passed",
        "input": "0",
        "number": 1,
        "kind": "stream",
        "stream": STREAM,
        "text": "{}",
        "sent": None,
    },
    "limited": {"type": "limited", "input": "0"},
    "acknowledged": {"type": "acknowledged", "input": "0", "line": 1, "text": "{}"},
    "passed": {"type": "passed", "input": "0", "lines": 3, "counts": [COUNTS]},
    "pumped": {"type": "pumped", "name": "stdin", "bytes": 3, "end": "eof", "message": None},
    "opened_broker": {"type": "opened", "clients": ["source"]},
    "connection": {
        "type": "connection",
        "client": "source",
        "name": "api.example.com",
        "address": "93.184.216.34",
        "port": 443,
        "verdict": "ok",
        "up_bytes": 1200,
        "down_bytes": 53000,
        "seconds": 0.8,
        "detail": None,
    },
    "lookup": {
        "type": "lookup",
        "client": "source",
        "name": "evil\\032.test",
        "kind": "A",
        "verdict": "not_granted",
        "count": 1,
    },
    "finished": {
        "type": "finished",
        "clients": [
            {
                "client": "source",
                "connections": 12,
                "refused": 1,
                "up_bytes": 14000,
                "down_bytes": 530000,
                "lookups": 14,
                "suppressed": 0,
            }
        ],
    },
    "message": {
        "type": "message",
        "input": "0",
        "kind": "log",
        "level": "INFO",
        "text": "hello",
        "line": None,
        "suppressed": 0,
    },
    "closed": {"type": "closed"},
    "error": {
        "type": "error",
        "code": "json.invalid",
        "blame": "plugin",
        "message": "no",
        "line": 4,
        "byte": 90,
    },
}


@pytest.mark.parametrize("kind", GOOD)
def test_good_events_pass_parser_and_schema(kind: str) -> None:
    events.parse(GOOD[kind])
    VALIDATOR.validate(GOOD[kind])


@pytest.mark.parametrize("kind", GOOD)
def test_every_required_field_is_missed_by_both(kind: str) -> None:
    required = SCHEMA["$defs"][kind]["required"]
    for field in (name for name in required if name != "type"):
        broken = {name: value for name, value in GOOD[kind].items() if name != field}
        with pytest.raises(ProtocolViolation):
            events.parse(broken)
        assert not VALIDATOR.is_valid(broken)


WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_parser_never_accepts_what_the_schema_refuses(kind: str, data: st.DataObject) -> None:
    event = json.loads(json.dumps(GOOD[kind]))
    field = data.draw(st.sampled_from(sorted(event)))
    if field == "type":
        return
    event[field] = data.draw(WRONG)
    try:
        events.parse(event)
    except ProtocolViolation:
        return
    VALIDATOR.validate(event)


@given(st.sampled_from(["stream_schema", "stream_plan"]), st.data())
def test_columns_are_never_accepted_where_the_schema_refuses(
    kind: str, data: st.DataObject
) -> None:
    event = json.loads(json.dumps(GOOD[kind]))
    at = event["columns"][-1]
    while data.draw(st.booleans()):
        inner = [each for each in at.values() if isinstance(each, dict | list)]
        if not inner:
            break
        at = inner[0][0] if isinstance(inner[0], list) else inner[0]
    at[data.draw(st.sampled_from(sorted(at)))] = data.draw(WRONG | st.just("struct"))
    try:
        events.parse(event)
    except ProtocolViolation:
        return
    VALIDATOR.validate(event)


@pytest.mark.parametrize(
    "field", ["field_id", "bytes", "values", "nulls", "nans", "lower", "upper"]
)
@given(value=WRONG)
def test_metrics_are_never_accepted_where_the_schema_refuses(field: str, value: object) -> None:
    event = json.loads(json.dumps(GOOD["inspected"]))
    event["columns"][0][field] = value
    try:
        events.parse(event)
    except ProtocolViolation:
        pass
    else:
        VALIDATOR.validate(event)
    del event["columns"][0][field]
    with pytest.raises(ProtocolViolation):
        events.parse(event)
    assert not VALIDATOR.is_valid(event)


@given(st.sampled_from(["partition", "sort"]), st.data())
def test_layouts_are_never_accepted_where_the_schema_refuses(key: str, data: st.DataObject) -> None:
    event = json.loads(json.dumps(GOOD["stream_plan"]))
    field = event[key][0]
    name = data.draw(st.sampled_from(sorted(field)))
    field[name] = data.draw(WRONG)
    try:
        events.parse(event)
    except ProtocolViolation:
        pass
    else:
        VALIDATOR.validate(event)
    del field[name]
    with pytest.raises(ProtocolViolation):
        events.parse(event)
    assert not VALIDATOR.is_valid(event)


@pytest.mark.parametrize(
    "name", ["identity", "year", "month", "day", "hour", "bucket[1]", "truncate[2147483647]"]
)
def test_transforms_of_iceberg_are_taken(name: str) -> None:
    event = json.loads(json.dumps(GOOD["stream_plan"]))
    event["partition"][0]["transform"] = name
    events.parse(event)
    VALIDATOR.validate(event)


@pytest.mark.parametrize(
    "name",
    [
        "void",
        "Day",
        "day ",
        "bucket",
        "bucket[0]",
        "bucket[01]",
        "bucket[2147483648]",
        "truncate[-1]",
        "bucket[١]",
    ],
)
def test_other_transforms_are_refused(name: str) -> None:
    event = json.loads(json.dumps(GOOD["stream_plan"]))
    event["partition"][0]["transform"] = name
    with pytest.raises(ProtocolViolation, match="transform"):
        events.parse(event)


def test_a_layout_has_at_most_sixteen_fields() -> None:
    for kind, keys in {"stream_plan": ("partition", "sort"), "sealed": ("files",)}.items():
        for key in keys:
            event = json.loads(json.dumps(GOOD[kind]))
            holder, at = (event["files"][0], "partition") if key == "files" else (event, key)
            holder[at] = holder[at][:1] * 17
            with pytest.raises(ProtocolViolation, match="at most 16"):
                events.parse(event)
            assert not VALIDATOR.is_valid(event)


@pytest.mark.parametrize("value", [1.5, 2**63, -(2**63) - 1, "a" * 345, [], {}])
def test_partitions_of_files_hold_short_scalars(value: object) -> None:
    event = json.loads(json.dumps(GOOD["sealed"]))
    event["files"][0]["partition"] = [value]
    with pytest.raises(ProtocolViolation, match="partition"):
        events.parse(event)
    assert not VALIDATOR.is_valid(event)


def test_a_file_without_partition_has_none() -> None:
    event = json.loads(json.dumps(GOOD["sealed"]))
    del event["files"][0]["partition"]
    sealed = events.parse(event)
    assert isinstance(sealed, events.Sealed)
    assert sealed.files[0].partition is None
    empty: tuple[object, ...] = (None, [])
    for none in empty:
        event["files"][0]["partition"] = none
        with pytest.raises(ProtocolViolation, match="partition"):
            events.parse(event)
        assert not VALIDATOR.is_valid(event)


@pytest.mark.parametrize(
    "path", ["../x.parquet", "a/b.parquet", "x.parquet\n", "X.parquet", "a.txt"]
)
def test_staged_paths_are_names_of_one_form(path: str) -> None:
    event = json.loads(json.dumps(GOOD["sealed"]))
    event["files"][0]["path"] = path
    with pytest.raises(ProtocolViolation):
        events.parse(event)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 0),
        ("port", 65536),
        ("verdict", "fine"),
        ("up_bytes", -1),
        ("seconds", -0.5),
        ("name", "a b"),
        ("name", "a\x1b"),
        ("name", ""),
        ("address", "10.0.0.1%eth0"),
        ("detail", "x" * 1025),
    ],
)
def test_what_no_connection_can_be(field: str, value: object) -> None:
    event = {**GOOD["connection"], field: value}
    with pytest.raises(ProtocolViolation, match=rf"connection\.{field} is not"):
        events.parse(event)
    assert not VALIDATOR.is_valid(event)


def test_every_verdict_is_in_the_document() -> None:
    text = (Path(__file__).parents[3] / "docs/spec/network.md").read_text()
    assert [word for word in events.VERDICTS if f"`{word}`" not in text] == []


def test_every_event_of_the_document_is_in_the_schema() -> None:
    text = (Path(__file__).parents[3] / "docs/spec/events.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    in_schema = {
        re.sub("^(open|opened|finish)_.*", r"\1", entry["$ref"].rpartition("/")[2])
        for entry in SCHEMA["oneOf"]
    }
    assert named == in_schema


@pytest.mark.parametrize(
    "event",
    [
        '{"type":"stream_schema","input":DEEP}',
        '{"type":"sealed","input":"0","sequence":1,"final":false,"files":[DEEP]}',
        '{"type":"stream_schema","columns":[{"property":"a","type":DEEP}]}',
        '{"type":"stream_schema","columns":[],"key":[DEEP]}',
        '{"type":"state_passed","sent":null,"stream":DEEP}',
        '{"type":"opened","input":"0","epoch":0,"states":[DEEP]}',
    ],
)
@pytest.mark.parametrize("deep", ["[" * 990 + "]" * 990, '{"a":' * 990 + "1" + "}" * 990])
def test_a_value_of_any_depth_is_refused(event: str, deep: str) -> None:
    with pytest.raises(ProtocolViolation) as raised:
        events.parse(control.decode(event.replace("DEEP", deep).encode()))
    assert len(raised.value.value or "") <= 200


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_violation(data: bytes) -> None:
    buffer = control.LineBuffer()
    try:
        for event in buffer.feed(data):
            events.parse(event)
    except ProtocolViolation:
        pass
    else:
        assert b"\n" not in data or buffer.unfinished


@given(st.lists(st.integers(1, 40)))
def test_lines_do_not_depend_on_how_they_are_cut(cuts: list[int]) -> None:
    stream = b"".join(control.encode(event) for event in GOOD.values())
    buffer, got, at = control.LineBuffer(), [], 0
    for cut in [*cuts, len(stream)]:
        got += list(buffer.feed(stream[at : at + cut]))
        at += cut
    assert got == list(GOOD.values())


def test_another_major_is_refused_and_a_newer_minor_is_not() -> None:
    newer = events.Hello("1.7", "dativo-writer", "9", ("arrow",))
    assert handshake.agree(newer, program="dativo-writer").features == frozenset()
    with pytest.raises(ProtocolViolation, match=r"protocol 2\.0"):
        handshake.agree(events.Hello("2.0", "dativo-writer", "9", ()), program="dativo-writer")
    with pytest.raises(ProtocolViolation, match="answered"):
        handshake.agree(events.Hello("1.0", "impostor", "9", ()), program="dativo-writer")
