"""A swap as other tools see it: pyiceberg's own reading of snapshots, manifests and entries, and its commits before and after."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record
from tests.faults.committers import Committer, Warehouse, state

from dativo.plugins.iceberg import _pyiceberg as iceberg

ADDED, EXISTING, DELETED = 1, 0, 2


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    root = tmp_path / "a lake"
    root.mkdir()
    warehouse = Warehouse(root, "iceberg")
    yield warehouse
    warehouse.end()


@pytest.fixture
def catalog(warehouse: Warehouse) -> Iterator[SqlCatalog]:
    uri = f"sqlite:///{warehouse.root}/catalog.db"
    catalog = SqlCatalog("dativo", uri=uri, warehouse=str(warehouse.root))
    yield catalog
    catalog.close()


def seal(committer: Committer, *ids: int, version: int | None = None, **more: Any) -> Any:
    rows = [{"id": number, "name": "ours"} for number in ids]
    files = [committer.stage("users", rows, version=version)] if ids else []
    return committer.seal(files, [state("users", str(ids))], **more)


def foreign(*ids: int) -> pa.Table:
    names = pa.array(["foreign"] * len(ids), pa.string())
    return pa.table({"id": pa.array(ids, pa.int64()), "name": names})


def ids(table: Table, snapshot_id: int | None = None) -> list[int]:
    found: list[int] = table.scan(snapshot_id=snapshot_id).to_arrow()["id"].to_pylist()
    return sorted(found)


def entries(table: Table) -> list[tuple[int, int]]:
    """Return status and rows of every entry of the current snapshot's manifests."""
    snapshot = table.current_snapshot()
    assert snapshot is not None
    found = []
    for manifest in snapshot.manifests(table.io):
        listed = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
        statuses = [entry.status.value for entry in listed]
        counts = (
            manifest.added_files_count,
            manifest.existing_files_count,
            manifest.deleted_files_count,
        )
        assert counts == tuple(statuses.count(kind) for kind in (ADDED, EXISTING, DELETED))
        for entry in listed:
            assert entry.sequence_number is not None
            assert entry.file_sequence_number is not None
            if entry.status.value != EXISTING:
                assert entry.snapshot_id == manifest.added_snapshot_id
            found.append((entry.status.value, entry.data_file.record_count))
    return sorted(found)


def summary(table: Table) -> dict[str, str]:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    return {"operation": snapshot.summary.operation.value, **snapshot.summary.additional_properties}


def test_swap_is_one_overwrite_snapshot(warehouse: Warehouse, catalog: SqlCatalog) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    seal(committer, 1, 2)
    seal(committer, 3)
    assert committer.close() == 0
    catalog.load_table("shop.users").append(foreign(50, 51))
    before = catalog.load_table("shop.users")

    second = warehouse.opened(mode="overwrite")
    second.plan("users")
    seal(second, 101, 102)
    hidden = catalog.load_table("shop.users")
    assert hidden.metadata_location == before.metadata_location
    # Somebody appends while the generation fills: it is replaced, whoever wrote it.
    hidden.append(foreign(52))
    answer = seal(second, 103, complete=True)
    table = catalog.load_table("shop.users")
    assert ids(table) == warehouse.rows("users") == [101, 102, 103]
    assert len(table.snapshots()) == 5
    assert str(table.metadata.current_snapshot_id) == answer["tables"][0]["snapshot_id"]
    found = summary(table)
    assert found["operation"] == "overwrite"
    for key, value in {
        "added-data-files": "2",
        "added-records": "3",
        "deleted-data-files": "4",
        "deleted-records": "6",
        "total-data-files": "2",
        "total-records": "3",
        "dativo.epoch": "4",
        "dativo.rows": "3",
    }.items():
        assert found[key] == value, key
    added, removed = (
        [(ADDED, 1), (ADDED, 2)],
        [(DELETED, 1), (DELETED, 1), (DELETED, 2), (DELETED, 2)],
    )
    assert entries(table) == added + removed
    assert table.inspect.files()["record_count"].to_pylist() == [2, 1]
    # The older snapshot still reads, files and all.
    assert ids(table, before.metadata.current_snapshot_id) == [1, 2, 3, 50, 51]
    assert second.close() == 0

    # Both go on from it, and what only told of removed files is carried no further.
    table.append(foreign(60))
    third = warehouse.opened()
    third.plan("users")
    seal(third, 4)
    table = catalog.load_table("shop.users")
    assert ids(table) == warehouse.rows("users") == [4, 60, 101, 102, 103]
    assert [status for status, _ in entries(table)] == [ADDED] * 4
    assert summary(table)["total-records"] == "5"
    assert summary(table)["operation"] == "append"


def test_emptied_and_filled_again(warehouse: Warehouse, catalog: SqlCatalog) -> None:
    for values in ([1, 2], [], [], [3]):
        committer = warehouse.opened(mode="overwrite")
        committer.plan("users")
        seal(committer, *values, complete=True)
        table = catalog.load_table("shop.users")
        assert ids(table) == warehouse.rows("users") == values
        assert summary(table)["total-records"] == str(len(values))
        assert committer.close() == 0
    # The second time nothing was there that could leave.
    assert len(catalog.load_table("shop.users").snapshots()) == 3


