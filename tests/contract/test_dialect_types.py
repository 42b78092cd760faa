"""A stream has the same columns whether it comes as Airbyte's or, its schema translated, as Singer's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.contract.writer_kernel import opening, play, stream
from tests.integration.type_table import COLUMNS, SCHEMA

from dativo.protocol import catalog
from dativo.protocol.singerschema import singer_schema
from dativo.protocol.state import Stream

QUOTED = ("/Number", "/Integer")


def columns(dialect: str, schema: Any, staging: Path) -> list[tuple[str, str]]:
    lines = b""
    if dialect == "airbyte":
        streams = [stream("s", schema)]
    else:
        streams = [stream("s")]
        message = {"type": "SCHEMA", "stream": "s", "schema": schema, "key_properties": []}
        lines = json.dumps(message).encode() + b"\n"
    staging.mkdir(parents=True)
    writer = play(opening(dialect, staging, streams), lines)
    assert not writer.of("error"), writer.of("error")
    [told] = writer.of("stream_schema")
    return [(column["property"], column["type"]) for column in told["columns"]]


def both(schema: Any, tmp_path: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    translated = json.loads(singer_schema(json.dumps(schema), Stream("", "s")))
    return columns("airbyte", schema, tmp_path / "a"), columns("singer", translated, tmp_path / "s")


def test_every_type_of_the_table(tmp_path: Path) -> None:
    airbyte, singer = both(SCHEMA, tmp_path)
    assert len(airbyte) == len(COLUMNS) + 1
    # Airbyte's own numbers are strings in a record: numbers to a reader that knows the list, text to any other.
    quoted = {column.name for column in COLUMNS if str(column.node.get("$ref")).endswith(QUOTED)}
    kept = [column for column in airbyte if column[0] not in quoted]
    assert kept == [column for column in singer if column[0] not in quoted]
    assert quoted and {kind for name, kind in singer if name in quoted} == {"string"}


@pytest.mark.parametrize(
    "node",
    [
        {"type": ["null", "string"], "format": "date-time"},
        {"type": "string", "airbyte_type": "timestamp_with_timezone"},
        {"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"},
        {"type": "string", "format": "time", "airbyte_type": "time_without_timezone"},
        {"type": "string", "format": "date"},
        {"type": "number", "airbyte_type": "integer"},
        {"oneOf": [{"type": "null"}, {"type": "integer"}]},
        {"anyOf": [{"type": "integer"}, {"type": "number"}]},
        {"enum": ["a", None]},
        {"type": "string", "format": "email", "enum": ["a"]},
        {"type": "array", "items": {"type": "string"}},
        {"$ref": "WellKnownTypes.json#/definitions/TimestampWithTimezone"},
        {"$ref": "WellKnownTypes.json#/definitions/TimestampWithoutTimezone"},
        {"$ref": "WellKnownTypes.json#/definitions/Date"},
        {"$ref": "WellKnownTypes.json#/definitions/BinaryData"},
        {"$ref": "WellKnownTypes.json#/definitions/TimeWithoutTimezone"},
    ],
    ids=str,
)
def test_one_type(node: Any, tmp_path: Path) -> None:
    airbyte, singer = both({"type": "object", "properties": {"c": node}}, tmp_path)
    assert airbyte == singer


def test_captured_catalogues(tmp_path: Path) -> None:
    folder = os.environ.get("DATIVO_CAPTURES")
    if folder is None:
        pytest.skip("DATIVO_CAPTURES is not set: captured output of public connectors")
    text = Path(folder, "airbyte-source-faker/discover.stdout").read_text()
    line = next(line for line in text.splitlines() if '"CATALOG"' in line)
    for entry in catalog.from_airbyte(json.dumps(json.loads(line)["catalog"])).streams:
        airbyte, singer = both(json.loads(entry.json_schema), tmp_path / entry.stream.name)
        assert airbyte == singer
