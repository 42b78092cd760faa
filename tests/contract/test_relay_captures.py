"""What real connectors wrote, through the relay into both dialects: nothing is lost, and Airbyte's own schema knows each line."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.contract.relay_kernel import Event, Relay, opening, play, stream

CAPTURES = os.environ.get("DATIVO_CAPTURES")
CORPORA = os.environ.get("DATIVO_CORPORA")
pytestmark = pytest.mark.skipif(not CAPTURES, reason="DATIVO_CAPTURES names no folder of captures")

SINGER = [
    "tap-jsonl/sync.stdout",
    "meltanolabs-tap-postgres/full.stdout",
    "meltanolabs-tap-postgres/inc.stdout",
    "pipelinewise-tap-mysql/full.stdout",
    "pipelinewise-tap-mysql/inc.stdout",
]
AIRBYTE = ["airbyte-source-faker/read.stdout", "airbyte-source-file/read-local.stdout"]
ALL = [("singer", path) for path in SINGER] + [("airbyte", path) for path in AIRBYTE]


def captured(path: str) -> bytes:
    """Return a capture's whole lines: captures are cut off somewhere."""
    data = Path(CAPTURES or "", path).read_bytes()
    return data[: data.rindex(b"\n") + 1]


def messages(data: bytes | bytearray) -> list[Event]:
    """Return the messages with numbers exact."""
    return [
        json.loads(line, parse_float=Decimal) for line in data.split(b"\n") if line.startswith(b"{")
    ]


def declared(dialect: str, data: bytes) -> list[Event]:
    """Return the streams that a capture has."""
    names = dict.fromkeys(stream_of(dialect, m) for m in messages(data) if m["type"] == "RECORD")
    if dialect == "singer":
        names |= dict.fromkeys((None, m["stream"]) for m in messages(data) if m["type"] == "SCHEMA")
    return [stream(name, namespace=space, schema={"type": "object"}) for space, name in names]


def stream_of(dialect: str, message: Event) -> tuple[str | None, str]:
    if dialect == "singer":
        return None, message["stream"]
    return message["record"].get("namespace"), message["record"]["stream"]


def rows(dialect: str, data: bytes | bytearray) -> list[tuple[tuple[str | None, str], Any]]:
    return [
        (stream_of(dialect, m), m["record"] if dialect == "singer" else m["record"]["data"])
        for m in messages(data)
        if m["type"] == "RECORD"
    ]


def states(dialect: str, data: bytes | bytearray) -> list[Any]:
    key = "value" if dialect == "singer" else "state"
    return [m[key] for m in messages(data) if m["type"] == "STATE"]


@pytest.mark.parametrize("to", ["singer", "airbyte"])
@pytest.mark.parametrize(("dialect", "path"), ALL)
def test_every_record_and_state_arrives(dialect: str, path: str, to: str) -> None:
    data = captured(path)
    relay = play(opening(dialect, to, declared(dialect, data), report_states=True), data)
    assert relay.status == 0, relay.of("error")
    assert rows(to, relay.output) == rows(dialect, data)
    sent = states(to, relay.output)
    passed = relay.of("state_passed")
    assert [json.loads(p["text"], parse_float=Decimal) for p in passed] == states(dialect, data)
    assert [json.loads(p["sent"] or p["text"], parse_float=Decimal) for p in passed] == sent
    texts = {line.encode() for line in relay.lines()}
    assert all(p["text"].encode() in data for p in passed)
    assert len(sent) == len(passed) and len(texts) > 0


@pytest.mark.parametrize("path", AIRBYTE)
def test_there_and_back_is_the_same(path: str) -> None:
    data = captured(path)
    streams = declared("airbyte", data)
    there = play(opening("airbyte", "singer", streams), data)
    back = play(opening("singer", "airbyte", streams), bytes(there.output))
    kept = play(opening("airbyte", "airbyte", streams), data)
    only_records = [line for line in kept.lines() if '"type":"RECORD"' in line]
    assert [line for line in back.lines() if '"type":"RECORD"' in line] == only_records


@pytest.mark.skipif(not CORPORA, reason="DATIVO_CORPORA names no folder of corpora")
@pytest.mark.parametrize(("dialect", "path"), ALL)
def test_airbytes_own_schema_knows_every_line(dialect: str, path: str) -> None:
    protocol = yaml.safe_load(
        (Path(CORPORA or "") / "airbyte-protocol" / "airbyte_protocol.yaml").read_text()
    )
    protocol["$ref"] = "#/definitions/AirbyteMessage"
    validator = jsonschema.Draft7Validator(protocol)
    data = captured(path)
    open_ = opening(dialect, "airbyte", declared(dialect, data), statuses=True)
    relay = play(open_, data)
    kinds = set()
    for line in relay.lines()[:2000] + relay.lines()[-50:]:
        message = json.loads(line)
        validator.validate(message)
        kinds.add(message["type"])
    assert {"RECORD", "TRACE"} <= kinds <= {"RECORD", "STATE", "TRACE"}


@pytest.mark.parametrize(("dialect", "path"), ALL)
def test_it_does_not_matter_how_the_bytes_arrive(dialect: str, path: str) -> None:
    data = captured(path)[:30_000]
    data = data[: data.rindex(b"\n") + 1]
    open_ = opening(dialect, dialect, declared(dialect, data))
    whole = play(open_, data)
    assert whole.status == 0
    with Relay(open_) as relay:
        relay.feed_all(data[at : at + 7] for at in range(0, len(data), 7))
        relay.finish()
        relay.drain()
    undated = b'"emitted_at"' in data or dialect == "singer"
    assert not undated or relay.output == whole.output