def test_first_generation_of_a_table_without_rows(
    warehouse: Warehouse, catalog: SqlCatalog
) -> None:
    committer = warehouse.opened(mode="overwrite")
    committer.plan("users")
    seal(committer, 1)
    assert catalog.load_table("shop.users").current_snapshot() is None
    seal(committer, complete=True)
    table = catalog.load_table("shop.users")
    assert ids(table) == warehouse.rows("users") == [1]
    assert summary(table)["operation"] == "overwrite"


def test_activation_rewrites_the_manifests_it_touches(
    warehouse: Warehouse, catalog: SqlCatalog
) -> None:
    committer = warehouse.opened()
    committer.plan("users")
    mixed = [
        committer.stage("users", [{"id": 1, "name": "x"}], version=1),
        committer.stage("users", [{"id": 2, "name": "x"}, {"id": 3, "name": "x"}], version=2),
    ]
    committer.seal(mixed, [])
    seal(committer, 4, 5, 6, version=2)
    seal(committer, 7, complete=True, version=2, activations={"users": 2})
    table = catalog.load_table("shop.users")
    assert ids(table) == warehouse.rows("users") == [2, 3, 4, 5, 6, 7]
    assert entries(table) == [(EXISTING, 2), (ADDED, 1), (ADDED, 3), (DELETED, 1)]
    found = summary(table)
    assert (found["operation"], found["deleted-records"], found["total-records"]) == (
        "overwrite",
        "1",
        "6",
    )
    assert committer.close() == 0
    # pyiceberg deletes rows by rewriting one of these files: its own file has no version, and leaves.
    table.delete("id == 3")
    assert ids(catalog.load_table("shop.users")) == [2, 4, 5, 6, 7]
    later = warehouse.opened()
    later.plan("users")
    seal(later, complete=True, activations={"users": 2})
    table = catalog.load_table("shop.users")
    assert ids(table) == warehouse.rows("users") == [4, 5, 6, 7]


class DeleteManifestWriter(ManifestWriterV2):
    """What other tools write and pyiceberg itself cannot: a manifest of files of row deletions."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def delete_rows(warehouse: Warehouse, *positions: int) -> None:
    """Delete rows of the only data file of ``users`` by a file of positions, as Spark or Trino would."""
    pointer = warehouse.pointer("users")
    version = iceberg.read(pointer)
    folder = version.location / "metadata"
    (data,) = warehouse.live_files("users")
    deletions = version.location / "data" / "deletions.parquet"
    fields = [
        pa.field("file_path", pa.string(), False, {"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": "2147483545"}),
    ]
    columns = {"file_path": [str(data)] * len(positions), "pos": positions}
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), deletions)
    metadata, io = version.metadata, iceberg.LocalIO()
    parent = metadata.current_snapshot()
    assert parent is not None
    snapshot_id, sequence = metadata.new_snapshot_id(), metadata.next_sequence_number()
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=str(deletions),
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=len(positions),
        file_size_in_bytes=deletions.stat().st_size,
        spec_id=0,
    )
    entry = ManifestEntry.from_args(
        status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=file
    )
    output = io.new_output(str(folder / "deletions.avro"))
    with DeleteManifestWriter(
        metadata.spec(), metadata.schema(), output, snapshot_id, "deflate"
    ) as manifest:
        manifest.add(entry)
    manifests = [manifest.to_manifest_file(), *parent.manifests(io)]
    list_path = str(folder / "snap-deletions.avro")
    with write_manifest_list(
        2, io.new_output(list_path), snapshot_id, parent.snapshot_id, sequence, "deflate"
    ) as manifest_list:
        manifest_list.add_manifests(manifests)
    totals = {"total-records": "3", "total-data-files": "1", "total-delete-files": "1"}
    snapshot = {
        "snapshot-id": snapshot_id,
        "parent-snapshot-id": parent.snapshot_id,
        "manifest-list": list_path,
        "sequence-number": sequence,
        "summary": {"operation": "delete", **totals, "total-position-deletes": str(len(positions))},
        "schema-id": metadata.current_schema_id,
    }
    reference = {"ref-name": "main", "type": "branch", "snapshot-id": snapshot_id}
    updates = (
        AddSnapshotUpdate(snapshot=Snapshot.model_validate(snapshot)),
        SetSnapshotRefUpdate.model_validate(reference),
    )
    newer = iceberg._step(version, updates, "deletions")
    with sqlite3.connect(warehouse.root / "catalog.db") as connection:
        connection.execute(
            "UPDATE iceberg_tables SET metadata_location = ? WHERE metadata_location = ?",
            (newer.pointer, pointer),
        )
    connection.close()


def test_row_deletions_of_others(warehouse: Warehouse, catalog: SqlCatalog) -> None:
    """They stay while a row does that they may mean, and leave with the last one."""
    committer = warehouse.opened()
    committer.plan("users")
    seal(committer, 1, 2, 3, version=7)
    assert committer.close() == 0
    delete_rows(warehouse, 1)
    assert warehouse.rows("users") == [1, 3]
    activating = warehouse.opened()
    activating.plan("users")
    seal(activating, 4, version=7)
    seal(activating, 5, complete=True, version=8, activations={"users": 7})
    assert warehouse.rows("users") == ids(catalog.load_table("shop.users")) == [1, 3, 4]
    assert activating.close() == 0
    swapping = warehouse.opened(mode="overwrite")
    swapping.plan("users")
    seal(swapping, 10, complete=True)
    table = catalog.load_table("shop.users")
    assert warehouse.rows("users") == ids(table) == [10]
    found = summary(table)
    assert (found["removed-delete-files"], found["total-delete-files"]) == ("1", "0")
    assert found["total-position-deletes"] == "0"
