"""Metadata columns through whole jobs and the standalone targets, read back by DuckDB."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.integration.conftest import ROOT, Workspace, reader
from tests.integration.standalone_target import (
    Target,
    activate,
    airbyte_record,
    airbyte_state,
    configured,
    lines,
    record,
    schema,
    state,
)
from tests.integration.test_evolution_job import send
from tests.integration.test_types import scan

JOB = """\
pipeline: types
source:
  connector: ./plugins/types
target:
  connector: {target}
  config: {{warehouse: ./lake, namespace: types}}
  mode: {mode}
  metadata: {metadata}
"""


def land(
    workspace: Workspace, target: str, metadata: str, *, mode: str = "append", rows: int = 2
) -> None:
    """Run the job with a source of ``rows`` rows."""
    send(workspace, {"n": "integer"}, *({"n": number} for number in range(rows)))
    workspace.job(JOB.format(target=target, metadata=metadata, mode=mode))
    ran = workspace.run()
    assert ran.status == 0, ran.stderr


def speaks(workspace: Workspace, dialect: str) -> None:
    workspace.plugin(ROOT / "tests/plugins/types", "types")
    manifest = workspace.folder / "plugins/types/plugin.yaml"
    manifest.write_text(manifest.read_text().replace("airbyte", dialect))


def read(workspace: Workspace, target: str, columns: str, where: str = "true") -> list[Any]:
    source = scan(workspace, target)
    if target == "parquet":
        source = source[:-1] + ", union_by_name=true)"
    query = f"SELECT {columns} FROM {source} WHERE {where} ORDER BY ALL"
    return reader().execute("SET TimeZone='UTC'; " + query).fetchall()


@pytest.mark.parametrize(("dialect", "target"), [("airbyte", "iceberg"), ("singer", "parquet")])
def test_ids_prove_that_nothing_is_there_twice(
    workspace: Workspace, dialect: str, target: str
) -> None:
    speaks(workspace, dialect)
    before = datetime.now(UTC)
    land(workspace, target, "none")
    for _ in range(2):
        land(workspace, target, "dativo", rows=3)
    rows = read(workspace, target, "_dativo_epoch, n, _dativo_id", "_dativo_id IS NOT NULL")
    assert len(rows) == 6
    epochs = sorted({epoch for epoch, _, _ in rows})
    assert len(epochs) == 2 and 1 < epochs[0] < epochs[1]
    assert len({text for _, _, text in rows}) == 6
    numbers = [uuid.UUID(text).int & (2**60 - 1) for _, _, text in rows]
    assert numbers == [1, 2, 3, 1, 2, 3]
    said = read(workspace, target, "count(*), count(_dativo_epoch), count(_dativo_extracted_at)")
    assert said == [(8, 6, 6 if dialect == "airbyte" else 0)]
    ((first, last),) = read(workspace, target, "min(_dativo_loaded_at), max(_dativo_loaded_at)")
    assert before <= first <= last <= datetime.now(UTC)


def test_airbyte_s_columns_in_iceberg(workspace: Workspace) -> None:
    speaks(workspace, "airbyte")
    for _ in range(2):
        land(workspace, "iceberg", "airbyte", mode="overwrite")
    columns = "n, _airbyte_extracted_at, _airbyte_generation_id, _airbyte_meta.changes"
    assert read(workspace, "iceberg", columns) == [
        (number, datetime(1970, 1, 1, tzinfo=UTC), 2, []) for number in range(2)
    ]
    ((sync,),) = read(workspace, "iceberg", "DISTINCT _airbyte_meta.sync_id")
    assert sync > 1


def test_singer_s_columns_in_parquet(workspace: Workspace) -> None:
    speaks(workspace, "singer")
    land(workspace, "parquet", "singer")
    times = "_sdc_received_at >= _sdc_batched_at, _sdc_sequence >= _sdc_sync_started_at"
    nulls = "_sdc_deleted_at, _sdc_table_version, _sdc_extracted_at"
    assert read(workspace, "parquet", f"n, {times}, {nulls}") == [
        (number, True, True, None, None, None) for number in range(2)
    ]


# --- the standalone targets ------------------------------------------------------------------------------------------------


def test_a_singer_target_is_told_by_the_sdk_s_name(workspace: Workspace) -> None:
    target = Target(workspace, "parquet")
    target.configure(add_record_metadata=True, eof="commit")
    first = lines(schema(), record(1, version=1), activate(1), state(1))
    second = lines(schema(), record(2, version=2), activate(2), state(2))
    for given in (first, second):
        result = target.pour(given)
        assert result.status == 0, result.stderr
    what = "list((id, _sdc_table_version, _sdc_deleted_at))"
    assert target.ids() == [2]
    assert workspace.read("parquet", "users", what, "read.yaml") == [(2, 2, None)]


def test_an_airbyte_destination_has_the_numbers_of_its_platform(workspace: Workspace) -> None:
    target = Target(workspace, "iceberg")
    target.configure(metadata="airbyte")
    target.catalog(configured(sync_id=42, generation_id=7, minimum_generation_id=0))
    change = {"field": "name", "change": "NULLED", "reason": "SOURCE_RETRIEVAL_ERROR"}
    given = airbyte_record(1)
    given["record"]["meta"] = {"changes": [change]}
    result = target.write(lines(given, airbyte_state(1)))
    assert result.status == 0, result.stderr
    run = re.search(r"run (\S+)", result.stderr)
    assert run is not None
    shown = workspace.dativo("runs", "show", run[1])
    assert [stream["changed"] for stream in json.loads(shown.stdout)["streams"]] == [1]
    what = "list((_airbyte_generation_id, _airbyte_meta))"
    assert workspace.count("main.users", what) == [(7, {"sync_id": 42, "changes": [change]})]
