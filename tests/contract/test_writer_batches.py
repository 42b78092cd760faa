"""Batches into the real writer: taken where they were agreed on, and each lie of theirs ends the run at its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.contract.writer_kernel import Event, Writer, opening, plan_for, play, stream

SCHEMA = {
    "properties": {
        "id": {"type": "integer"},
        "text": {"type": ["null", "string"]},
        "day": {"type": "string", "format": "date"},
    }
}
ARROW = pa.schema([("id", pa.int64()), ("text", pa.string()), ("day", pa.date32())])
ROWS = [
    {"id": 1, "text": "a", "day": None},
    {"id": 2, "text": None, "day": 20_780},
    {"id": 3, "text": "ü", "day": 0},
]
STATE = (
    b'{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{"name":"s"},'
    b'"stream_state":{"at":%d}}}}\n'
)


def body(table: pa.Table | None = None, **options: Any) -> bytes:
    """Return rows as one Arrow IPC stream."""
    rows = pa.Table.from_pylist(ROWS, ARROW) if table is None else table
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, **options) as out:
        out.write_table(rows)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def announce(rows: int, size: int, **more: Any) -> bytes:
    batch = {"stream": "s", "rows": rows, "bytes": size, **more}
    return (
        json.dumps({"type": "ARROW_BATCH", "batch": batch}, separators=(",", ":")).encode() + b"\n"
    )


def message(table: pa.Table | None = None, **options: Any) -> bytes:
    data = body(table, **options)
    return announce(len(ROWS) if table is None else len(table), len(data)) + data


def agreed(staging: Path, schema: Any = None, **options: Any) -> Event:
    return {
        **opening("airbyte", staging, [stream("s", schema or SCHEMA)], **options),
        "batches": True,
    }


def landed(writer: Writer, staging: Path) -> list[Any]:
    tables = [pq.read_table(staging / file["path"]) for file in writer.files("s")]
    rows: list[Any] = pa.concat_tables(tables).to_pylist() if tables else []
    return rows


def record(**data: Any) -> bytes:
    said = {"type": "RECORD", "record": {"stream": "s", "emitted_at": 0, "data": data}}
    return json.dumps(said).encode() + b"\n"


def test_batches_and_records_land_in_their_order_under_the_same_states(tmp_path: Path) -> None:
    writer = play(
        agreed(tmp_path, epoch={"max_bytes": 1 << 30, "max_rows": 4, "max_seconds": 60}),
        record(id=0, text="first"),
        message(),
        STATE % 1,
        message(),
        record(id=9),
        STATE % 2,
        record(id=10),
    )
    assert writer.status == 0, writer.of("error")
    ids = [row["id"] for row in landed(writer, tmp_path)]
    assert ids == [0, 1, 2, 3, 1, 2, 3, 9, 10]
    sealed = writer.of("sealed")
    assert [len(each["states"]) for each in sealed] == [1, 1, 0]
    assert [each["counts"][0]["read"] for each in sealed] == [4, 4, 1]
    assert sum(each["counts"][0]["written"] for each in sealed) == 9


def test_a_checkpoint_cuts_inside_what_came_as_batches(tmp_path: Path) -> None:
    writer = play(
        agreed(tmp_path), message(), STATE % 1, message(), record(id=9), rest="checkpoint"
    )
    assert writer.status == 0, writer.of("error")
    assert [row["id"] for row in landed(writer, tmp_path)] == [1, 2, 3]


def test_what_the_plan_leaves_out_is_not_written(tmp_path: Path) -> None:
    def plan(schema: Event) -> Event:
        found = plan_for(schema)
        found["columns"] = [each for each in found["columns"] if each["property"] != "text"]
        return found

    with Writer(agreed(tmp_path), plan=plan) as writer:
        writer.feed_all(iter([message()]))
        writer.finish()
        writer.drain()
    assert writer.status == 0, writer.of("error")
    assert [sorted(row) for row in landed(writer, tmp_path)] == [["day", "id"]] * 3


def test_what_is_not_written_is_not_kept(tmp_path: Path) -> None:
    """Rows wait for their row group; a batch that is nearly all dropped must not wait with them."""

    def plan(schema: Event) -> Event:
        found = plan_for(schema)
        found["columns"] = [each for each in found["columns"] if each["property"] != "text"]
        return found

    large = message(table(text=pa.array(["x" * (4 << 20)])))
    with Writer(agreed(tmp_path), plan=plan) as writer:
        writer.feed_all(large for _ in range(60))
        writer.finish()
        writer.drain()
    assert writer.status == 0, writer.of("error")
    assert len(landed(writer, tmp_path)) == 60
    assert writer.peak_bytes < 80 << 20


def test_large_batches_are_cut_into_row_groups(tmp_path: Path) -> None:
    count = 100_000
    columns = {"id": pa.array(range(count)), "text": pa.array(["x" * 50] * count)}
    table = pa.table({**columns, "day": pa.nulls(count, pa.date32())})
    writer = play(
        agreed(tmp_path, parquet={"row_group_rows": 30_000}), message(table), message(table)
    )
    assert writer.status == 0, writer.of("error")
    [file] = writer.files("s")
    assert file["rows"] == 2 * count
    metadata = pq.read_metadata(tmp_path / file["path"])
    assert [metadata.row_group(at).num_rows for at in range(6)] == [30_000] * 6


def test_no_batch_where_none_was_agreed_on(tmp_path: Path) -> None:
    open_ = {**agreed(tmp_path), "batches": False}
    writer = play(open_, message())
    assert writer.status == 7
    assert writer.error()["code"] == "message.batch"


def spaced(rows: int, size: int) -> bytes:
    """Announced with a space: not as the specification has it."""
    batch = {"stream": "s", "rows": rows, "bytes": size}
    return json.dumps({"type": "ARROW_BATCH", "batch": batch}).encode() + b"\n"


def table(**columns: Any) -> pa.Table:
    whole = {"id": pa.array([1]), "text": pa.array(["a"]), "day": pa.nulls(1, pa.date32())}
    return pa.table({**whole, **columns})


def lie(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


GOOD = body()
# What is sent, code, what is said.
LIES: dict[str, tuple[bytes, str, str]] = {
    "other rows": (announce(4, len(GOOD)) + GOOD, "message.batch", "3 rows, 4 were announced"),
    "no rows": (announce(0, len(GOOD)) + GOOD, "message.batch", "rows must be"),
    "too many rows": (announce(1 << 30, 8) + b"x" * 8, "message.batch", "rows must be"),
    "too many bytes": (announce(1, 1 << 40), "message.batch", "bytes must be"),
    "fewer bytes": (announce(3, len(GOOD) - 9) + GOOD, "message.batch", "longer than its bytes"),
    "half a batch": (announce(3, len(GOOD)) + GOOD[:-20], "framing.half_line", "inside a line or a batch"),
    "unknown stream": (announce(3, len(GOOD), stream="t") + GOOD, "message.unknown_stream", "not declared"),
    "spaces": (spaced(3, len(GOOD)) + GOOD, "message.batch", ""),
    "no arrow": (announce(3, 64) + b"\n" * 64, "message.batch", "continuation marker"),
    "endless metadata": (announce(3, len(GOOD)) + lie(GOOD, 4, b"\xff\xff\xff\x7f"), "message.batch", "longer than"),
    "negative metadata": (announce(3, len(GOOD)) + lie(GOOD, 4, b"\xff" * 4), "message.batch", "without metadata"),
    "torn metadata": (announce(3, len(GOOD)) + lie(GOOD, 8, b"\xff" * 4), "message.batch", "cannot be read"),
    "two batches": (announce(3, 2 * len(GOOD)) + GOOD + GOOD, "message.batch", "stands behind"),
    "compressed": (message(options=pa.ipc.IpcWriteOptions(compression="zstd")), "message.batch", "compressed"),
    "other order": (message(table().select(["text", "id", "day"])), "message.batch", "another column"),
    "a column less": (message(table().select(["id", "text"])), "message.batch", "2 columns"),
    "narrower": (message(table(id=pa.array([1], pa.int32()))), "message.batch", "to be Int64"),
    "another type": (message(table(id=pa.array(["1"]))), "message.batch", "to be Int64"),
    "views": (message(table(text=pa.array(["a"], pa.string_view()))), "message.batch", "to be Utf8"),
    "large text": (message(table(text=pa.array(["a"], pa.large_string()))), "message.batch", "to be Utf8"),
    "dictionary": (message(table(text=pa.array(["a"]).dictionary_encode())), "message.batch", "dictionaries"),
    "no date": (message(table(day=pa.array([2**31 - 1], pa.int32()).cast(pa.date32()))), "record.value", "no date"),
    "no text": (message(table(text=pa.array([b"\xff"]).view(pa.string()))), "message.batch", "UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_ends_the_run_at_its_place(tmp_path: Path, name: str) -> None:
    sent, code, said = LIES[name]
    writer = play(agreed(tmp_path), message(), STATE % 1, sent)
    error = writer.error()
    assert (writer.status, error["code"], error["blame"]) == (7, code, "plugin"), error
    assert said in error["message"]
    whole = len(message()) + len(STATE % 1)
    if name != "half a batch":
        assert (error["line"], error["byte"]) == (3, whole)
    if code != "framing.half_line" and "must be" not in said and name != "spaces":
        assert error["stream"]["name"] in ("s", "t")


def test_nested_streams_take_none(tmp_path: Path) -> None:
    nested = {
        "properties": {
            "id": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
        }
    }
    tags = pa.array([["a"]])
    writer = play(agreed(tmp_path, nested), message(pa.table({"id": [1], "tags": tags})))
    assert writer.status == 7
    assert "objects or arrays go as RECORDs" in writer.error()["message"]


def test_output_is_bounded_with_batches_too(tmp_path: Path) -> None:
    sent = message()
    writer = play(agreed(tmp_path, limits={"max_output_bytes": len(sent) + 10}), sent, sent)
    assert writer.status == 6
    error = writer.error()
    assert (error["code"], error["byte"]) == ("limit.output", len(sent))
