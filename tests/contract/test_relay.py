"""What goes in and what comes out of the relay, in both dialects each way (docs/spec/events.md, docs/spec/wire.md)."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
from tests.contract.relay_kernel import Relay, acks, opening, play, stream

USERS_SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}}
USERS = stream("users", schema=USERS_SCHEMA, key=["id"])
ORDERS = stream("orders", namespace="shop", out="shop__orders", schema=USERS_SCHEMA)
SINGER_SCHEMA = (
    '{"type":"SCHEMA","stream":"users","schema":{"properties":{"id":{}}},"key_properties":["id"]}'
)
HALF = b'{"type":'


def text(*lines: str) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def record(data: str, more: str = ',"emitted_at":1795455000123', name: str = "users") -> str:
    return f'{{"type":"RECORD","record":{{"stream":"{name}","data":{data}{more}}}}}'


def state(name: str, value: str, namespace: str | None = None) -> str:
    """An Airbyte state of a stream, without its envelope."""
    space = f',"namespace":"{namespace}"' if namespace else ""
    descriptor = f'{{"name":"{name}"{space}}}'
    return (
        f'{{"type":"STREAM","stream":{{"stream_descriptor":{descriptor},"stream_state":{value}}}}}'
    )


def enveloped(inner: str) -> str:
    return f'{{"type":"STATE","state":{inner}}}'


def singer(data: str, more: str = "", name: str = "users") -> str:
    return f'{{"type":"RECORD","stream":"{name}","record":{data}{more}}}'


def value(inner: str) -> str:
    return f'{{"type":"STATE","value":{inner}}}'


# --- the four ways


def test_airbyte_becomes_singer() -> None:
    a, b = state("users", '{"x": 1.50}'), state("orders", "2", "shop")
    data = '{"a": 1.0 , "b":"\\u00e9"}'
    other = f'{{ "type":"RECORD","record": {{"namespace":"shop", "emitted_at":0,"data":{data},"stream":"orders"}}}}'
    relay = play(
        opening("airbyte", "singer", [USERS, ORDERS]),
        text(record('{"id":1}'), enveloped(a), other, enveloped(b), enveloped(a)),
    )
    schema = json.dumps(USERS_SCHEMA)
    assert relay.status == 0 and relay.lines() == [
        f'{{"type":"SCHEMA","stream":"users","schema":{schema},"key_properties":["id"]}}',
        f'{{"type":"SCHEMA","stream":"shop__orders","schema":{schema},"key_properties":[]}}',
        singer('{"id":1}', ',"time_extracted":"2026-11-23T17:30:00.123Z"'),
        value(f'{{"airbyte_states":[{a}]}}'),
        singer('{"a": 1.0 , "b":"\\u00e9"}', ',"time_extracted":"1970-01-01T00:00:00.000Z"', "shop__orders"),
        value(f'{{"airbyte_states":[{a},{b}]}}'),
        value(f'{{"airbyte_states":[{a},{b}]}}'),
    ]  # fmt: skip
    (passed,) = relay.of("passed")
    assert passed["lines"] == 5
    assert [(c["read"], c["written"], c["filtered"]) for c in passed["counts"]] == [
        (1, 1, 0),
        (1, 1, 0),
    ]


def test_singer_becomes_airbyte() -> None:
    relay = play(
        opening("singer", "airbyte", [USERS]),
        text(
            SINGER_SCHEMA,
            singer(
                '{"id": 1.0}', ',"time_extracted":"2026-11-23T18:30:00.123456+01:00","version":7'
            ),
            value('{"bookmarks": {"users":1.10}}'),
            '{"type":"ACTIVATE_VERSION","stream":"users","version":7}',
        ),
    )
    assert relay.status == 0 and relay.lines() == [
        record('{"id": 1.0}'),
        enveloped(
            '{"type":"GLOBAL","global":{"shared_state":{"singer_state":{"bookmarks": {"users":1.10}}},"stream_states":[]}}'
        ),
    ]
    (message,) = relay.of("message")
    assert message["kind"] == "unknown" and "ACTIVATE_VERSION" in message["text"]


def test_singer_stays_singer_in_capitals_without_what_targets_choke_on() -> None:
    relay = play(
        opening("singer", "singer", [USERS]),
        b"\xef\xbb\xbf" + text(
            "",
            "starting up …",
            '{"type":"schema","stream":"users","schema":{"properties":{"id":{"x":1.0}}},"bookmark_properties":["id"]}',
            '{"type":"Record","record":{"id":1.0},"stream":"users","time_extracted":"2026-01-01T00:00:00Z","version":7,"extra":1}\r',
            '{"type":"LOG","message":"what"}',
            '{"type":"activate_version","stream":"users","version":7}',
            '{"type":"state", "value": {"a": [1 , 2]}}',
        ),
    )  # fmt: skip
    assert relay.status == 0 and relay.lines() == [
        '{"type":"SCHEMA","stream":"users","schema":{"properties":{"id":{"x":1.0}}},"key_properties":[],"bookmark_properties":["id"]}',
        singer('{"id":1.0}', ',"time_extracted":"2026-01-01T00:00:00Z","version":7'),
        '{"type":"ACTIVATE_VERSION","stream":"users","version":7}',
        value('{"a": [1 , 2]}'),
    ]
    assert [m["kind"] for m in relay.of("message")] == ["text", "unknown"]
    assert relay.of("stats")[-1]["oddities"] == {
        "blank_line": 1, "text_line": 1, "bom": 1, "crlf": 1, "type_case": 4, "unknown_type": 1,
    }  # fmt: skip


def test_airbyte_stays_airbyte_and_only_records_and_states_go_on() -> None:
    inner = state("users", "{}")
    kept = '"data":{"id":1},"emitted_at":17.5e2,"meta":{"changes":[ ]}'
    sent = f'{{"type":"RECORD","record":{{"stream":"users","namespace":"",{kept},"x":1}},"y":2}}'
    relay = play(
        opening("airbyte", "airbyte", [USERS]),
        text(
            '{"type":"LOG","log":{"level":"INFO","message":"hello"}}',
            sent,
            '{"type":"TRACE","trace":{"type":"ERROR","emitted_at":1,"error":{"message":"oh"}}}',
            '{"type":"CONTROL","control":{"type":"CONNECTOR_CONFIG","emitted_at":1,"connectorConfig":{"config":{}}}}',
            enveloped(inner),
        ),
    )
    assert relay.status == 0 and relay.lines() == [
        record('{"id":1}', ',"emitted_at":17.5e2,"meta":{"changes":[ ]}'),
        enveloped(inner),
    ]
    assert [m["kind"] for m in relay.of("message")] == ["log", "trace_error", "control"]


def test_a_record_without_a_time_gets_the_present_in_airbyte_and_none_in_singer() -> None:
    before = time.time() * 1000
    relay = play(opening("airbyte", "airbyte", [USERS]), text(record("{}", "")))
    (line,) = relay.lines()
    assert before - 1 <= json.loads(line)["record"]["emitted_at"] <= time.time() * 1000
    relay = play(opening("airbyte", "singer", [USERS]), text(record("{}", ',"emitted_at":null')))
    assert relay.lines()[1:] == [singer("{}")]


# --- what is left out


@pytest.mark.parametrize("to", ["singer", "airbyte"])
def test_deselected_fields_are_left_out_and_the_others_keep_their_bytes(to: str) -> None:
    users = stream("users", drop=["ssn", "é"])
    properties = '{"id":{},"ssn":{},"z":{}}'
    schema = f'{{"type":"SCHEMA","stream":"users","schema":{{"properties":{properties},"x":1}},"key_properties":["id"]}}'
    rows = [
        '{"ssn":"123","id":1.0,"\\u00e9":{"ssn":2}, "z" : [ "ssn" ]}',
        '{"id":2}',
        '{"s\\u0073n":1}',
    ]
    relay = play(opening("singer", to, [users]), text(schema, *map(singer, rows)))
    lines = relay.lines()
    if to == "singer":
        assert lines.pop(0) == schema.replace('"ssn":{},', "")
        found = [line.split('"record":')[1][:-1] for line in lines]
    else:
        found = [line.split('"data":')[1].split(',"emitted_at"')[0] for line in lines]
    assert found == ['{"id":1.0,"z" : [ "ssn" ]}', '{"id":2}', "{}"]


def test_records_beyond_the_most_asked_for_are_dropped_and_no_state_speaks_for_them() -> None:
    one, two = stream("one"), stream("two")
    lines = [
        enveloped(state("one", "0")),
        record('{"n":1}', name="one"),
        enveloped(state("one", "1")),
        record('{"n":2}', name="one"),
        enveloped(state("one", "2")),
        record('{"n":3}', name="one"),
        enveloped(state("one", "3")),
        record('{"n":4}', name="two"),
        record('{"n":5}', name="two"),
        record('{"n":6}', name="two"),
    ]
    with Relay(opening("airbyte", "airbyte", [one, two], max_records=2)) as relay:
        relay.feed(text(*lines) + HALF)
        relay.expect("limited")
        relay.close_stdin()
        relay.finish(complete=False)
        relay.drain()
    assert relay.status == 0 and len(relay.of("limited")) == 1
    kept = [index for index in range(len(lines)) if index not in (5, 6, 9)]
    assert relay.lines() == [lines[index] for index in kept]
    assert [(c["read"], c["written"], c["filtered"]) for c in relay.of("passed")[0]["counts"]] == [
        (3, 2, 1), (3, 2, 1)
    ]  # fmt: skip


def test_no_records_asked_for_is_limited_at_once() -> None:
    with Relay(opening("airbyte", "airbyte", [USERS], max_records=0)) as relay:
        relay.expect("limited")
        relay.feed(text(record("{}")))
        relay.close_stdin()
        relay.finish()
        relay.drain()
    assert relay.lines() == []


# --- states


@pytest.mark.parametrize("to", ["airbyte", "singer"])
def test_states_are_reported_as_written_and_as_sent(to: str) -> None:
    inner = state("users", '{"x": 1.0}')
    relay = play(
        opening("airbyte", to, [USERS], report_states=True),
        text(enveloped(inner), enveloped('{"data":{"l": 1}}')),
    )
    passed = relay.of("state_passed")
    assert [(p["number"], p["kind"], p["text"]) for p in passed] == [
        (1, "stream", inner),
        (2, "legacy", '{"data":{"l": 1}}'),
    ]
    sent = [f'{{"airbyte_states":[{inner}]}}', '{"airbyte_states":[{"data":{"l": 1}}]}']
    assert [p["sent"] for p in passed] == (sent if to == "singer" else [None, None])
    assert passed[0]["stream"] == {"namespace": None, "name": "users"}
    assert not relay.of("state_seen")


def test_withheld_states_wait_in_order_while_records_pass() -> None:
    def line(number: int) -> str:
        return value(str(number))

    open_ = opening("singer", "singer", [USERS], states="withhold", report_states=True)
    with Relay(open_) as relay:
        relay.feed(
            text(SINGER_SCHEMA, line(1), singer('{"id":1}'), line(2), singer('{"id":2}'), line(3))
        )
        relay.wait_for(len(text(SINGER_SCHEMA, singer('{"id":1}'), singer('{"id":2}'))) - 2)
        assert b"STATE" not in relay.output
        relay.send({"type": "release", "number": 2})
        assert [relay.expect("state_passed")["number"] for _ in range(2)] == [1, 2]
        relay.close_stdin()
        relay.finish()
        relay.drain()
    assert relay.lines() == [
        SINGER_SCHEMA,
        singer('{"id":1}'),
        singer('{"id":2}'),
        line(1),
        line(2),
    ]


def test_states_can_be_dropped() -> None:
    relay = play(
        opening("singer", "singer", [USERS], states="drop"), text(SINGER_SCHEMA, value("1"))
    )
    assert relay.lines() == [SINGER_SCHEMA] and len(relay.of("state_seen")) == 1


def test_withheld_states_are_bounded() -> None:
    open_ = opening(
        "singer", "singer", [USERS], states="withhold", limits={"max_withheld_bytes": 10_000}
    )
    relay = play(open_, *[text(value(json.dumps("x" * 1000)))] * 20)
    assert relay.status == 6 and relay.error()["code"] == "limit.withheld_states"


def test_all_states_together_fit_a_singer_state_or_the_run_ends() -> None:
    streams = [stream(f"s{number}", schema=USERS_SCHEMA) for number in range(20)]
    states = [enveloped(state(f"s{number}", json.dumps("x" * 100))) for number in range(20)]
    relay = play(
        opening("airbyte", "singer", streams, limits={"max_state_bytes": 2000}), text(*states)
    )
    assert relay.status == 7 and relay.error()["code"] == "state.too_large"
    assert not relay.output.endswith(b"\n")


# --- statuses


@pytest.mark.parametrize("complete", [True, False])
def test_statuses_of_streams(complete: bool) -> None:
    open_ = opening("singer", "airbyte", [USERS, stream("empty", namespace="n")], statuses=True)
    relay = play(open_, text(SINGER_SCHEMA, singer("{}"), singer("{}")), complete=complete)
    seen = []
    for line in relay.lines():
        message = json.loads(line)
        if message["type"] == "TRACE":
            status = message["trace"]["stream_status"]
            seen.append((status["status"], status["stream_descriptor"]))
        else:
            seen.append((message["type"], {}))
    users, empty = {"name": "users"}, {"name": "empty", "namespace": "n"}
    started: list[tuple[str, dict[str, Any]]] = [("STARTED", users), ("RECORD", {}), ("RECORD", {})]
    ended = [("COMPLETE", users), ("STARTED", empty), ("COMPLETE", empty)]
    assert seen == started + (ended if complete else [])


# --- streams nobody declared


def test_a_singer_schema_may_declare_a_stream_where_that_is_allowed() -> None:
    schema = (
        '{"type":"SCHEMA","stream":"new \\"one\\"","schema":{"properties":{}},"key_properties":[]}'
    )
    row = '{"type":"RECORD","stream":"new \\"one\\"","record":{}}'
    relay = play(opening("singer", "singer", [], undeclared="accept"), text(schema, row))
    assert relay.lines() == [schema, row]
    relay = play(opening("singer", "singer", []), text(schema, row))
    assert relay.status == 7 and relay.error()["code"] == "message.unknown_stream"


def test_streams_that_declare_themselves_are_bounded() -> None:
    def schema(name: str) -> str:
        return f'{{"type":"SCHEMA","stream":"{name}","schema":{{}},"key_properties":[]}}'

    open_ = opening("singer", "singer", [], undeclared="accept", limits={"max_streams": 10})
    relay = play(open_, text(*[schema(f"s{number % 10}") for number in range(30)]))
    assert relay.status == 0
    relay = play(open_, text(*[schema(f"s{number}") for number in range(11)]))
    assert relay.status == 6 and relay.error()["code"] == "limit.streams"
    for name in ["", "x" * 1025]:
        assert play(open_, text(schema(name))).error()["code"] == "message.invalid"


# --- acknowledgements


def test_acknowledgements_of_a_singer_target() -> None:
    relay = play(
        acks("singer"),
        b'starting\n\n{"a": 1.0}\r\n  [1]  \nnull\n"INFO x"\nINFO {"a":1}\n{"a":NaN}\n',
    )
    assert relay.status == 0 and not relay.output
    assert [(a["line"], a["text"]) for a in relay.of("acknowledged")] == [
        (3, '{"a": 1.0}'), (4, "[1]"), (5, "null"), (6, '"INFO x"')
    ]  # fmt: skip
    assert [m["text"] for m in relay.of("message")] == ["starting", 'INFO {"a":1}', '{"a":NaN}']
    assert relay.of("stats")[-1]["ended"] and relay.of("passed")[0]["lines"] == 8


def test_acknowledgements_of_an_airbyte_destination() -> None:
    inner = state("users", '{"x": 1.0}')
    log = '{"type":"LOG","log":{"level":"INFO","message":"hello"}}'
    relay = play(acks("airbyte"), text("noise", log, enveloped(inner)))
    assert [a["text"] for a in relay.of("acknowledged")] == [inner]
    assert [m["kind"] for m in relay.of("message")] == ["text", "log"]
    relay = play(acks("airbyte"), text(record("{}")))
    assert relay.status == 7 and relay.error()["code"] == "message.invalid"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"a":1}', "framing.half_line"),
        (b'{"a":"' + b"x" * 3000 + b'"}\n', "state.too_large"),
        (b"x" * 9000 + b"\n", "framing.line_too_long"),
        (b"[" * 80 + b"]" * 80 + b"\n", "json.too_deep"),
        (b"text\n" * 11, "limit.text_lines"),
        (b"x" * 4000 + b"\n" + b"x" * 4000 + b"\n" + b"y" * 4000, "limit.output"),
    ],
)
def test_a_target_is_bounded_too(line: bytes, code: str) -> None:
    opened = acks(
        "singer",
        max_state_bytes=2000,
        max_line_bytes=8000,
        max_text_lines=10,
        max_output_bytes=10_000,
    )
    relay = play(opened, line)
    assert relay.status in (6, 7) and relay.error()["code"] == code
    assert not relay.of("acknowledged")


def test_strict_acknowledgements_are_nothing_but_states() -> None:
    relay = play(acks("singer", strict=True), b'{"a":1}\nhello\n')
    assert relay.status == 7 and relay.error()["code"] == "framing.text_line"


# --- ends


def test_the_last_two_bytes_wait_for_finish() -> None:
    with Relay(opening("singer", "singer", [USERS])) as relay:
        relay.feed(text(SINGER_SCHEMA, singer('{"id":1}')))
        whole = text(SINGER_SCHEMA, singer('{"id":1}'))
        assert relay.wait_for(len(whole) - 2) == whole[:-2]
        relay.close_stdin()
        while not relay.expect("stats")["ended"]:
            pass
        assert relay.output == whole[:-2]
        relay.finish()
        relay.expect("passed")
        assert relay.wait_for(len(whole)) == whole
        relay.drain()
    assert relay.status == 0 and relay.output == whole


@pytest.mark.parametrize("half", [b"", HALF], ids=["whole", "half"])
def test_a_finish_at_once_does_not_wait_for_the_end_of_the_input(half: bytes) -> None:
    whole = text(SINGER_SCHEMA, singer('{"id":1}'))
    with Relay(opening("singer", "singer", [USERS])) as relay:
        relay.feed(whole + half)
        relay.wait_for(len(whole) - 2)
        relay.finish(complete=False, at_once=True)
        assert relay.expect("passed", timeout_s=5)["lines"] == 2
        relay.drain()
    assert relay.status == 0 and relay.output == whole
    assert not relay.of("stats")[-1]["ended"]


def test_a_finish_at_once_puts_out_all_that_was_taken() -> None:
    rows = text(SINGER_SCHEMA, *[singer(f'{{"id":{number}}}') for number in range(100_000)])
    with Relay(opening("singer", "singer", [USERS]), read=False) as relay:
        relay.feed_all(iter([rows]))
        while relay.expect("stats")["blocked_s"] < 0.5:
            pass
        relay.finish(complete=False, at_once=True)
        output = b""
        while data := os.read(relay.stdout, 1 << 16):
            output += data
        lines = relay.expect("passed", timeout_s=5)["lines"]
        relay.drain()
    assert relay.status == 0 and rows.startswith(output) and output.endswith(b"}\n")
    assert output.count(b"\n") == lines < 100_000


def test_a_finish_at_once_ends_acknowledgements_too() -> None:
    with Relay(acks("singer")) as relay:
        relay.feed(b"1\n" + HALF)
        relay.expect("acknowledged")
        relay.finish(at_once=True)
        relay.expect("passed", timeout_s=5)
        relay.drain()
    assert relay.status == 0
