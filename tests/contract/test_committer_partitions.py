"""Partitioned and sorted tables over many runs: hidden generations, versions, kills, older records, other tools."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import StaticTable, Table
from pyiceberg.transforms import (
    BucketTransform,
    IdentityTransform,
    TruncateTransform,
    VoidTransform,
)
from pyiceberg.types import LongType
from tests.faults.committers import Committer, Killed, Warehouse, state, stream

from dativo.protocol.errors import ExitStatus

Event = dict[str, Any]
COLUMNS = (("id", "long"), ("country", "string"))
BY_COUNTRY = {"partition": [{"property": "country", "transform": "identity"}]}
BY_ID = {"sort": [{"property": "id", "descending": True, "nulls_first": False}]}

COMMIT = {
    "iceberg": "dativo.plugins.iceberg.catalog:Catalog.commit",
    "parquet": "dativo.plugins.parquet.log:Log.commit",
}


@pytest.fixture
def parquet(tmp_path: Path) -> Iterator[Warehouse]:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, "parquet")
    yield warehouse
    warehouse.end()


@pytest.fixture
def iceberg(tmp_path: Path) -> Iterator[Warehouse]:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, "iceberg")
    yield warehouse
    warehouse.end()


@pytest.fixture
def catalog(iceberg: Warehouse) -> Iterator[SqlCatalog]:
    uri = f"sqlite:///{iceberg.root}/catalog.db"
    catalog = SqlCatalog("dativo", uri=uri, warehouse=str(iceberg.root))
    yield catalog
    catalog.close()


def said(*layouts: Event, name: str = "users") -> Event:
    """Return what ``open`` says besides."""
    whole: Event = {"stream": stream(name)}
    for layout in layouts:
        whole |= layout
    return {"layouts": [whole]}


def stage(
    committer: Committer, country: str | None, *ids: int, version: int | None = None
) -> Event:
    rows = [{"id": number, "country": country} for number in ids]
    return {**committer.stage("users", rows, version=version), "partition": [country]}


def live_partitions(warehouse: Warehouse) -> list[tuple[Any, int]]:
    """Return partition and rows of each live file, as others read them."""
    if warehouse.plugin == "iceberg":
        table = StaticTable.from_metadata(warehouse.pointer("users"))
        files = [task.file for task in table.scan().plan_files()]
        return sorted(((file.partition[0], file.record_count) for file in files), key=nulls_first)
    live: dict[str, Event] = {}
    for entry in warehouse.log_entries():
        live |= {file["path"]: file for file in entry["added"]}
        for path in entry.get("removed", []):
            live.pop(path, None)
    found = ((file["partition"][0], file["rows"]) for file in live.values())
    return sorted(found, key=nulls_first)


def nulls_first(partition: tuple[Any, int]) -> tuple[bool, Any]:
    return partition[0] is not None, partition[0]


def test_plans_have_what_the_table_has(warehouse: Warehouse) -> None:
    first = warehouse.opened(**said(BY_COUNTRY, BY_ID))
    plan = first.plan("users", COLUMNS)
    assert plan["partition"] == [{"field_id": 2, "transform": "identity"}]
    assert plan["sort"] == [{"field_id": 1, "descending": True, "nulls_first": False}]
    first.seal([stage(first, "de", 2, 1), stage(first, None, 3)], [state("users", "1")])
    assert first.close() == 0
    assert live_partitions(warehouse) == [(None, 1), ("de", 2)]

    # A job that says nothing, and a source that sends the partitioned column no more, or as another property's.
    second = warehouse.opened()
    again = second.plan("users", [("id", "long")])
    assert (again["partition"], again["sort"]) == (plan["partition"], plan["sort"])
    rename = {"stream": stream("users"), "schema": "evolve", "conflict": "fail"}
    third = warehouse.opened(
        contracts=[{**rename, "rename": {"country": "land"}}],
        **said({"partition": [{"property": "land", "transform": "identity"}]}),
    )
    renamed = third.plan("users", [("id", "long"), ("land", "string")])
    assert renamed["columns"][1] == {**plan["columns"][1], "property": "land", "column": "land"}
    assert renamed["partition"] == plan["partition"]


def test_another_order_holds_for_the_files_to_come(warehouse: Warehouse) -> None:
    first = warehouse.opened(**said(BY_COUNTRY, BY_ID))
    first.plan("users", COLUMNS)
    first.seal([stage(first, "de", 2, 1)], [state("users", "1")])
    first.end()
    orders = []
    for sort in ([{"property": "country", "descending": False, "nulls_first": True}], []):
        committer = warehouse.opened(**said({"sort": sort}))
        plan = committer.plan("users", COLUMNS)
        orders.append(plan.get("sort"))
        assert len(plan["partition"]) == 1
        committer.seal([stage(committer, "fr", 5)], [state("users", "2")])
        committer.end()
    back = warehouse.opened(**said(BY_ID)).plan("users", COLUMNS)["sort"]
    assert orders == [[{"field_id": 2, "descending": False, "nulls_first": True}], None]
    assert back == [{"field_id": 1, "descending": True, "nulls_first": False}]
    if warehouse.plugin == "iceberg":
        table = StaticTable.from_metadata(warehouse.pointer("users"))
        assert [order.order_id for order in table.metadata.sort_orders] == [1, 2, 0]
        assert table.metadata.default_sort_order_id == 1
        ids = [task.file.sort_order_id for task in table.scan().plan_files()]
        assert sorted(ids, key=str) == [1, 2, None]
    else:
        tables = [table for entry in warehouse.log_entries() for table in entry["tables"]]
        assert [len(table.get("sort", [])) for table in tables] == [1, 1, 0]
        assert all(table["partition"] for table in tables)


def test_another_partition_is_refused(warehouse: Warehouse) -> None:
    first = warehouse.opened(**said(BY_COUNTRY))
    first.plan("users", COLUMNS)
    first.seal([stage(first, "de", 1)], [state("users", "1")])
    first.end()
    for partition in ([], [{"property": "country", "transform": "bucket[4]"}]):
        committer = warehouse.opened(**said({"partition": partition}))
        answer = committer.plan("users", COLUMNS)
        assert answer["code"] == "config.partition_changed"
        assert answer["stream"] == stream("users")
        assert committer.status() == ExitStatus.CONFIGURATION
    plain = warehouse.opened()
    plain.plan("others", COLUMNS)
    plain.seal([plain.stage("others", [{"id": 1}])], [state("others", "1")])
    plain.end()
    answer = warehouse.opened(**said(BY_COUNTRY, name="others")).plan("others", COLUMNS)
    assert answer["code"] == "config.partition_changed"


@pytest.mark.parametrize(
    ("transform", "of"),
    [
        ("hour", "date"),
        ("identity", "double"),
        ("bucket[4]", "boolean"),
        ("truncate[2]", "timestamp"),
        ("year", "string"),
        ("identity", "json"),
        ("bucket[4]", {"type": "list", "element": "long"}),
    ],
)
def test_types_that_a_transform_does_not_take(parquet: Warehouse, transform: str, of: Any) -> None:
    layout = {"partition": [{"property": "v", "transform": transform}]}
    committer = parquet.opened(**said(layout))
    answer = committer.plan("users", [("id", "long"), ("v", of)])
    assert (answer["code"], answer["blame"]) == ("config.layout", "user")
    assert (answer["stream"], answer["field"]) == (stream("users"), "v")
    assert transform in answer["message"] and "v" in answer["message"]
    assert not (parquet.root / "shop/users").exists()


@pytest.mark.parametrize("of", ["json", {"type": "map", "value": "long"}])
def test_rows_are_not_sorted_by_what_is_no_plain_value(parquet: Warehouse, of: Any) -> None:
    sort = [{"property": "v", "descending": False, "nulls_first": True}]
    answer = parquet.opened(**said({"sort": sort})).plan("users", [("id", "long"), ("v", of)])
    assert answer["code"] == "config.layout"
    unknown = parquet.opened(**said({"sort": sort})).plan("users", [("id", "long")])
    assert unknown["code"] == "config.layout" and "'v'" in unknown["message"]


@pytest.mark.parametrize(
    "partition",
    [None, ["de", 1], [7], [True], ["ü" * 129]],
    ids=["none", "two", "number", "flag", "long"],
)
def test_a_partition_that_is_none_of_the_table(parquet: Warehouse, partition: Any) -> None:
    committer = parquet.opened(**said(BY_COUNTRY))
    committer.plan("users", COLUMNS)
    file = stage(committer, "de", 1)
    del file["partition"]
    if partition is not None:
        file["partition"] = partition
    answer = committer.seal([file], [state("users", "1")])
    assert answer["code"] == "protocol.staged_file", answer
    assert parquet.placed_files() == set()


def test_a_partition_of_a_table_that_has_none(warehouse: Warehouse) -> None:
    committer = warehouse.opened()
    committer.plan("users", COLUMNS)
    answer = committer.seal([stage(committer, "de", 1)], [state("users", "1")])
    assert answer["code"] == "protocol.staged_file"


def test_hidden_generations_keep_their_partitions(warehouse: Warehouse) -> None:
    first = warehouse.opened(mode="overwrite", **said(BY_COUNTRY, BY_ID))
    first.plan("users", COLUMNS)
    first.seal([stage(first, "de", 1), stage(first, "fr", 2, 3)], [state("users", "1")])
    first.end()
    # The rest is written in another order, by a job that says nothing of partitions.
    sort = [{"property": "country", "descending": False, "nulls_first": True}]
    second = warehouse.opened(mode="overwrite", **said({"sort": sort}))
    second.plan("users", COLUMNS)
    file = stage(second, None, 4, 5, 6)
    second.seal([file], [state("users", "2")], complete=True)
    assert live_partitions(warehouse) == [(None, 3), ("de", 1), ("fr", 2)]
    assert warehouse.rows("users") == [1, 2, 3, 4, 5, 6]
    if warehouse.plugin == "iceberg":
        table = StaticTable.from_metadata(warehouse.pointer("users"))
        tasks = list(table.scan(row_filter="country = 'fr'").plan_files())
        assert [task.file.sort_order_id for task in tasks] == [1]
        [manifest] = table.inspect.manifests().to_pylist()
        [summary] = manifest["partition_summaries"]
        assert summary["contains_null"] and summary["lower_bound"] == "de"
        assert summary["upper_bound"] == "fr"
    assert second.close() == 0
    third = warehouse.opened(mode="overwrite")
    third.plan("users", COLUMNS)
    third.seal([stage(third, "it", 7)], [state("users", "3")], complete=True)
    assert live_partitions(warehouse) == [("it", 1)]
    assert warehouse.rows("users") == [7]


def test_versions_leave_partitioned_tables(warehouse: Warehouse) -> None:
    committer = warehouse.opened(**said(BY_COUNTRY))
    committer.plan("users", COLUMNS)
    old = [stage(committer, "de", 1, version=1), stage(committer, "fr", 2, version=1)]
    committer.seal(old, [state("users", "1")])
    new = [stage(committer, "de", 3, version=2)]
    committer.seal(new, [state("users", "2")], complete=True, activations={"users": 2})
    assert live_partitions(warehouse) == [("de", 1)]
    assert warehouse.rows("users") == [3]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_publish(warehouse: Warehouse, moment: str) -> None:
    first = warehouse.opened(**said(BY_COUNTRY))
    first.plan("users", COLUMNS)
    first.seal([stage(first, "de", 1)], [state("users", "1")])
    assert first.close() == 0
    second = warehouse.start(kill=[COMMIT[warehouse.plugin], moment, "1"])
    second.open()
    second.plan("users", COLUMNS)
    with pytest.raises(Killed):
        second.seal([stage(second, "fr", 2, 3)], [state("users", "2")])
    third = warehouse.opened()
    plan = third.plan("users", COLUMNS)
    assert plan["partition"] == [{"field_id": 2, "transform": "identity"}]
    happened = [("fr", 2)] if moment == "after" else []
    assert live_partitions(warehouse) == [("de", 1), *happened]
    assert warehouse.placed_files() == set(warehouse.live_files("users"))
    third.seal([stage(third, "it", 4)], [state("users", "3")])
    assert live_partitions(warehouse) == [("de", 1), *happened, ("it", 1)]


def test_columns_do_not_take_the_names_of_partitions(iceberg: Warehouse) -> None:
    layout = {
        "partition": [
            {"property": "at", "transform": "day"},
            {"property": "id", "transform": "bucket[4]"},
            {"property": "id", "transform": "bucket[8]"},
            {"property": "country", "transform": "identity"},
        ]
    }
    committer = iceberg.opened(**said(layout))
    columns = [("id", "long"), ("at", "timestamptz"), ("country", "string"), ("id_bucket", "long")]
    plan = committer.plan("users", columns)
    assert plan["type"] == "stream_plan", plan
    again = committer.plan("users", [*columns, ("at_day", "string")], revision=2)
    assert again["columns"][:4] == plan["columns"]
    table = StaticTable.from_metadata(iceberg.pointer("users"))
    names = [field.name for field in table.spec().fields]
    assert (names[0], names[3]) == ("at_day", "country")
    columns_of_it = {field.name for field in table.schema().fields}
    assert len(set(names)) == 4 and columns_of_it & set(names) == {"country"}
    assert [field.field_id for field in table.spec().fields] == [1000, 1001, 1002, 1003]
    assert table.metadata.last_partition_id == 1003


def test_sources_of_partitions_widen(warehouse: Warehouse) -> None:
    bucket_of = BucketTransform(4).transform(LongType())
    layout = {
        "partition": [
            {"property": "n", "transform": "identity"},
            {"property": "n", "transform": "bucket[4]"},
            {"property": "d", "transform": "truncate[10]"},
        ]
    }
    first = warehouse.opened(**said(layout))
    first.plan("users", [("id", "long"), ("n", "int"), ("d", "decimal(4,2)")])
    row = first.stage("users", [{"id": 1, "n": 7}])
    first.seal([{**row, "partition": [7, bucket_of(7), None]}], [state("users", "1")])
    assert first.close() == 0
    second = warehouse.opened(**said(layout))
    plan = second.plan("users", [("id", "long"), ("n", "long"), ("d", "decimal(30,2)")])
    assert [column["type"] for column in plan["columns"]] == ["long", "long", "decimal(30,2)"]
    assert len(plan["partition"]) == 3
    row = second.stage("users", [{"id": 2, "n": 2**40}])
    values = [2**40, bucket_of(2**40), None]
    answer = second.seal([{**row, "partition": values}], [state("users", "2")])
    assert answer["type"] == "committed", answer
    assert warehouse.rows("users", "id, n") == [(1, 7), (2, 2**40)]
    if warehouse.plugin == "iceberg":
        table = StaticTable.from_metadata(warehouse.pointer("users"))
        for value, found in ((7, [1]), (2**40, [2]), (8, [])):
            scan = table.scan(row_filter=f"n = {value}")
            assert len(list(scan.plan_files())) == len(found)
            assert scan.to_arrow()["id"].to_pylist() == found


def test_a_catalogue_of_an_older_version(iceberg: Warehouse) -> None:
    """Its files are of tables without partitions, hidden ones too."""
    first = iceberg.opened(mode="overwrite")
    first.plan("users", COLUMNS)
    first.seal([first.stage("users", [{"id": 1}])], [state("users", "1")])
    first.end()
    with sqlite3.connect(iceberg.root / "catalog.db") as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        if "dativo_placements" in tables:
            connection.execute("DROP TABLE dativo_placements")
    connection.close()
    second = iceberg.opened(mode="overwrite")
    second.plan("users", COLUMNS)
    second.seal([second.stage("users", [{"id": 2}])], [state("users", "2")], complete=True)
    assert iceberg.rows("users") == [1, 2]


def test_a_log_of_an_older_version(parquet: Warehouse) -> None:
    first = parquet.opened()
    first.plan("users", COLUMNS)
    first.seal([first.stage("users", [{"id": 1}])], [state("users", "1")])
    first.end()
    [entry] = parquet.log_entries()
    assert not {"partition", "sort"} & ({*entry["tables"][0], *entry["added"][0]})
    assert "partition" not in json.dumps(parquet.log_entries()[0]["added"])
    second = parquet.opened(**said(BY_ID))
    plan = second.plan("users", COLUMNS)
    assert "partition" not in plan and len(plan["sort"]) == 1
    second.seal([second.stage("users", [{"id": 2}])], [state("users", "2")])
    assert parquet.rows("users") == [1, 2]


# --- tables that other tools changed


def ours(iceberg: Warehouse, catalog: SqlCatalog, *layouts: Event) -> Table:
    committer = iceberg.opened(**said(*layouts))
    committer.plan("users", COLUMNS)
    row = {"id": 1, "country": "de"}
    file = committer.stage("users", [row])
    partition = {"partition": ["de"]} if BY_COUNTRY in layouts else {}
    committer.seal([{**file, **partition}], [state("users", "1")])
    committer.end()
    return catalog.load_table("shop.users")


def test_a_spec_of_another_tool_is_written(iceberg: Warehouse, catalog: SqlCatalog) -> None:
    table = ours(iceberg, catalog)
    with table.update_spec() as update:
        update.add_identity("country")
        update.add_field("id", "bucket[4]")
    committer = iceberg.opened()
    plan = committer.plan("users", COLUMNS)
    assert [field["transform"] for field in plan["partition"]] == ["identity", "bucket[4]"]
    file = committer.stage("users", [{"id": 2, "country": "fr"}])
    committer.seal([{**file, "partition": ["fr", 1]}], [state("users", "2")])
    table = catalog.load_table("shop.users")
    tasks = list(table.scan(row_filter="country = 'fr'").plan_files())
    assert {task.file.spec_id for task in tasks} == {0, 1}  # of the older file nothing is known
    assert sorted(manifest.partition_spec_id for manifest in manifests(table)) == [0, 1]
    # The spec changes under the run: what was written for the older one goes on as that.
    with table.update_spec() as update:
        update.remove_field("country")
    file = committer.stage("users", [{"id": 3, "country": "it"}])
    committer.seal([{**file, "partition": ["it", 2]}], [state("users", "3")])
    table = catalog.load_table("shop.users")
    assert sorted(manifest.partition_spec_id for manifest in manifests(table)) == [0, 1, 1]
    assert iceberg.rows("users") == [1, 2, 3]
    # A swap takes files of every spec out.
    committer.end()
    last = iceberg.opened(mode="overwrite")
    assert [f["transform"] for f in last.plan("users", COLUMNS)["partition"]] == ["bucket[4]"]
    file = last.stage("users", [{"id": 9, "country": "es"}])
    last.seal([{**file, "partition": [0]}], [state("users", "4")], complete=True)
    assert iceberg.rows("users") == [9]


def manifests(table: Table) -> list[Any]:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return snapshot.manifests(table.io)


def test_partitions_that_are_not_written_here(iceberg: Warehouse, catalog: SqlCatalog) -> None:
    table = ours(iceberg, catalog)
    with table.update_spec() as update:
        update.add_field("country", VoidTransform(), "nothing")
    answer = iceberg.opened().plan("users", COLUMNS)
    assert answer["code"].startswith("config.")
    assert "void" in answer["message"] and "nothing" in answer["message"] and answer["hint"]


def test_an_order_of_another_tool(iceberg: Warehouse, catalog: SqlCatalog) -> None:
    table = ours(iceberg, catalog)
    with table.update_sort_order() as update:
        update.desc("id", IdentityTransform())
    plan = iceberg.opened().plan("users", COLUMNS)
    assert [field["field_id"] for field in plan["sort"]] == [1]
    with catalog.load_table("shop.users").update_sort_order() as update:
        update.asc("country", TruncateTransform(2))
    committer = iceberg.opened()
    assert "sort" not in committer.plan("users", COLUMNS)
    committer.seal([committer.stage("users", [{"id": 2}])], [state("users", "2")])
    files = [task.file for task in catalog.load_table("shop.users").scan().plan_files()]
    assert {file.sort_order_id for file in files} == {None}
    committer.end()
    # It is left alone, until a job says otherwise; also that there is to be none.
    assert "sort" not in iceberg.opened(**said({"sort": []})).plan("users", COLUMNS)
    assert catalog.load_table("shop.users").metadata.default_sort_order_id == 0
