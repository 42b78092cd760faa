"""Partitioned and sorted tables through a whole run: what lies in their files, and who reads which of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile
from pyiceberg.table import StaticTable
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import LongType
from tests.integration import test_kill_and_resume as kill_and_resume
from tests.integration.conftest import DATIVO, ROOT, Result, Workspace, reader
from tests.integration.test_kill_and_resume import VICTIMS

ROWS, DAYS, BUCKETS = 600, 3, 2
TABLE = "shop.orders"
LAYOUT = '{partition_by: [day(created_at), "bucket(2, id)"], sort_by: [country, id desc]}'
JOB = """\
pipeline: shop
source:
  connector: ./plugins/orders
  config: {config}
target:
  connector: {target}
  config: {{warehouse: ./lake, namespace: shop}}
  mode: {mode}
  epoch: {{rows: 200}}
"""
TRUTH = (ROWS, sum(i * 7919 % 10007 for i in range(ROWS)))
WHAT = "count(*), sum(id)::BIGINT"
bucket_of = BucketTransform(BUCKETS).transform(LongType())


def run(
    workspace: Workspace,
    layout: str | None,
    *,
    target: str = "iceberg",
    mode: str = "append",
    config: str = "{}",
) -> Result:
    if not (workspace.folder / "plugins").exists():
        workspace.plugin(ROOT / "tests/plugins/orders", "orders")
    said = "" if layout is None else f"layout:\n  orders: {layout}\n"
    workspace.job(JOB.format(config=config, target=target, mode=mode) + said)
    return workspace.run()


def files_of(workspace: Workspace, target: str) -> list[Path]:
    """The data files that the table's metadata or log names."""
    if target == "iceberg":
        return [path(task.file) for task in table_of(workspace).scan().plan_files()]
    listed = workspace.dativo("files", "job.yaml", "--stream", "orders", *workspace.flags)
    assert listed.status == 0, listed.stderr
    return [Path(line) for line in listed.stdout.splitlines()]


def table_of(workspace: Workspace) -> StaticTable:
    return StaticTable.from_metadata(workspace.metadata(TABLE))


def path(file: DataFile) -> Path:
    return Path(file.file_path.removeprefix("file://"))


