"""Every transform of every type it takes, committed with real files: pyiceberg and DuckDB pass over the others' partitions."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.table import StaticTable
from pyiceberg.transforms import parse_transform
from pyiceberg.types import DecimalType
from pyiceberg.utils.datetime import date_to_days, datetime_to_micros, time_to_micros
from tests.faults.committers import Warehouse, reader, state, stream

from dativo.plugins.iceberg.schemas import _TYPES

# Two values of each type that no transform below holds to be one, the first before zero or 1970 where there is such a thing.
VALUES: dict[str, tuple[Any, Any]] = {
    "boolean": (False, True),
    "int": (-34, 7_000),
    "long": (-(2**40), 2**40),
    "decimal(9,2)": (Decimal("-1234.50"), Decimal("99.99")),
    "decimal(38,3)": (Decimal(f"-{10**34}.000"), Decimal(f"{10**34}.125")),
    "date": (date(1965, 3, 4), date(2026, 1, 2)),
    "time": (time(0, 0, 1), time(23, 59, 59, 999_999)),
    "timestamp": (datetime(1965, 3, 4, 1, 2, 3), datetime(2026, 1, 2, 3, 4, 5, 6)),
    "timestamptz": (
        datetime(1965, 3, 4, 1, 2, 3, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    ),
    "string": ("café 漢字 of the east", "\U0001f389"),
    "binary": (b"\x00\xff\x01", b"zz"),
}
TIMES = ("date", "timestamp", "timestamptz")
TAKES: dict[str, tuple[str, ...]] = {
    "identity": tuple(VALUES),
    **dict.fromkeys(("year", "month", "day"), TIMES),
    "hour": TIMES[1:],
    "bucket[1000]": tuple(of for of in VALUES if of != "boolean"),
    "truncate[3]": ("int", "long", "decimal(9,2)", "decimal(38,3)", "string", "binary"),
}
CASES = [(transform, of) for transform, types in TAKES.items() for of in types]


def lost_by_duckdb(transform: str, of: str, value: Any) -> bool:
    """Tell of what DuckDB 1.4.4 passes over although it holds the value (docs/guide/layout.md)."""
    if of == "date":
        return transform == "month"
    return transform in ("month", "day", "hour") and value.year < 1970


equal_to: Any = EqualTo  # which mypy takes for a model of pydantic's with other arguments


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, "iceberg")
    yield warehouse
    warehouse.end()


def partition_of(transform: str, of: str, value: Any) -> Any:
    """Return pyiceberg's result of the transform, as ``sealed`` tells it."""
    kind = DecimalType(*map(int, of[8:-1].split(","))) if "(" in of else _TYPES[of]
    match value:
        case datetime():
            value = datetime_to_micros(value)
        case date():
            value = date_to_days(value)
        case time():
            value = time_to_micros(value)
    result = parse_transform(transform).transform(kind)(value)
    match result:
        case Decimal():
            return str(int(str(result).replace(".", "")))
        case bytes():
            return base64.b64encode(result).decode()
        case _:
            return result


def table_of(number: int) -> str:
    return f"t{number}"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_readers_pass_over_other_partitions(warehouse: Warehouse) -> None:
    layouts = [
        {
            "stream": stream(table_of(number)),
            "partition": [{"property": "v", "transform": transform}],
        }
        for number, (transform, _) in enumerate(CASES)
    ]
    committer = warehouse.opened(layouts=layouts)
    files = []
    for number, (transform, of) in enumerate(CASES):
        plan = committer.plan(table_of(number), [("id", "long"), ("v", of)])
        assert plan["partition"] == [{"field_id": 2, "transform": transform}], plan
        values = [partition_of(transform, of, value) for value in (*VALUES[of], None)]
        assert len(set(values)) == 3, (transform, of)
        for at, value in enumerate((*VALUES[of], None)):
            file = committer.stage(table_of(number), [{"id": at, "v": value}])
            files.append({**file, "partition": [values[at]]})
    answer = committer.seal(files, [state("t0", "1")])
    assert answer["type"] == "committed", answer
    connection = reader()
    for number, (transform, of) in enumerate(CASES):
        pointer = warehouse.pointer(table_of(number))
        table = StaticTable.from_metadata(pointer)
        [field] = table.spec().fields
        short = {"identity": "v", "bucket[1000]": "v_bucket", "truncate[3]": "v_trunc"}
        assert field.name == short.get(transform, f"v_{transform}")
        for at, value in enumerate(VALUES[of]):
            scan = table.scan(row_filter=equal_to("v", value))
            assert len(list(scan.plan_files())) == 1, (transform, of, value)
            assert scan.to_arrow()["id"].to_pylist() == [at], (transform, of, value)
            if not lost_by_duckdb(transform, of, value):
                assert found(connection, pointer, "v = ?", value) == [at], (transform, of, value)
        scan = table.scan(row_filter="v IS NULL")
        assert len(list(scan.plan_files())) == 1, (transform, of)
        assert scan.to_arrow()["id"].to_pylist() == [2]
        assert found(connection, pointer, "v IS NULL") == [2], (transform, of)
        assert found(connection, pointer, "id >= 0") == [0, 1, 2], (transform, of)


def found(
    connection: duckdb.DuckDBPyConnection, pointer: str, where: str, *values: Any
) -> list[int]:
    query = f"SELECT id FROM iceberg_scan('{pointer}') WHERE {where} ORDER BY id"
    return [row[0] for row in connection.execute(query, values).fetchall()]
