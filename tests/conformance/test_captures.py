"""What real connectors wrote, replayed through both targets and through ``dativo read``: set DATIVO_CAPTURES."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import protocol_schema, readback
from tests.conformance.conftest import replayed
from tests.conformance.pipes import Target
from tests.integration.conftest import Workspace

FOLDER = os.environ.get("DATIVO_CAPTURES")
pytestmark = pytest.mark.skipif(not FOLDER, reason="DATIVO_CAPTURES names no folder of captures")

Message = dict[str, Any]
Rows = dict[str, list[Message]]
SINGER = ["tap-jsonl/sync", "meltanolabs-tap-postgres/full", "meltanolabs-tap-postgres/inc",
          "pipelinewise-tap-mysql/full", "pipelinewise-tap-mysql/inc"]  # fmt: skip
AIRBYTE = [("airbyte-source-faker", "catalog.json", "read.stdout"),
           ("airbyte-source-file", "catalog-local.json", "read-local.stdout")]  # fmt: skip


def captured(*parts: str) -> bytes:
    """Return one capture's whole lines: captures are cut off somewhere.

    MariaDB's TIME goes to 838 hours and its dates may be zero: pipelinewise-tap-mysql writes them into columns that it calls time
    and date-time. Such values are refused (tests/contract/test_writer_captures.py); here they are left out.
    """
    data = Path(FOLDER or "", *parts).read_bytes()
    lines = data[: data.rindex(b"\n") + 1].splitlines(keepends=True)
    return b"".join(line for line in lines if b" days, " not in line and b'"0000-00-00' not in line)


def messages(data: bytes) -> list[Message]:
    return [json.loads(line, parse_float=Decimal) for line in data.splitlines() if line.startswith(b"{")]  # fmt: skip


def sent_by_tap(data: bytes) -> Rows:
    """Return the rows of each stream: those of the last active version, where the tap sends versions and activates them."""
    rows: Rows = defaultdict(list)
    versions: dict[str, int] = {}
    found = messages(data)
    for message in found:
        if message["type"] == "ACTIVATE_VERSION":
            versions[message["stream"]] = message["version"]
    for message in found:
        if message["type"] == "RECORD":
            rows[message["stream"]].append(message["record"])
    return rows


@pytest.mark.parametrize("capture", SINGER)
def test_taps_into_a_target(target: Target, capture: str) -> None:
    data = captured(f"{capture}.stdout")
    ended = target.load(data)
    assert ended.status == 0, ended.stderr
    found = readback.tables(target)
    for stream, rows in sent_by_tap(data).items():
        assert readback.same_rows(found[None, stream].rows, rows) == [], stream
    values = [message["value"] for message in messages(data) if message["type"] == "STATE"]
    printed = [json.loads(text, parse_float=Decimal) for text in ended.states]
    assert printed[-1] == values[-1]
    assert all(value in values for value in printed)


@pytest.mark.parametrize(("folder", "catalog", "output"), AIRBYTE)
def test_sources_into_a_target(target: Target, folder: str, catalog: str, output: str) -> None:
    data = captured(folder, output)
    configured = json.loads(Path(FOLDER or "", folder, catalog).read_bytes())
    rows: Rows = defaultdict(list)
    for message in messages(data):
        if message["type"] == "RECORD":
            rows[message["record"]["stream"]].append(message["record"]["data"])
    ended = target.write(data, configured, append_dedup="append")
    assert ended.status == 0, ended.stderr
    found = readback.tables(target)
    for stream, sent in rows.items():
        assert readback.same_rows(found[None, stream].rows, sent) == [], stream
    states = [message["state"] for message in messages(data) if message["type"] == "STATE"]
    told = [m["state"] for m in messages(ended.stdout.encode()) if m["type"] == "STATE"]
    assert told == states


# --- through the relay -----------------------------------------------------------------------------------------------------


def members(line: str) -> dict[str, str]:
    """Return the top-level members of a JSON object with their own text."""
    decoder, found, at = json.JSONDecoder(), {}, line.index("{") + 1
    while (at := _space(line, at)) < len(line) and line[at] != "}":
        if line[at] == ",":
            at = _space(line, at + 1)
        key, at = decoder.raw_decode(line, at)
        at = _space(line, _space(line, at) + 1)
        start = at
        _, at = decoder.raw_decode(line, at)
        found[key] = line[start:at]
    return found


def _space(line: str, at: int) -> int:
    while at < len(line) and line[at] in " \t\r\n":
        at += 1
    return at


def discovered(data: bytes) -> bytes:
    """Return the catalogue of a tap's discover capture: the streams that the sync capture declares, as declared there."""
    streams = [
        {
            "tap_stream_id": message["stream"],
            "stream": message["stream"],
            "schema": message["schema"],
            "metadata": [
                {
                    "breadcrumb": [],
                    "metadata": {
                        "selected": True,
                        "table-key-properties": message["key_properties"],
                    },
                }
            ],
        }
        for message in (json.loads(line) for line in data.splitlines() if b'"SCHEMA"' in line)
    ]
    unique = {stream["stream"]: stream for stream in streams}
    return json.dumps({"streams": list(unique.values())}).encode()


