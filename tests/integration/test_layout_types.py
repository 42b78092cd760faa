"""Every type under every transform that takes it, through a whole run: manifests name the partitions that pyiceberg works out."""

from __future__ import annotations

import base64
import json
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.table import StaticTable
from pyiceberg.utils.datetime import (
    date_to_days,
    datetime_to_micros,
    time_to_micros,
)
from tests.integration.conftest import ROOT, Workspace

ROWS = 23
JOB = """\
pipeline: types
source: {connector: ./plugins/types}
target: {connector: iceberg, config: {warehouse: ./lake, namespace: types}}
layout:
  types:
    sort_by: [n desc]
    partition_by:
"""
PROPERTIES: dict[str, Any] = {
    "n": {"type": "integer"},
    "flag": {"type": "boolean"},
    "amount": {"type": "number", "multipleOf": 0.01, "x-singer.decimal": True},
    "big": {"type": "integer", "airbyte_type": "big_integer"},
    "day": {"type": "string", "format": "date"},
    "clock": {"type": "string", "airbyte_type": "time_without_timezone", "format": "time"},
    "here": {"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"},
    "at": {"type": "string", "format": "date-time"},
    "text": {"type": "string"},
    "blob": {"type": "string", "contentEncoding": "base64"},
}
LAYOUTS = {
    "identity": [
        *("flag", "n", "amount", "big", "day", "clock", "here", "at", "text", "blob"),
        *("truncate(10, n)", "truncate(50, amount)", "truncate(3, text)", "truncate(2, blob)"),
        *("truncate(7, big)", "month(at)"),
    ],
    "bucket": [
        *(f"bucket(5, {name})" for name in PROPERTIES if name != "flag"),
        *("year(day)", "month(here)", "day(at)"),
    ],
    "times": ["month(day)", "hour(here)", "hour(at)"],
    "others": ["day(day)", "year(here)", "year(at)", "truncate(2147483647, n)"],
}


def record(i: int) -> str:
    """Values before and after 1970 and zero, and nulls."""
    year, month = 1965 + i, i % 12 + 1
    row: dict[str, Any] = {
        "n": (i - 11) * 37,
        "flag": i % 2 == 0,
        "amount": None,
        "big": str((i - 11) * 10**30),
        "day": f"{year}-{month:02}-{i + 1:02}",
        "clock": f"{i:02}:59:59.{i:06}",
        "here": f"{year}-{month:02}-28T{i:02}:00:00.000001",
        "at": f"{year}-{month:02}-28T23:{i:02}:59.999999-0{i % 9}:00",
        "text": "漢字🎉e\u0301"[i % 4 :] * (i % 3),
        "blob": base64.b64encode(bytes([255 - i]) * (i % 4)).decode(),
    }
    if i % 7 == 3:
        row = {name: value if name == "n" else None for name, value in row.items()}
    return json.dumps(row).replace(
        '"amount": null', f'"amount": {Decimal((i - 11) * 1234567) / 100}'
    )


def internal(value: Any) -> Any:
    """Return a value as pyiceberg's transforms take it."""
    match value:
        case datetime():
            return datetime_to_micros(value)
        case date():
            return date_to_days(value)
        case time():
            return time_to_micros(value)
        case _:
            return value


@pytest.mark.parametrize("layout", LAYOUTS)
def test_partitions_are_those_of_iceberg(workspace: Workspace, layout: str) -> None:
    workspace.plugin(ROOT / "tests/plugins/types", "types")
    schema_of = {"type": "object", "properties": PROPERTIES}
    table = {"schema": schema_of, "records": [record(i) for i in range(ROWS)]}
    (workspace.folder / "plugins/types/table.json").write_text(json.dumps(table))
    workspace.job(JOB + "".join(f"      - {json.dumps(item)}\n" for item in LAYOUTS[layout]))
    result = workspace.run()
    assert result.status == 0, result.stderr
    assert workspace.count("types.types", "count(*), sum(n)::BIGINT") == (ROWS, 0)

    found = StaticTable.from_metadata(workspace.metadata("types.types"))
    schema, fields = found.schema(), found.spec().fields
    columns = [schema.find_field(field.source_id) for field in fields]
    works = [f.transform.transform(c.field_type) for f, c in zip(fields, columns, strict=True)]
    assert len(fields) == len(LAYOUTS[layout])
    rows = 0
    for task in found.scan().plan_files():
        told = [task.file.partition[at] for at in range(len(fields))]
        read = pq.ParquetFile(Path(task.file.file_path.removeprefix("file://"))).read().to_pylist()
        for row in read:
            values = [internal(row[column.name]) for column in columns]
            assert [work(value) for work, value in zip(works, values, strict=True)] == told
        assert [row["n"] for row in read] == sorted((row["n"] for row in read), reverse=True)
        rows += len(read)
    assert rows == ROWS
