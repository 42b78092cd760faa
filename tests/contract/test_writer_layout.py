"""Tables that are partitioned and sorted, as the writer lays them out; held against pyiceberg's own transforms."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.transforms import parse_transform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    LongType,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)
from tests.contract.test_writer_checkpoint import counts, left
from tests.contract.writer_kernel import Event, Writer, laid_out, opening, stream

PROPERTIES: Mapping[str, object] = {
    "number": {"type": ["integer", "null"]},
    "flag": {"type": ["boolean", "null"]},
    "text": {"type": ["string", "null"]},
    "amount": {"type": ["number", "null"], "multipleOf": 0.01, "minimum": -1e7, "maximum": 1e7},
    "day": {"type": ["string", "null"], "format": "date"},
    "at": {"type": ["string", "null"], "format": "time", "airbyte_type": "time_without_timezone"},
    "local": {
        "type": ["string", "null"],
        "format": "date-time",
        "airbyte_type": "timestamp_without_timezone",
    },
    "moment": {
        "type": ["string", "null"],
        "format": "date-time",
        "airbyte_type": "timestamp_with_timezone",
    },
    "bytes": {"type": ["string", "null"], "contentEncoding": "base64"},
    "came": {"type": "integer"},
}
COLUMNS = tuple(PROPERTIES)
TYPES: Mapping[str, PrimitiveType] = {
    "number": LongType(),
    "flag": BooleanType(),
    "text": StringType(),
    "day": DateType(),
    "at": TimeType(),
    "local": TimestampType(),
    "moment": TimestamptzType(),
    "bytes": BinaryType(),
}
EPOCH_DAY, DAY_US = 719_163, 86_400_000_000


def records(count: int, seed: int = 1) -> list[dict[str, object]]:
    """Return rows with values of all types, now and then null."""
    random = Random(seed)

    def maybe(value: object) -> object:
        return None if random.random() < 0.1 else value

    def row(came: int) -> dict[str, object]:
        date = f"{random.randint(1960, 1980)}-{random.randint(1, 12):02}-{random.randint(1, 28):02}"
        clock = f"{random.randint(0, 23):02}:{random.randint(0, 59):02}:07.5"
        return {
            "number": maybe(random.randint(-50, 50)),
            "flag": maybe(random.random() < 0.5),
            "text": maybe(random.choice("aàé漢😀") * random.randint(0, 4)),
            "amount": maybe(random.randint(-20_000, 20_000) / 100),
            "day": maybe(date),
            "at": maybe(clock),
            "local": maybe(f"{date}T{clock}"),
            "moment": maybe(f"{date}T{clock}+01:00"),
            "bytes": maybe(base64.b64encode(random.randbytes(random.randint(0, 4))).decode()),
            "came": came,
        }

    return [row(came) for came in range(count)]


def lines(rows: Sequence[object], name: str = "s") -> bytes:
    return b"".join(
        json.dumps({"type": "RECORD", "record": {"stream": name, "data": row}}).encode() + b"\n"
        for row in rows
    )


def state(number: int) -> bytes:
    inner = {
        "type": "STREAM",
        "stream": {"stream_descriptor": {"name": "s"}, "stream_state": {"n": number}},
    }
    return json.dumps({"type": "STATE", "state": inner}).encode() + b"\n"


def land(
    staging: Path, plan: Callable[[Event], Event], *chunks: bytes, rest: str = "commit", **more: Any
) -> Writer:
    open_ = opening("airbyte", staging, [stream("s", {"properties": PROPERTIES})], **more)
    with Writer(open_, plan=plan) as writer:
        writer.feed_all(iter(chunks))
        writer.finish(rest)
        writer.drain()
    return writer


def internal(value: Any, of: PrimitiveType) -> Any:
    """Return a value of pyarrow's as Iceberg's transforms take it."""
    match of:
        case _ if value is None:
            return None
        case DateType():
            return value.toordinal() - EPOCH_DAY
        case TimeType():
            seconds = (value.hour * 60 + value.minute) * 60 + value.second
            return seconds * 1_000_000 + value.microsecond
        case TimestampType() | TimestamptzType():
            days = value.toordinal() - EPOCH_DAY
            return days * DAY_US + internal(value.time(), TimeType())
        case _:
            return value


def told(value: Any) -> Any:
    """Return a result of a transform as ``sealed`` tells it."""
    if isinstance(value, Decimal):
        return str(int(value.scaleb(2)))
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def rows_of(staging: Path, files: Sequence[Event]) -> list[dict[str, Any]]:
    return [row for file in files for row in pq.read_table(staging / file["path"]).to_pylist()]


TAKEN = (
    *(f"identity {name}" for name in COLUMNS if name != "came"),
    *(f"{by} {name}" for by in ("year", "month", "day") for name in ("day", "local", "moment")),
    *(f"hour {name}" for name in ("local", "moment")),
    *(f"bucket[7] {name}" for name in COLUMNS if name not in ("flag", "came")),
    *(f"truncate[{w}] {name}" for w in (1, 3) for name in ("number", "amount", "text", "bytes")),
)


def test_a_file_holds_the_rows_of_one_partition(tmp_path: Path) -> None:
    """Every transform of every type that it takes, each a stream of its own."""
    rows = records(80)
    schema = {"properties": PROPERTIES}
    open_ = opening("airbyte", tmp_path, [stream(partition, schema) for partition in TAKEN])

    def plan(schema: Event) -> Event:
        return laid_out([schema["stream"]["name"]])(schema)

    with Writer(open_, plan=plan) as writer:
        writer.feed_all(lines(rows, partition) for partition in TAKEN)
        writer.finish()
        writer.drain()
    assert (writer.status, writer.of("error")) == (0, [])
    left(tmp_path, *writer.of("sealed"))
    for partition in TAKEN:
        by, name = partition.split()
        transform = parse_transform(by)
        files = writer.files(partition)
        found = set()
        for file in files:
            (value,) = file["partition"]
            found.add(json.dumps(value))
            for row in rows_of(tmp_path, [file]):
                of = TYPES.get(name) or DecimalType(*_precision(tmp_path, file))
                expected = transform.transform(of)(internal(row[name], of))
                assert told(expected) == value, partition
        assert len(found) == len(files) > 1, partition
        came = sorted(row["came"] for row in rows_of(tmp_path, files))
        assert came == list(range(len(rows)))


def _precision(staging: Path, file: Event) -> tuple[int, int]:
    kind = pq.read_schema(staging / file["path"]).field("amount").type
    return kind.precision, kind.scale


def test_several_fields_make_one_partition_and_rows_stay_as_they_came(tmp_path: Path) -> None:
    rows = records(2_000)
    plan = laid_out(["truncate[20] number", "identity flag", "year nothing"])
    writer = land(tmp_path, plan, lines(rows))
    files = writer.files("s")
    partitions = [tuple(file["partition"]) for file in files]
    assert len(set(partitions)) == len(files)
    assert all(partition[2] is None for partition in partitions)
    for file in files:
        came = [row["came"] for row in rows_of(tmp_path, [file])]
        assert came == sorted(came)
    assert sum(file["rows"] for file in files) == len(rows)


@pytest.mark.parametrize("partition", [(), ("identity flag",)])
@pytest.mark.parametrize("memory_bytes", [1 << 20, 64 << 20])
def test_a_file_is_sorted_wherever_its_rows_waited(
    tmp_path: Path, partition: tuple[str, ...], memory_bytes: int
) -> None:
    rows = records(8_000)
    plan = laid_out(partition, ["number", "-text", "bytes"])
    limits = {"memory_bytes": memory_bytes}
    parquet = {"row_group_rows": 700}
    writer = land(tmp_path, plan, lines(rows), limits=limits, parquet=parquet)
    assert (writer.status, writer.of("error")) == (0, [])
    (sealed,) = writer.of("sealed")
    left(tmp_path, sealed)
    for file in sealed["files"]:
        assert ("partition" in file) == bool(partition)
        found = rows_of(tmp_path, [file])
        assert found == sorted(found, key=_order)
    assert sum(file["rows"] for file in sealed["files"]) == len(rows)


def _order(row: Mapping[str, Any]) -> tuple[object, ...]:
    text = row["text"]
    # Descending, by bytes: shorter ones come later, so the end counts as more than any byte.
    backwards = (1,) if text is None else (0, *(255 - byte for byte in text.encode()), 256)
    number, raw = row["number"], row["bytes"]
    return (number is not None, number or 0), backwards, (raw is not None, raw or b"")


@pytest.mark.parametrize("memory_bytes", [1 << 20, 64 << 20])
@pytest.mark.parametrize("behind", [0, 1, 5_000])
def test_rows_behind_the_last_state_are_cut_off_before_they_are_laid_out(
    tmp_path: Path, behind: int, memory_bytes: int
) -> None:
    rows = records(8_192 + 5_000)
    count = len(rows) - behind
    chunks = lines(rows[:count]), state(1), lines(rows[count:])
    limits = {"memory_bytes": memory_bytes}
    plan = laid_out(["bucket[3] came"], ["-amount"])
    writer = land(tmp_path, plan, *chunks, rest="checkpoint", limits=limits)
    assert (writer.status, writer.of("error")) == (0, [])
    (sealed,) = writer.of("sealed")
    left(tmp_path, sealed)
    assert counts(sealed) == {"s": (count, count)}
    assert sorted(row["came"] for row in rows_of(tmp_path, sealed["files"])) == list(range(count))


def test_an_epoch_is_laid_out_when_it_is_sealed(tmp_path: Path) -> None:
    rows = records(900)
    chunks = [part for at in range(3) for part in (lines(rows[at * 300 :][:300]), state(at))]
    epoch = {"max_rows": 300}
    writer = land(tmp_path, laid_out(["identity flag"]), *chunks, epoch=epoch)
    sealed = writer.of("sealed")
    assert [len(one["files"]) for one in sealed] == [3, 3, 3, 0]
    for at, one in enumerate(sealed[:3]):
        came = sorted(row["came"] for row in rows_of(tmp_path, one["files"]))
        assert came == list(range(at * 300, at * 300 + 300))
    left(tmp_path, *sealed)


def test_a_partition_that_is_larger_than_a_file_has_several(tmp_path: Path) -> None:
    rows = records(3_000)
    parquet = {"file_bytes": 20_000, "row_group_rows": 100}
    writer = land(tmp_path, laid_out(["identity flag"], ["came"]), lines(rows), parquet=parquet)
    files = writer.files("s")
    assert len(files) > 3
    for value in (None, False, True):
        came = [
            row["came"]
            for f in files
            if f["partition"] == [value]
            for row in rows_of(tmp_path, [f])
        ]
        assert came == sorted(came)


def test_versions_and_schemas_have_files_of_their_own(tmp_path: Path) -> None:
    """Singer's rows of two versions, and of two schemas, between two states: all cut or sealed together."""

    def rows(start: int, version: int | None) -> bytes:
        more = {} if version is None else {"version": version}
        return b"".join(
            json.dumps(
                {"type": "RECORD", "stream": "s", "record": {"id": n, "of": n % 2}, **more}
            ).encode()
            + b"\n"
            for n in range(start, start + 10)
        )

    def schema(*names: str) -> bytes:
        properties = {name: {"type": "integer"} for name in names}
        inner = {"properties": properties}
        line = {"type": "SCHEMA", "stream": "s", "schema": inner, "key_properties": []}
        return json.dumps(line).encode() + b"\n"

    singer_state = b'{"type":"STATE","value":{"n":1}}\n'
    data = (
        schema("id", "of")
        + rows(0, 1)
        + rows(10, 2)
        + schema("id", "of", "more")
        + rows(20, 2)
        + singer_state
        + rows(30, 2)
        + rows(40, 3)
    )
    plan = laid_out(["identity of"])
    with Writer(opening("singer", tmp_path, [stream("s")]), plan=plan) as writer:
        writer.feed_all(iter([data]))
        writer.finish("checkpoint")
        writer.drain()
    assert (writer.status, writer.of("error")) == (0, [])
    (sealed,) = writer.of("sealed")
    left(tmp_path, sealed)
    found = [(f["revision"], f["version"], f["partition"]) for f in sealed["files"]]
    assert found == [(r, v, [of]) for r, v in ((1, 1), (1, 2), (2, 2)) for of in (0, 1)]
    assert sorted(row["id"] for row in rows_of(tmp_path, sealed["files"])) == list(range(30))


def test_a_value_that_is_too_long_to_name_a_partition_ends_the_run(tmp_path: Path) -> None:
    good = [{"text": "x" * 256, "came": 1}]
    assert land(tmp_path, laid_out(["identity text"]), lines(good)).status == 0
    bad = [*good, {"text": "x" * 257, "came": 2}]
    writer = land(tmp_path, laid_out(["identity text"]), lines(bad))
    error = writer.error()
    assert (error["code"], error["field"]) == ("limit.partition_value", "text")
    assert error["stream"]["name"] == "s"
    assert writer.status == 6


def test_partitions_that_take_too_much_to_name_end_the_run(tmp_path: Path) -> None:
    """A control character takes six bytes in a message: 700 texts of 256 are 1 MiB, of 25 they are not."""
    for length, status in ((25, 0), (256, 6)):
        rows = [{"text": f"{at:03}" + "\x01" * (length - 3), "came": at} for at in range(700)]
        (folder := tmp_path / str(length)).mkdir()
        writer = land(folder, laid_out(["identity text"]), lines(rows))
        assert writer.status == status
    assert writer.error()["code"] == "limit.partition_value"
