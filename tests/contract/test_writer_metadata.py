"""Metadata columns in the writer: what fills them, what they refuse, and what stays together with its row."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.contract import test_writer_batches as batches
from tests.contract.writer_kernel import Event, Writer, opening, plan_for, stream

SCHEMA = {"properties": {"id": {"type": "integer"}, "tags": {"type": "array", "items": {}}}}
STAMP = pa.timestamp("us", "UTC")


def opened(
    staging: Path, dialect: str, columns: str, *, schema: object = SCHEMA, **more: Any
) -> Event:
    entries = [stream("s", schema if dialect == "airbyte" else None)]
    return {
        **opening(dialect, staging, entries, **more),
        "metadata": {"columns": columns, "pipeline": "shop"},
    }


def play(open_: Event, *chunks: bytes, rest: str = "commit", **said: int) -> Writer:
    """Run a whole source; ``said`` is what the plan says beside columns: ``epoch``, ``generation``."""
    with Writer(open_, plan=lambda schema: {**plan_for(schema), **said}) as writer:
        writer.feed_all(iter(chunks))
        writer.finish(rest)
        writer.drain()
    return writer


def airbyte(data: Any, **more: Any) -> bytes:
    record = {"stream": "s", "data": data, **more}
    return json.dumps({"type": "RECORD", "record": record}).encode() + b"\n"


def singer(record: Any, **more: Any) -> bytes:
    return json.dumps({"type": "RECORD", "stream": "s", "record": record, **more}).encode() + b"\n"


def singer_schema(**properties: Any) -> bytes:
    schema = {"properties": {"id": {"type": "integer"}, **properties}}
    text = {"type": "SCHEMA", "stream": "s", "schema": schema, "key_properties": ["id"]}
    return json.dumps(text).encode() + b"\n"


def table(staging: Path, writer: Writer) -> pa.Table:
    assert (writer.status, writer.of("error")) == (0, [])
    return pa.concat_tables([pq.read_table(staging / file["path"]) for file in writer.files("s")])


def refused(writer: Writer) -> tuple[str, str | None, str | None]:
    (error,) = writer.of("error")
    assert writer.status == 7
    return error["code"], error.get("field"), error.get("value")


def test_the_ids_of_a_stream_are_numbered_and_say_where_the_run_began(tmp_path: Path) -> None:
    records = [airbyte({"id": number}) for number in range(1, 10_001)]
    first, again, later = (tmp_path / name for name in ("first", "again", "later"))
    for folder in (first, again, later):
        folder.mkdir()
    ids = [
        table(folder, play(opened(folder, "airbyte", "dativo"), *records, epoch=epoch))
        .column("_dativo_id")
        .to_pylist()
        for folder, epoch in ((first, 4), (again, 4), (later, 5))
    ]
    assert ids[0] == ids[1]
    assert len({*ids[0], *ids[2]}) == 20_000
    parsed = [uuid.UUID(text) for text in ids[0]]
    assert {(one.version, one.variant) for one in parsed} == {(8, uuid.RFC_4122)}
    assert [one.int & (2**60 - 1) for one in parsed] == list(range(1, 10_001))
    assert len({one.int >> 64 for one in parsed}) == 1
    assert [str(one) for one in parsed[:1]] == ids[0][:1]


def test_dativo_s_columns(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    writer = play(
        opened(tmp_path, "airbyte", "dativo"),
        airbyte({"id": 1}, emitted_at=1_700_000_000_123),
        airbyte({"id": 2}),
        epoch=4,
    )
    (schema,) = writer.of("stream_schema")
    assert [(column["property"], column.get("metadata")) for column in schema["columns"]] == [
        ("id", None),
        ("tags", None),
        ("_dativo_id", True),
        ("_dativo_epoch", True),
        ("_dativo_extracted_at", True),
        ("_dativo_loaded_at", True),
    ]
    found = table(tmp_path, writer)
    assert found.schema.field("_dativo_loaded_at").type == STAMP
    assert found.schema.field("_dativo_epoch").metadata == {b"PARQUET:field_id": b"4"}
    rows = found.to_pylist()
    assert [row["_dativo_epoch"] for row in rows] == [5, 5]
    assert [row["_dativo_extracted_at"] for row in rows] == [
        datetime(2023, 11, 14, 22, 13, 20, 123000, UTC),
        None,
    ]
    assert all(before <= row["_dativo_loaded_at"] <= datetime.now(UTC) for row in rows)


def test_singer_s_columns(tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    writer = play(
        opened(tmp_path, "singer", "singer"),
        singer_schema(),
        singer({"id": 1}, time_extracted="2026-11-27T10:00:00.5+01:00", version=7),
        singer({"id": 2}, version=8),
        singer({"id": 3}, version=8, time_extracted=None),
    )
    rows = table(tmp_path, writer).to_pylist()
    assert [row["_sdc_table_version"] for row in rows] == [7, 8, 8]
    assert [row["_sdc_extracted_at"] for row in rows] == [
        datetime(2026, 11, 27, 9, 0, 0, 500000, UTC),
        None,
        None,
    ]
    for row in rows:
        assert row["_sdc_deleted_at"] is None
        assert before <= row["_sdc_batched_at"] <= row["_sdc_received_at"] <= datetime.now(UTC)
        assert row["_sdc_sequence"] == int(row["_sdc_received_at"].timestamp() * 1000)
        started = datetime.fromtimestamp(row["_sdc_sync_started_at"] / 1000, UTC)
        assert before <= started <= row["_sdc_received_at"]


def test_a_tap_that_tells_of_deletions_keeps_its_own_column(tmp_path: Path) -> None:
    at = "2026-11-27T10:00:00Z"
    writer = play(
        opened(tmp_path, "singer", "singer"),
        singer_schema(_sdc_deleted_at={"type": ["null", "string"], "format": "date-time"}),
        singer({"id": 1, "_sdc_deleted_at": at}),
        singer({"id": 2}),
    )
    found = table(tmp_path, writer)
    assert found.column_names.count("_sdc_deleted_at") == 1
    assert found.column("_sdc_deleted_at").to_pylist() == [datetime.fromisoformat(at), None]
    assert found.column("_sdc_sequence").null_count == 0


def test_airbyte_s_columns_hold_what_the_source_changed(tmp_path: Path) -> None:
    change = {"field": "tags", "change": "NULLED", "reason": "SOURCE_RETRIEVAL_ERROR"}
    writer = play(
        opened(tmp_path, "airbyte", "airbyte"),
        airbyte({"id": 1}, emitted_at=0, meta={"changes": [change, {"field": "x"}], "more": 1}),
        airbyte({"id": 2}, emitted_at=1),
        airbyte({"id": 3}, emitted_at=2, meta={}),
        airbyte({"id": 4}, emitted_at=3, meta={"changes": []}),
        epoch=6,
        generation=3,
    )
    rows = table(tmp_path, writer).to_pylist()
    partial = {"field": "x", "change": None, "reason": None}
    assert [row["_airbyte_meta"] for row in rows] == [
        {"sync_id": 7, "changes": changes} for changes in ([change, partial], [], None, [])
    ]
    assert {row["_airbyte_generation_id"] for row in rows} == {3}
    assert rows[1]["_airbyte_extracted_at"] == datetime(1970, 1, 1, 0, 0, 0, 1000, UTC)
    assert len({row["_airbyte_raw_id"] for row in rows}) == 4


def test_a_platform_s_own_numbers_come_first(tmp_path: Path) -> None:
    open_ = opened(tmp_path, "airbyte", "airbyte")
    numbers = {"sync": 42, "generation": 5}
    other = {"stream": {"namespace": "x", "name": "s"}, "sync": 1, "generation": 1}
    mine = {"stream": {"namespace": None, "name": "s"}, **numbers}
    open_["metadata"]["streams"] = [other, mine]
    (row,) = table(tmp_path, play(open_, airbyte({"id": 1}), epoch=6, generation=3)).to_pylist()
    assert (row["_airbyte_meta"]["sync_id"], row["_airbyte_generation_id"]) == (42, 5)


@pytest.mark.parametrize(
    ("columns", "dialect", "more", "field", "value"),
    [
        ("dativo", "airbyte", {"emitted_at": "2026-01-01"}, "emitted_at", '"2026-01-01"'),
        ("dativo", "airbyte", {"emitted_at": 1.5}, "emitted_at", "1.5"),
        ("airbyte", "airbyte", {"emitted_at": 2**62}, "emitted_at", str(2**62)),
        ("singer", "singer", {"time_extracted": "noon"}, "time_extracted", '"noon"'),
        ("singer", "singer", {"time_extracted": 5}, "time_extracted", "5"),
        ("airbyte", "airbyte", {"meta": []}, "meta", "[]"),
        ("airbyte", "airbyte", {"meta": {"changes": {}}}, "meta.changes", "{}"),
        (
            "airbyte",
            "airbyte",
            {"meta": {"changes": [{"field": 1}]}},
            "meta.changes.0.field",
            "1",
        ),
    ],
)
def test_what_a_column_cannot_hold_is_refused(
    tmp_path: Path, columns: str, dialect: str, more: Any, field: str, value: str
) -> None:
    lines = (
        [airbyte({"id": 1}, **more)]
        if dialect == "airbyte"
        else [singer_schema(), singer({"id": 1}, **more)]
    )
    found = refused(play(opened(tmp_path, dialect, columns), *lines))
    assert found == ("message.invalid", field, value)


def test_what_no_column_needs_is_not_looked_at(tmp_path: Path) -> None:
    writer = play(
        opened(tmp_path, "airbyte", "dativo"),
        airbyte({"id": 1}, emitted_at=1, meta={"changes": []}),
    )
    assert writer.status == 0


@pytest.mark.parametrize(
    ("columns", "name"),
    [("dativo", "_dativo_id"), ("singer", "_sdc_sequence"), ("airbyte", "_airbyte_meta")],
)
def test_a_property_of_the_name_is_refused_before_a_row_is_read(
    tmp_path: Path, columns: str, name: str
) -> None:
    schema = {"properties": {"id": {"type": "integer"}, name: {"type": "string"}}}
    writer = play(opened(tmp_path, "airbyte", columns, schema=schema), airbyte({"id": 1}))
    (error,) = writer.of("error")
    assert (error["code"], error["field"]) == ("schema.reserved", name)
    assert "target.metadata" in error["hint"]
    assert writer.of("stream_schema") == []


def test_a_row_keeps_its_metadata_when_others_are_discarded_or_cut_off(tmp_path: Path) -> None:
    open_ = opened(tmp_path, "airbyte", "airbyte", epoch={"max_rows": 10**9})
    open_["streams"][0]["contract"] = {"values": "discard_row", "max_rejects": 9}
    state = {"type": "STREAM", "stream": {"stream_descriptor": {"name": "s"}}}
    text = json.dumps({"type": "STATE", "state": state}).encode() + b"\n"
    lines = [
        airbyte({"id": number if number % 3 else "x"}, emitted_at=number) for number in range(1, 9)
    ]
    writer = play(open_, *lines[:5], text, *lines[5:], rest="checkpoint")
    rows = table(tmp_path, writer).to_pylist()
    numbers = [uuid.UUID(row["_airbyte_raw_id"]).int & (2**60 - 1) for row in rows]
    assert [row["id"] for row in rows] == [1, 2, 4, 5]
    assert numbers == [1, 2, 4, 5]
    assert [row["_airbyte_extracted_at"].microsecond for row in rows] == [1000, 2000, 4000, 5000]


def changes(count: int) -> dict[str, Any]:
    return {
        "changes": [{"field": "x", "change": "NULLED", "reason": "SOURCE_FIELD_SIZE_LIMITATION"}]
        * count
    }


@pytest.mark.parametrize("columns", [None, "airbyte"])
def test_what_the_source_changed_is_counted_for_rows_that_are_written(
    tmp_path: Path, columns: str | None
) -> None:
    open_ = opened(tmp_path, "airbyte", columns or "dativo")
    if columns is None:
        del open_["metadata"]
    open_["streams"][0]["contract"] = {"values": "discard_row", "max_rejects": 9}
    descriptor = {"type": "STREAM", "stream": {"stream_descriptor": {"name": "s"}}}
    state = json.dumps({"type": "STATE", "state": descriptor}).encode() + b"\n"
    lines = (
        airbyte({"id": 1}, meta=changes(2)),
        airbyte({"id": 2}, meta={"changes": None}),
        airbyte({"id": "x"}, meta=changes(5)),
        airbyte({"id": 3}, meta=changes(1)),
        state,
        airbyte({"id": 4}, meta=changes(9)),
    )
    writer = play(open_, *lines, rest="checkpoint")
    assert table(tmp_path, writer).num_rows == 3
    (sealed,) = writer.of("sealed")
    assert sealed["counts"][0]["changed"] == 3
    assert sealed["counts"][0]["rejected"] == 1


@pytest.mark.parametrize(
    ("meta", "field"), [([], "meta"), ("x", "meta"), ({"changes": "none"}, "meta.changes")]
)
def test_changes_that_cannot_be_counted_are_refused(
    tmp_path: Path, meta: object, field: str
) -> None:
    open_ = opened(tmp_path, "airbyte", "dativo")
    del open_["metadata"]
    code, where, _ = refused(play(open_, airbyte({"id": 1}, meta=meta)))
    assert (code, where) == ("message.invalid", field)


def test_a_record_of_a_file_is_refused(tmp_path: Path) -> None:
    reference = {"staging_file_url": "/exchange/a.pdf", "file_size_bytes": 1}
    for more, status in (({"file_reference": None}, 0), ({"file_reference": reference}, 7)):
        writer = play(opened(tmp_path, "airbyte", "dativo"), airbyte({"id": 1}, **more))
        assert writer.status == status
        for path in tmp_path.glob("*.parquet"):
            path.unlink()
    assert refused(writer)[:2] == ("message.file_reference", "file_reference")


@pytest.mark.parametrize("columns", ["dativo", "singer", "airbyte"])
def test_rows_of_a_batch_have_them_too(tmp_path: Path, columns: str) -> None:
    open_ = batches.agreed(tmp_path) | {"metadata": {"columns": columns, "pipeline": "shop"}}
    chunks = [batches.record(id=0), batches.message(), batches.record(id=9), batches.message()]
    rows = table(tmp_path, play(open_, *chunks, epoch=4)).to_pylist()
    assert [row["id"] for row in rows] == [0, 1, 2, 3, 9, 1, 2, 3]
    if columns == "singer":
        assert all(row["_sdc_received_at"] and row["_sdc_batched_at"] for row in rows)
        assert [row["_sdc_extracted_at"] is None for row in rows] == [
            row["id"] % 9 > 0 for row in rows
        ]
        return
    ids = [row["_dativo_id" if columns == "dativo" else "_airbyte_raw_id"] for row in rows]
    assert [uuid.UUID(text).int & (2**60 - 1) for text in ids] == list(range(1, 9))
    if columns == "airbyte":
        assert all(row["_airbyte_meta"] == {"sync_id": 5, "changes": []} for row in rows)
