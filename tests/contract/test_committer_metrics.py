"""What the real inspector finds goes into manifests, and readers that are not ours pass over files by it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyiceberg.table import StaticTable
from tests.contract.inspector_kernel import Event, Inspector, opening
from tests.faults.committers import Committer, Warehouse, reader, state

NESTED = {"type": "struct", "fields": [{"property": "x", "type": "long"}]}
COLUMNS: tuple[tuple[str, Any], ...] = (
    *(("id", "long"), ("name", "string"), ("price", "decimal(12,2)"), ("ratio", "double")),
    *(("day", "date"), ("inner", NESTED), ("more", "string")),
)


SEALED = {"type": "sealed", "sequence": 1, "final": False, "states": [], "counts": []}


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, "iceberg")
    yield warehouse
    warehouse.end()


def row(number: int) -> Event:
    return {
        "id": number,
        "name": f"{number:06d} of all customers",
        "price": Decimal(number) / 4,
        "ratio": float("nan") if number % 10 == 0 else number / 8,
        "day": date.fromordinal(730_000 + number),
        "inner": {"x": number * 2},
    }


def inspected(committer: Committer, *numbers: int) -> Event:
    """Stage a file of ``numbers`` and have the real inspector read it."""
    file = committer.stage("users", [row(number) for number in numbers])
    with Inspector(opening(committer.staging)) as inspector:
        inspector.expect("hello")
        inspector.send(committer.plans["users"])
        told = inspector.answer_to(file)
    assert told["type"] == "inspected", told
    return {**file, "columns": told["columns"]}


def table(warehouse: Warehouse) -> StaticTable:
    return StaticTable.from_metadata(warehouse.pointer("users"))


def planned(warehouse: Warehouse, condition: str) -> int:
    """The files that pyiceberg opens for ``condition``; it finds the rows that DuckDB finds."""
    scan = table(warehouse).scan(row_filter=condition)
    rows = sorted(scan.to_arrow()["id"].to_pylist())
    query = (
        f"SELECT id FROM iceberg_scan('{warehouse.pointer('users')}') WHERE {condition} ORDER BY id"
    )
    connection: duckdb.DuckDBPyConnection = reader()
    assert rows == [each[0] for each in connection.execute(query).fetchall()]
    return len(list(scan.plan_files()))


FILTERS = {
    "id >= 150": 1,
    "id < 0": 0,
    "id = 7": 1,
    "name = '000123 of all customers'": 1,
    "name > '000020 of all customers'": 2,
    "name > '000021'": 1,
    "name < '000001'": 0,
    "price > 25.50": 1,
    "day >= '1999-12-10'": 1,
    "ratio < 2.0": 2,  # both files have NaN, and so no bounds
    "id IS NULL": 0,
    "more IS NOT NULL": 0,
    "id > 0": 2,
}


def test_readers_pass_over_files(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users", COLUMNS)
    for numbers in (range(1, 21), range(101, 201)):
        committer.seal([inspected(committer, *numbers)], [state("users", str(numbers))])
    for condition, files in FILTERS.items():
        assert planned(warehouse, condition) == files, condition
    entries = table(warehouse).inspect.files().to_pylist()
    low = next(entry for entry in entries if entry["record_count"] == 20)
    assert dict(low["value_counts"]) == dict.fromkeys((1, 2, 3, 4, 5, 7, 8), 20)
    assert dict(low["null_value_counts"]) == {**dict.fromkeys((1, 2, 3, 4, 5, 8), 0), 7: 20}
    assert dict(low["nan_value_counts"]) == {4: 2}
    assert set(dict(low["lower_bounds"])) == {1, 2, 3, 5, 8}
    assert all(size > 0 for size in dict(low["column_sizes"]).values())


def test_a_hidden_generation_keeps_what_is_known_until_its_swap(warehouse: Warehouse) -> None:
    first = warehouse.opened(mode="overwrite")
    first.plan("users", COLUMNS)
    first.seal([inspected(first, *range(1, 21))], [state("users", "1")])
    first.seal([inspected(first, *range(101, 121))], [state("users", "2")])
    first.end()
    second = warehouse.opened(mode="overwrite")
    second.plan("users", COLUMNS)
    second.seal([inspected(second, *range(201, 221))], [state("users", "3")], complete=True)
    assert planned(warehouse, "id > 110") == 2
    assert planned(warehouse, "id > 210") == 1
    assert planned(warehouse, "id > 0") == 3
    with sqlite3.connect(warehouse.root / "catalog.db") as connection:
        assert connection.execute("SELECT count(*) FROM dativo_metrics").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("key", ["rows", "bytes", "sha256"])
def test_what_was_inspected_is_what_is_taken(warehouse: Warehouse, key: str) -> None:
    committer = warehouse.opened()
    committer.plan("users", COLUMNS)
    file = inspected(committer, 1, 2)
    facts = {name: file[name] for name in ("path", "rows", "bytes", "sha256", "columns")}
    facts[key] = "0" * 64 if key == "sha256" else facts[key] + 1
    committer.channel.send({"type": "inspected", "input": "0", "sequence": 1, **facts})
    committer.send(**SEALED, files=[file], inspected=False)
    answer = committer.receive()
    assert answer["code"] == "protocol.staged_file" and "not inspected" in answer["message"]
    assert warehouse.placed_files() == set()


def test_a_file_that_was_not_inspected_is_not_taken(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users", COLUMNS)
    file = committer.stage("users", [row(1)])
    committer.send(**SEALED, files=[file], inspected=False)
    answer = committer.receive()
    assert answer["code"] == "protocol.staged_file" and "not inspected" in answer["message"]