@pytest.mark.parametrize("capture", SINGER)
@pytest.mark.parametrize("dialect", ["singer", "airbyte"])
def test_taps_through_the_relay(shelf: Workspace, capture: str, dialect: str) -> None:
    """Record and state bytes come out as they went in, in their order."""
    data = captured(f"{capture}.stdout")
    reference = replayed(shelf, "singer", discovered(data), data)
    read = shelf.dativo("read", reference, "--as", dialect, "--config", "replay.json", *shelf.flags)
    assert read.status == 0, read.stderr
    sent = [members(line) for line in data.decode().splitlines()]
    got = [members(line) for line in read.stdout.splitlines()]
    wanted = [m["record"] for m in sent if m["type"] == '"RECORD"']
    states = [m["value"] for m in sent if m["type"] == '"STATE"']
    if dialect == "singer":
        assert [m["record"] for m in got if m["type"] == '"RECORD"'] == wanted
        assert [m["value"] for m in got if m["type"] == '"STATE"'] == states
        versions = [m["version"] for m in sent if m["type"] == '"ACTIVATE_VERSION"']
        assert [m["version"] for m in got if m["type"] == '"ACTIVATE_VERSION"'] == versions
        assert [m["type"] for m in got] == [m["type"] for m in sent]
    else:
        protocol_schema.check(read.stdout.splitlines())
        records = [members(m["record"]) for m in got if m["type"] == '"RECORD"']
        assert [record["data"] for record in records] == wanted
        kept = [json.loads(m["state"]) for m in got if m["type"] == '"STATE"']
        assert [k["global"]["shared_state"]["singer_state"] for k in kept] == [json.loads(s) for s in states]  # fmt: skip
        assert all(f'{{"singer_state":{text}}}' in read.stdout for text in states)


@pytest.mark.parametrize(("folder", "catalog", "output"), AIRBYTE)
@pytest.mark.parametrize("dialect", ["singer", "airbyte"])
def test_sources_through_the_relay(
    shelf: Workspace, folder: str, catalog: str, output: str, dialect: str
) -> None:
    data = captured(folder, output)
    configured = json.loads(Path(FOLDER or "", folder, catalog).read_bytes())
    found = {"type": "CATALOG", "catalog": {"streams": [entry["stream"] for entry in configured["streams"]]}}  # fmt: skip
    reference = replayed(shelf, "airbyte", json.dumps(found).encode() + b"\n", data)
    read = shelf.dativo("read", reference, "--as", dialect, "--config", "replay.json", *shelf.flags)
    assert read.status == 0, read.stderr
    sent = [members(line) for line in data.decode().splitlines() if line.startswith("{")]
    wanted = [members(m["record"])["data"] for m in sent if m["type"] == '"RECORD"']
    got = [members(line) for line in read.stdout.splitlines()]
    records = [m["record"] for m in got if m["type"] == '"RECORD"']
    if dialect == "airbyte":
        records = [members(record)["data"] for record in records]
        states = [m["state"] for m in sent if m["type"] == '"STATE"']
        assert [m["state"] for m in got if m["type"] == '"STATE"'] == states
        if "NaN" not in read.stdout:
            protocol_schema.check(read.stdout.splitlines())
    assert records == wanted
    assert got[0]["type"] == ('"SCHEMA"' if dialect == "singer" else got[0]["type"])
