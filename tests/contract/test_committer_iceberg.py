"""What others rely on: pyiceberg's own SqlCatalog opens our catalogue, and both may commit to a table in turn."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pyiceberg.catalog.sql import SqlCatalog
from tests.faults.committers import Warehouse, state

import dativo.plugins
from dativo.plugins.commit.session import VERSION


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    root = tmp_path / "a lake"
    root.mkdir()
    warehouse = Warehouse(root, "iceberg")
    yield warehouse
    warehouse.end()


@pytest.fixture
def catalog(warehouse: Warehouse) -> Iterator[SqlCatalog]:
    catalog = SqlCatalog(
        "dativo", uri=f"sqlite:///{warehouse.root}/catalog.db", warehouse=str(warehouse.root)
    )
    yield catalog
    catalog.close()


def commit_users(warehouse: Warehouse, committer: Any, *ids: int) -> dict[str, Any]:
    file = committer.stage("users", [{"id": number, "name": "ours"} for number in ids])
    answer: dict[str, Any] = committer.seal([file], [state("users", str(ids))])
    return answer


def foreign(*ids: int) -> pa.Table:
    return pa.table(
        {"id": pa.array(ids, pa.int64()), "name": pa.array(["foreign"] * len(ids), pa.string())}
    )


def test_sql_catalog_reads_our_tables(warehouse: Warehouse, catalog: SqlCatalog) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    answer = commit_users(warehouse, committer, 1, 2)
    assert catalog.list_namespaces() == [("shop",)]
    assert catalog.list_tables("shop") == [("shop", "users")]
    table = catalog.load_table("shop.users")
    assert table.format_version == 2
    assert table.location() == str(warehouse.root / "shop" / "users")
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == [1, 2]
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert str(snapshot.snapshot_id) == answer["tables"][0]["snapshot_id"]
    summary = snapshot.summary.additional_properties
    assert summary["dativo.pipeline"] == "shop"
    assert summary["dativo.epoch"] == "1"
    assert summary["dativo.run"] == committer.run
    assert summary["dativo.rows"] == "2"
    assert len(summary["dativo.state-sha256"]) == 64
    assert summary["total-records"] == "2"
    assert table.properties["dativo.owner"] == "default/shop"
    assert table.properties["dativo.pipeline"] == "shop"
    assert json.loads(table.properties["dativo.name-map"]) == []


def test_foreign_commits_in_between(warehouse: Warehouse, catalog: SqlCatalog) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    assert commit_users(warehouse, committer, 1)["epoch"] == 1
    catalog.load_table("shop.users").append(foreign(100))
    assert commit_users(warehouse, committer, 2)["epoch"] == 2
    table = catalog.load_table("shop.users")
    table.append(foreign(101))
    with table.update_schema() as update:
        update.add_column("theirs", table.schema().find_type("name"))
    plan = committer.plan(
        "users", [("id", "long"), ("name", "string"), ("theirs", "string")], revision=2
    )
    assert [column["field_id"] for column in plan["columns"]] == [1, 2, 3]
    assert commit_users(warehouse, committer, 3)["epoch"] == 3
    assert warehouse.rows("users") == [1, 2, 3, 100, 101]
    assert warehouse.committed()[0] == 3
    assert warehouse.placed_files() == set(warehouse.live_files("users"))
    table = catalog.load_table("shop.users")
    assert [
        snapshot.summary.operation.value for snapshot in table.snapshots() if snapshot.summary
    ] == ["append"] * 5
    parents = [snapshot.parent_snapshot_id for snapshot in table.snapshots()]
    assert parents[1:] == [snapshot.snapshot_id for snapshot in table.snapshots()][:-1]


def test_table_of_nobody_is_refused(warehouse: Warehouse, catalog: SqlCatalog) -> None:
    catalog.create_namespace("shop")
    catalog.create_table("shop.users", foreign().schema)
    answer = warehouse.opened().plan("users")
    assert answer["code"] == "config.table_owned"
    assert "was not made by dativo" in answer["message"]
    assert answer["hint"]


def test_table_dropped_during_the_run(warehouse: Warehouse, catalog: SqlCatalog) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    commit_users(warehouse, committer, 1)
    catalog.drop_table("shop.users")
    assert commit_users(warehouse, committer, 2)["code"] == "conflict.table"


def test_format_version_3_is_refused(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    commit_users(warehouse, committer, 1)
    metadata = Path(warehouse.pointer("users"))
    metadata.write_text(
        metadata.read_text().replace('"format-version":2', '"format-version":3,"next-row-id":0')
    )
    answer = warehouse.opened().plan("users")
    assert answer["code"] == "config.table_unreadable"
    assert "version 3" in answer["message"]


def test_metadata_files_stay_few(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    for number in range(15):
        commit_users(warehouse, committer, number)
    metadata = Path(warehouse.pointer("users"))
    assert len(list(metadata.parent.glob("*.metadata.json"))) == 11
    assert warehouse.rows("users") == list(range(15))


def test_start_imports_nothing_heavy(warehouse: Warehouse) -> None:
    committer = warehouse.start(kill=["sys:exit", "before", "999"])
    committer.open()
    maps = Path(f"/proc/{committer.process.pid}/maps").read_text()
    assert "pyarrow" not in maps
    committer.plan("users")
    maps = Path(f"/proc/{committer.process.pid}/maps").read_text()
    assert "pydantic_core" in maps
    assert "pyarrow" not in maps
    assert "sqlalchemy" not in maps


def test_pyiceberg_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("pyiceberg").startswith("0.12.")


@pytest.mark.parametrize("plugin", ["iceberg", "parquet"])
def test_manifest(plugin: str) -> None:
    folder = Path(dativo.plugins.__path__[0]) / plugin
    manifest = yaml.safe_load((folder / "plugin.yaml").read_text())
    assert manifest["name"] == plugin
    assert manifest["version"] == VERSION
    assert manifest["type"] == "writer"
    assert manifest["entry_point"] == {"module": f"dativo.plugins.{plugin}"}
    assert (folder / "__main__.py").is_file()
