"""The table of docs/spec/wire.md, tolerant and strict, and what no line may do to the relay: hang it or take its memory."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.relay_kernel import Relay, opening, play, stream

MB = 1_000_000
FLAT_BYTES = 16 * MB
USERS = stream("users", schema={"type": "object"})
SCHEMA = b'{"type":"SCHEMA","stream":"users","schema":{},"key_properties":[]}\n'


def airbyte(data: str) -> str:
    return f'{{"type":"RECORD","record":{{"stream":"users","data":{data},"emitted_at":1}}}}'


def singer(record: str) -> str:
    return f'{{"type":"RECORD","stream":"users","record":{record}}}'


def message(dialect: str, data: str) -> str:
    return airbyte(data) if dialect == "airbyte" else singer(data)


def start(dialect: str) -> bytes:
    return SCHEMA if dialect == "singer" else b""


ODD: list[tuple[str, str, str]] = [
    ("", "blank_line", "framing.blank_line"),
    ("  \t ", "blank_line", "framing.blank_line"),
    ("hello", "text_line", "framing.text_line"),
    ("[1]", "text_line", "framing.text_line"),
    ("\N{NO-BREAK SPACE}{}", "text_line", "framing.text_line"),
    ("DATA\r", "crlf", "framing.crlf"),
    ('{"a":NaN,"b":[-Infinity,Infinity]}', "nan", "json.nan"),
    ('{"a":"\\u0000"}', "nul", "json.nul"),
    ('{"a":"x\\ud800"}', "lone_surrogate", "json.lone_surrogate"),
    ('{"\\udc00":1}', "lone_surrogate", "json.lone_surrogate"),
    ('{"a":"\\ud800\\u0041"}', "lone_surrogate", "json.lone_surrogate"),
    ('{"a":1,"b":2,"\\u0061":3}', "duplicate_key", "json.duplicate_key"),
    ('{"type":"FISH"}', "unknown_type", "message.unknown_type"),
]


@pytest.mark.parametrize("dialect", ["airbyte", "singer"])
@pytest.mark.parametrize(("line", "name", "code"), ODD)
def test_what_is_tolerated_is_counted_and_strict_refuses_it(
    dialect: str, line: str, name: str, code: str
) -> None:
    is_data = line.startswith('{"') and "type" not in line
    if is_data:
        line = message(dialect, line)
    elif line.startswith("DATA"):
        line = line.replace("DATA", message(dialect, "{}"))
    fed = start(dialect) + line.encode() + b"\n" + message(dialect, "{}").encode() + b"\n"
    relay = play(opening(dialect, dialect, [USERS]), fed)
    assert relay.status == 0, relay.of("error")
    assert relay.of("stats")[-1]["oddities"] == {name: 1}
    lines = relay.lines()
    assert lines[-1] == message(dialect, "{}")
    assert not is_data or line in lines  # its bytes are those of the source

    relay = play(opening(dialect, dialect, [USERS], strict=True), fed)
    assert relay.status == 7
    number = 2 if dialect == "singer" else 1
    assert (relay.error()["code"], relay.error()["line"]) == (code, number)
    assert relay.error()["byte"] == len(start(dialect))


@pytest.mark.parametrize("strict", [False, True])
def test_a_byte_order_mark(strict: bool) -> None:
    fed = b"\xef\xbb\xbf" + airbyte("{}").encode() + b"\n"
    relay = play(opening("airbyte", "airbyte", [USERS], strict=strict), fed)
    if strict:
        assert relay.error()["code"] == "framing.bom"
    else:
        assert relay.of("stats")[-1]["oddities"] == {"bom": 1}
        assert relay.lines() == [airbyte("{}")]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "kind", ["Record", "record", "STATE", "State", "Schema", "activate_version"]
)
def test_types_in_any_case(kind: str, strict: bool) -> None:
    payload = '"stream":"users","record":{},"value":1,"schema":{},"key_properties":[],"version":1'
    fed = SCHEMA + f'{{"type":"{kind}",{payload}}}\n'.encode()
    relay = play(opening("singer", "singer", [USERS], strict=strict), fed)
    if strict and kind != "STATE":
        assert relay.error()["code"] == "message.type_case"
    else:
        assert relay.status == 0
        assert json.loads(relay.lines()[-1])["type"] == kind.upper()
    if kind.lower() in ("record", "state") and kind != "STATE":
        relay = play(opening("airbyte", "airbyte", [USERS], strict=strict), fed[len(SCHEMA) :])
        assert relay.error()["code"] == "message.invalid"


BAD: list[tuple[bytes, str]] = [
    (b"\xff", "framing.invalid_utf8"),
    (b"\xc3", "framing.invalid_utf8"),
    (b"\xed\xa0\x80", "framing.invalid_utf8"),
    (b"\x00", "json.invalid"),
    (b"\x1f", "json.invalid"),
    (b'x" "', "json.invalid"),
    (b"x\\q", "json.invalid"),
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dialect", ["airbyte", "singer"])
@pytest.mark.parametrize(("inside", "code"), BAD)
def test_what_is_refused_in_both_modes(
    dialect: str, strict: bool, inside: bytes, code: str
) -> None:
    good = message(dialect, '{"a":"?"}').encode()
    fed = start(dialect) + good.replace(b"?", inside) + b"\n"
    relay = play(opening(dialect, dialect, [USERS], strict=strict), fed)
    assert relay.status == 7 and relay.error()["code"] == code
    assert not relay.output.endswith(b"\n")


FORGED: list[tuple[str, str, str]] = [
    # A carriage return is space to JSON and a line's end to Python's text files.
    ("airbyte", airbyte('{"a":\r1}'), "framing.carriage_return"),
    ("singer", '{"type":"STATE","value":{"a":\r{"type":"STATE","value":2}\r}}', "framing.carriage_return"),
    ("airbyte", '{"type":"RECORD","record":{"stream":"others","data":{}}}', "message.unknown_stream"),
    ("airbyte", '{"type":"RECORD","record":{"stream":"users","namespace":"x","data":{}}}', "message.unknown_stream"),
    ("airbyte", '{"type":"RECORD","record":{"stream":"users","data":{},"namespace":"x"}}', "message.unknown_stream"),
    ("airbyte", '{"type":"RECORD","record":{"stream":"us\\ud800","data":{}}}', "message.invalid"),
    (
        "airbyte",
        '{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{"name":"others"}}}}',
        "state.undeclared",
    ),
    ("airbyte", '{"type":"STATE","state":{"type":"STREAM"}}', "state.empty"),
    ("airbyte", '{"type":"STATE","state":{"type":"FISH"}}', "state.invalid"),
    ("airbyte", '{"type":"STATE","state":{"data":{"a":NaN}}}', "state.invalid"),
    ("airbyte", '{"type":"STATE","state":{"data":1},"state":{"data":2}}', "json.duplicate_key"),
    ("airbyte", airbyte("[]"), "message.invalid"),
    ("airbyte", airbyte("{}").replace(":1}", ':"2026"}'), "message.invalid"),
    ("airbyte", airbyte("{}").replace(":1}", ":1,\"file_reference\":{}}"), "message.file_reference"),
    ("airbyte", airbyte("{" + ",".join(f'"k{n}":1' for n in range(51)) + "}"), "limit.columns"),
    ("airbyte", '{"a":' * 5000, "json.too_deep"),
    ("singer", singer("{}").replace("users", "others"), "message.unknown_stream"),
    ("singer", '{"type":"RECORD","stream":"late","record":{}}', "message.record_before_schema"),
    ("singer", '{"type":"SCHEMA","stream":"others","schema":{}}', "message.unknown_stream"),
    ("singer", '{"type":"SCHEMA","stream":"users","schema":[]}', "json.invalid"),
    ("singer", '{"type":"SCHEMA","stream":"users","schema":{"properties":[]}}', "schema.invalid"),
    ("singer", '{"type":"BATCH","stream":"users","manifest":["file:///etc/passwd"]}', "message.batch"),
    ("singer", '{"type":"ACTIVATE_VERSION","stream":"others","version":1}', "message.unknown_stream"),
    ("singer", '{"type":"ACTIVATE_VERSION","stream":"users","version":"1"}', "message.invalid"),
    ("singer", singer("{}").replace("}}", '},"version":1.5}'), "message.invalid"),
    ("singer", singer("{}").replace("}}", '},"time_extracted":5}'), "message.invalid"),
    ("singer", '{"type":"STATE"}', "state.empty"),
    ("singer", '{"type":"STATE","value":null}', "state.empty"),
    ("singer", '{"type":"STATE","value":"' + "x" * 2000 + '"}', "state.too_large"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "line", "code"), FORGED)
def test_what_is_forged_or_beyond_a_bound_ends_the_run(dialect: str, line: str, code: str) -> None:
    open_ = opening(
        dialect,
        dialect,
        [USERS, stream("late")],
        limits={"max_columns": 50, "max_state_bytes": 1000},
    )
    relay = play(open_, start(dialect) + line.encode() + b"\n")
    assert relay.error()["code"] == code
    assert relay.status == (6 if code.startswith("limit.") else 7)
    assert not relay.output.endswith(b"\n") and b"passwd" not in relay.output


def test_a_time_that_is_none_is_refused_in_translation() -> None:
    for when in ["1e30", "1.5", "300000000000000", '"x"']:
        line = airbyte("{}").replace(":1}", f":{when}}}")
        assert (
            play(opening("airbyte", "singer", [USERS]), line.encode() + b"\n").error()["code"]
            == "message.invalid"
        )
    for when in ['"yesterday"', '"2026-13-01T00:00:00Z"', "7"]:
        line = singer("{}").replace("}}", f'}},"time_extracted":{when}}}')
        relay = play(opening("singer", "airbyte", [USERS]), SCHEMA + line.encode() + b"\n")
        assert relay.error()["code"] == "message.invalid"


# --- memory and time


def endless(chunk: bytes) -> Iterator[bytes]:
    while True:
        yield chunk


@pytest.mark.parametrize(
    "chunk", [b"x" * 65536, b'{"type":"' + b"x" * 65536], ids=["text", "message"]
)
def test_an_endless_line_ends_at_the_limit(chunk: bytes) -> None:
    relay = play(
        opening("airbyte", "singer", [USERS], limits={"max_line_bytes": 4 * MB}), *[chunk] * 100
    )
    assert relay.status == 7 and relay.error()["code"] == "framing.line_too_long"
    assert relay.peak_bytes < FLAT_BYTES


@pytest.mark.parametrize("dialect", ["airbyte", "singer"])
def test_all_that_was_granted_passes_and_not_a_byte_more(dialect: str) -> None:
    lines = start(dialect) + (message(dialect, '{"id":1}') + "\n").encode() * 3
    limits = {"max_output_bytes": len(lines)}
    relay = play(opening(dialect, dialect, [USERS], limits=limits), lines)
    assert relay.status == 0 and relay.output.count(b'"RECORD"') == 3
    limits = {"max_output_bytes": len(lines) - 1}
    relay = play(opening(dialect, dialect, [USERS], limits=limits), lines)
    error = relay.error()
    assert relay.status == 6 and error["code"] == "limit.output"
    assert (error["line"], error["message"]) == (
        lines.count(b"\n"),
        f"more than {len(lines) - 1} bytes of output",
    )
    assert relay.output.count(b"}\n") < 3 + lines.count(b"SCHEMA")


def test_text_without_end_stops_at_its_limit() -> None:
    with Relay(opening("airbyte", "singer", [USERS])) as relay:
        relay.feed_all(endless(b"yes\n" * 10_000))
        relay.drain()
    assert relay.status == 6 and relay.error()["code"] == "limit.text_lines"
    assert len(relay.of("message")) == 1000
    assert relay.peak_bytes < FLAT_BYTES


def test_a_million_tiny_lines() -> None:
    lines = 1_000_000
    block = singer('{"i":1}').encode() + b"\n"
    relay = play(
        opening("singer", "airbyte", [USERS]),
        SCHEMA,
        *[block * 1000 + b"\n" * 1000] * (lines // 1000),
    )
    assert relay.status == 0
    assert relay.of("passed")[0]["counts"][0]["written"] == lines
    assert relay.output.count(b"\n") == lines
    assert relay.of("stats")[-1]["oddities"] == {"blank_line": lines}
    assert relay.peak_bytes < FLAT_BYTES


def test_new_keys_in_every_record_take_no_memory() -> None:
    def block(number: int) -> bytes:
        rows = (f'{{"{number}-{row}-{"k" * 60}":1}}' for row in range(1000))
        return "".join(singer(row) + "\n" for row in rows).encode()

    relay = play(opening("singer", "singer", [USERS]), SCHEMA, *map(block, range(300)))
    assert relay.status == 0 and relay.peak_bytes < FLAT_BYTES


def test_noise_ends_in_one_error() -> None:
    noise = random.Random(7).randbytes(4 * MB)
    for dialect in ("airbyte", "singer"):
        relay = play(opening(dialect, "singer", [USERS], limits={"max_text_lines": 100}), noise)
        assert relay.status in (6, 7) and len(relay.of("error")) == 1
        assert relay.peak_bytes < FLAT_BYTES


# --- things nobody here wrote


def folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} is not set")
    return Path(path)


def test_every_json_of_the_parsing_suite_passes_or_is_refused() -> None:
    cases = sorted((folder("DATIVO_CORPORA") / "json-parsing").rglob("*.json"))
    assert len(cases) > 300
    for case in cases:
        inner = case.read_bytes().strip()
        if b"\n" in inner:
            continue
        line = (
            b'{"type":"RECORD","record":{"stream":"users","data":{"a":'
            + inner
            + b'},"emitted_at":1}}\n'
        )
        relay = play(opening("airbyte", "singer", [USERS], limits={"max_depth": 600}), line)
        if case.name.startswith("y_"):
            assert relay.status == 0, case.name
            assert inner in relay.output
        elif case.name.startswith("n_") and "NaN" not in case.name and "nfinity" not in case.name:
            assert relay.status == 7, case.name
            assert not relay.output.endswith(b"\n")


def test_naughty_strings_pass_unchanged() -> None:
    strings = json.loads((folder("DATIVO_CORPORA") / "naughty-strings.json").read_text())
    rows = [
        json.dumps({text: text, "a": [text]}, ensure_ascii=bool(n % 2))
        for n, text in enumerate(strings)
    ]
    relay = play(
        opening("singer", "airbyte", [USERS]),
        SCHEMA,
        *[singer(row).encode() + b"\n" for row in rows],
    )
    assert relay.status == 0
    found = [line.split('"data":', 1)[1].rsplit(',"emitted_at"', 1)[0] for line in relay.lines()]
    assert found == rows
