"""What real connectors wrote, replayed: set DATIVO_CAPTURES to a folder of captures (one folder per connector)."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.contract.writer_kernel import Event, opening, play, stream

FOLDER = os.environ.get("DATIVO_CAPTURES")
pytestmark = pytest.mark.skipif(not FOLDER, reason="DATIVO_CAPTURES names no folder of captures")

SINGER = ["tap-jsonl/sync", "meltanolabs-tap-postgres/full", "meltanolabs-tap-postgres/inc"]
# MariaDB's TIME goes to 838 hours and its dates may be zero: this tap writes them into columns that it calls time and date-time.
MYSQL = ["pipelinewise-tap-mysql/full", "pipelinewise-tap-mysql/inc"]
AIRBYTE = [("airbyte-source-faker", "catalog.json", "read.stdout"),
           ("airbyte-source-file", "catalog-local.json", "read-local.stdout")]  # fmt: skip


def captured(*parts: str) -> bytes:
    """Return one capture's whole lines: captures are cut off somewhere."""
    data = Path(FOLDER or "", *parts).read_bytes()
    return data[: data.rindex(b"\n") + 1]


def messages(data: bytes) -> list[Event]:
    return [
        json.loads(line, parse_float=Decimal) for line in data.splitlines() if line.startswith(b"{")
    ]


def as_column(value: Any, wanted: Any, kind: Any) -> Any:
    """Return what ``value`` of a record is in a column that asked for ``wanted``, by Python's own means."""
    if value is None or wanted == "json":
        return value
    match wanted:
        case {"type": "struct", "fields": fields}:
            return {
                field["property"]: as_column(
                    value.get(field["property"]), field["type"], kind.field(field["property"]).type
                )
                for field in fields
            }
        case {"type": "list", "element": element}:
            return [as_column(item, element, kind.value_type) for item in value]
        case {"type": "map", "value": one}:
            return [(key, as_column(item, one, kind.item_type)) for key, item in value.items()]
        case _:
            return as_value(value, kind)


def as_value(value: Any, kind: pa.DataType) -> Any:
    """Return what a value is in a column that is no tree."""
    if pa.types.is_floating(kind):
        return float(value)
    if pa.types.is_decimal(kind):
        return Decimal(value)
    if pa.types.is_date(kind):
        return date.fromisoformat(value)
    if pa.types.is_time(kind):
        return time.fromisoformat(value)
    if pa.types.is_timestamp(kind):
        at = datetime.fromisoformat(value)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return value


def as_json(got: Any, wanted: Any) -> Any:
    """Return a column's value with JSON text in it as what it stands for."""
    if got is None:
        return None
    match wanted:
        case "json":
            return json.loads(got, parse_float=Decimal)
        case {"type": "struct", "fields": fields}:
            return {
                field["property"]: as_json(got[field["property"]], field["type"])
                for field in fields
            }
        case {"type": "list", "element": element}:
            return [as_json(item, element) for item in got]
        case {"type": "map", "value": one}:
            return [(key, as_json(item, one)) for key, item in got]
        case _:
            return got


def same(got: Any, wanted: Any) -> bool:
    return got == wanted or (isinstance(got, float) and got != got and wanted != wanted)


def check(staging: Path, events: list[Event], sent: dict[str, list[Event]]) -> int:
    """Compare every row with what was sent; return how many there were."""
    assert [event for event in events if event["type"] == "error"] == []
    columns = {
        (event["stream"]["name"], event["revision"]): event["columns"]
        for event in events
        if event["type"] == "stream_schema"
    }
    taken: dict[str, int] = defaultdict(int)
    for sealed in [event for event in events if event["type"] == "sealed"]:
        for file in sealed["files"]:
            table = pq.read_table(staging / file["path"])
            name = file["stream"]["name"]
            rows = sent[name][taken[name] : taken[name] + file["rows"]]
            taken[name] += file["rows"]
            for column in columns[name, file["revision"]]:
                kind = table.schema.field(column["property"]).type
                asked = column["type"]
                got = [as_json(value, asked) for value in table[column["property"]].to_pylist()]
                wanted = [as_column(row.get(column["property"]), asked, kind) for row in rows]
                differing = [pair for pair in zip(got, wanted, strict=True) if not same(*pair)]
                assert differing == [], (name, column)
    assert taken == {name: len(rows) for name, rows in sent.items()}
    return sum(taken.values())


def replay(staging: Path, data: bytes) -> None:
    """Replay what a tap wrote and compare rows and last state."""
    sent: dict[str, list[Event]] = defaultdict(list)
    for message in messages(data):
        if message["type"] == "RECORD":
            sent[message["stream"]].append(message["record"])
    names = {message["stream"] for message in messages(data) if message["type"] == "SCHEMA"}
    writer = play(opening("singer", staging, [stream(name) for name in sorted(names)]), data)
    assert check(staging, writer.events, sent) > 0
    last = [message["value"] for message in messages(data) if message["type"] == "STATE"][-1]
    assert json.loads(writer.of("sealed")[-1]["states"][-1]["text"], parse_float=Decimal) == last


@pytest.mark.parametrize("capture", SINGER)
def test_captures_of_taps(tmp_path: Path, capture: str) -> None:
    replay(tmp_path, captured(f"{capture}.stdout"))


@pytest.mark.parametrize("capture", MYSQL)
def test_values_that_are_no_times_are_refused_and_the_rest_is_read(
    tmp_path: Path, capture: str
) -> None:
    lines = captured(f"{capture}.stdout").splitlines(keepends=True)
    bad = [
        n
        for n, line in enumerate(lines, 1)
        if b'"RECORD"' in line and (b" days, " in line or b'"0000-00-00' in line)
    ]
    (tmp_path / "refused").mkdir()
    streams = [stream("src-edge"), stream("src-nopk")]
    error = play(opening("singer", tmp_path / "refused", streams), b"".join(lines)).error()
    assert (error["code"], error["line"], error["stream"]["name"]) == (
        "record.value",
        bad[0],
        "src-edge",
    )
    assert "days" in error["value"] or "0000-00-00" in error["value"]
    (tmp_path / "rest").mkdir()
    replay(tmp_path / "rest", b"".join(line for n, line in enumerate(lines, 1) if n not in bad))


@pytest.mark.parametrize(("folder", "catalog", "output"), AIRBYTE)
def test_captures_of_airbyte_sources(
    tmp_path: Path, folder: str, catalog: str, output: str
) -> None:
    data = captured(folder, output)
    sent: dict[str, list[Event]] = defaultdict(list)
    for message in messages(data):
        if message["type"] == "RECORD":
            sent[message["record"]["stream"]].append(message["record"]["data"])
    configured = json.loads(Path(FOLDER or "", folder, catalog).read_bytes())
    streams = [
        stream(e["stream"]["name"], e["stream"]["json_schema"]) for e in configured["streams"]
    ]
    writer = play(opening("airbyte", tmp_path, streams), data)
    assert check(tmp_path, writer.events, sent) > 0