def rows_of(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.ParquetFile(file).read().to_pylist()
    return rows


def partition_of(row: dict[str, Any]) -> tuple[date, int | None]:
    created_at: datetime = row["created_at"]
    return created_at.date(), bucket_of(row["id"])


def place(row: dict[str, Any]) -> tuple[bool, str, int]:
    """Where a row stands: nulls first, ids from the largest."""
    return row["country"] is not None, row["country"] or "", -row["id"]


def check_files(files: list[Path]) -> Counter[tuple[date, int | None]]:
    """Hold files against LAYOUT; return how many there are of each partition."""
    found: Counter[tuple[date, int | None]] = Counter()
    for file in files:
        rows = rows_of(file)
        [partition] = {partition_of(row) for row in rows}
        assert rows == sorted(rows, key=place)
        found[partition] += 1
    assert len(found) == DAYS * BUCKETS
    return found


@pytest.mark.parametrize("target", ["iceberg", "parquet"])
def test_every_row_once_in_files_of_one_partition_each(workspace: Workspace, target: str) -> None:
    failed = run(workspace, LAYOUT, target=target, config="{fail_after: 250}")
    assert failed.status == 4, failed.stderr
    assert workspace.read(target, TABLE) == 200
    assert set(check_files(files_of(workspace, target)).values()) == {1}

    result = run(workspace, LAYOUT, target=target)
    assert result.status == 0, result.stderr
    [stream] = result.report["streams"]
    assert (stream["read"], stream["written"]) == (400, 400)
    assert workspace.read(target, TABLE, WHAT) == TRUTH
    assert set(check_files(files_of(workspace, target)).values()) == {3}


def test_readers_pass_over_other_partitions(workspace: Workspace) -> None:
    result = run(workspace, LAYOUT)
    assert result.status == 0, result.stderr
    files, table = files_of(workspace, "iceberg"), table_of(workspace)
    spec = [(field.name, str(field.transform)) for field in table.spec().fields]
    assert [transform for _, transform in spec] == ["day", "bucket[2]"]
    assert [str(field.direction.value) for field in table.sort_order().fields] == ["asc", "desc"]

    day = "created_at >= '2026-01-02T00:00:00+00:00' and created_at < '2026-01-03T00:00:00+00:00'"
    planned = [task.file for task in table.scan(row_filter=day).plan_files()]
    assert len(planned) == len(files) // DAYS
    order = table.sort_order().order_id
    assert {file.sort_order_id for file in planned} == {order} and order > 0
    for file in planned:
        [partition] = {partition_of(row) for row in rows_of(path(file))}
        assert partition[0] == date(2026, 1, 2) and partition[1] == file.partition[1]

    at = "created_at >= TIMESTAMPTZ '2026-01-03 00:00:00+00'"
    query = f"SELECT count(*) FROM iceberg_scan('{workspace.metadata(TABLE)}') WHERE {at}"
    connection = reader()
    [count] = connection.execute(query).fetchone() or [None]
    assert count == ROWS // DAYS
    [[_, explained]] = connection.execute(f"EXPLAIN ANALYZE {query}").fetchall()
    assert f"Total Files Read: {len(files) // DAYS} " in explained, explained


@pytest.mark.nightly
@pytest.mark.parametrize("victim", VICTIMS)
def test_every_row_once_whatever_is_killed(workspace: Workspace, victim: str) -> None:
    workspace.plugin(ROOT / "examples/plugins/resumable", "resumable")
    layout = "layout: {numbers: {partition_by: ['bucket(2, id)'], sort_by: [value desc]}}\n"
    job = kill_and_resume.JOB.replace("TARGET", "iceberg") + layout
    workspace.job(job.replace("PAUSE", "0.2"))
    kernel = workspace.start("run", "job.yaml", "--output", "json", *workspace.flags)
    data = workspace.folder / kill_and_resume.DATA["iceberg"]
    kill_and_resume.wait_for_commit(kernel, data)
    pid = kernel.pid if victim == "kernel" else kill_and_resume.find(kernel.pid, VICTIMS[victim])
    os.kill(pid, signal.SIGKILL)
    kernel.communicate(timeout=kill_and_resume.DEADLINE_S)
    assert kernel.returncode == kill_and_resume.ENDS_WITH[victim]

    workspace.job(job.replace("PAUSE", "0"))
    result = workspace.run()
    assert result.status == 0, result.stderr
    assert workspace.count("numbers.numbers", kill_and_resume.WHAT) == kill_and_resume.TRUTH


@pytest.mark.parametrize("target", ["iceberg", "parquet"])
def test_what_is_overwritten_is_laid_out_too(workspace: Workspace, target: str) -> None:
    for _ in range(2):
        result = run(workspace, LAYOUT, target=target, mode="overwrite")
        assert result.status == 0, result.stderr
        assert workspace.read(target, TABLE, WHAT) == TRUTH
        assert set(check_files(files_of(workspace, target)).values()) == {3}


@pytest.mark.parametrize("target", ["iceberg", "parquet"])
def test_partitions_stay_and_sort_orders_change(workspace: Workspace, target: str) -> None:
    assert run(workspace, LAYOUT, target=target, config="{rows: 200}").status == 0
    changed = run(workspace, "{partition_by: [country]}", target=target)
    assert changed.status == 3
    assert "config.partition_changed" in changed.stderr
    before = set(files_of(workspace, target))

    kept = run(workspace, None, target=target, config="{rows: 400}")
    assert kept.status == 0, kept.stderr
    added = set(files_of(workspace, target)) - before
    assert set(check_files(list(added)).values()) == {1}

    other = run(workspace, "{sort_by: [id]}", target=target)
    assert other.status == 0, other.stderr
    for file in set(files_of(workspace, target)) - before - added:
        rows = rows_of(file)
        assert len({partition_of(row) for row in rows}) == 1
        assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert workspace.read(target, TABLE, WHAT) == TRUTH


def test_rows_without_a_column_of_the_layout(workspace: Workspace) -> None:
    """What the source no longer sends is null in every row, and the table is laid out by it all the same."""
    assert run(workspace, LAYOUT, config="{rows: 200}").status == 0
    before = set(files_of(workspace, "iceberg"))
    job = workspace.folder / "job.yaml"
    text = job.read_text().replace("config: {rows: 200}", "config: {}\n  streams: ['!orders.c*']")
    job.write_text(text.partition("layout:")[0])
    result = workspace.run()
    assert result.status == 0, result.stderr
    buckets: Counter[int | None] = Counter()
    for file in [task.file for task in table_of(workspace).scan().plan_files()]:
        if path(file) in before:
            continue
        rows = rows_of(path(file))
        assert set(rows[0]) == {"id", "day", "address"}
        assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
        [bucket] = {bucket_of(row["id"]) for row in rows}
        assert (file.partition[0], file.partition[1]) == (None, bucket)
        buckets[bucket] += 1
    assert buckets == {0: 2, 1: 2}
    assert workspace.count(TABLE, f"{WHAT}, count(created_at)") == (*TRUTH, 200)


@pytest.mark.parametrize(
    ("layout", "error", "column"),
    [
        ("{partition_by: [hour(day)]}", "config.layout", "day"),
        ("{sort_by: [address]}", "config.layout", "address"),
        ("{sort_by: [_dativo_id]}", "config.layout", "_dativo_id"),
    ],
)
def test_columns_that_a_table_cannot_be_laid_out_by(
    workspace: Workspace, layout: str, error: str, column: str
) -> None:
    refused = run(workspace, layout)
    assert refused.status == 3
    assert error in refused.stderr and column in refused.stderr and "orders" in refused.stderr
    assert workspace.tables() == []


def test_a_plan_shows_layouts_and_knows_the_properties(workspace: Workspace) -> None:
    assert run(workspace, "{partition_by: [Country]}").status == 3
    refused = workspace.dativo("plan", "job.yaml", *workspace.flags)
    assert refused.status == 3
    assert "layout: the stream has no property 'Country'" in refused.stderr
    assert "It has: id, created_at, day, country, address" in refused.stderr
    job = workspace.folder / "job.yaml"
    job.write_text(job.read_text().replace("[Country]", '[day, "bucket(4,id)"]'))
    shown = workspace.dativo("plan", "job.yaml", *workspace.flags)
    assert shown.status == 0, shown.stderr
    assert json.loads(shown.stdout)["target"]["layout"] == {
        "orders": {"partition_by": ["day", "bucket(4, id)"]}
    }


def test_a_tap_in_a_pipe(workspace: Workspace) -> None:
    """Streams that declare themselves are laid out by their names all the same, and by metadata columns."""
    said: list[dict[str, Any]] = []
    properties = {"id": {"type": "integer"}, "kind": {"type": "string"}}
    said.append(
        {
            "type": "SCHEMA",
            "stream": "orders",
            "schema": {"properties": properties},
            "key_properties": [],
        }
    )
    records = [{"id": i, "kind": "ab"[i % 2]} for i in (3, 1, 4, 2)]
    said += [{"type": "RECORD", "stream": "orders", "record": record} for record in records]
    said.append({"type": "STATE", "value": {"next": 5}})
    config = {
        "path": "./lake",
        "namespace": "shop",
        "metadata": "singer",
        "layout": {
            "*": {"sort_by": ["kind"]},
            "orders": {"partition_by": ["kind"], "sort_by": ["_sdc_table_version", "id desc"]},
        },
    }
    (workspace.folder / "c.json").write_text(json.dumps(config))
    piped = subprocess.run(
        [
            str(DATIVO.with_name("dativo-target-parquet")),
            "--config",
            "c.json",
            *workspace.flags,
        ],
        input="".join(json.dumps(message) + "\n" for message in said),
        cwd=workspace.folder,
        env=workspace.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert piped.returncode == 0, piped.stderr
    found = [
        [(row["kind"], row["id"]) for row in rows_of(file)]
        for file in sorted(workspace.lake.glob("shop/orders/*.parquet"))
    ]
    assert sorted(found) == [[("a", 4), ("a", 2)], [("b", 3), ("b", 1)]]
