"""Row groups: how large they become, where their rows wait, and who encodes them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.contract.writer_kernel import Writer, opening, play, stream

SCHEMA = {
    "properties": {
        "id": {"type": "integer"},
        "kind": {"type": "string"},
        "text": {"type": ["null", "string"]},
        "place": {"type": ["null", "object"], "properties": {"city": {"type": "string"}}},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
}


def row(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "kind": ("new", "paid")[number % 2],
        "text": None if number % 5 == 0 else hashlib.sha256(b"%d" % number).hexdigest(),
        "place": None if number % 7 == 0 else {"city": f"city {number % 3}"},
        "tags": ["a", "b", "c"][: number % 4],
    }


def record(name: str, number: int) -> bytes:
    message = {"type": "RECORD", "record": {"stream": name, "data": row(number)}}
    return json.dumps(message).encode() + b"\n"


def airbyte(staging: Path, *names: str, **changes: Any) -> dict[str, Any]:
    return opening("airbyte", staging, [stream(name, SCHEMA) for name in names], **changes)


def groups(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]


def test_streams_that_take_turns_in_little_memory_have_whole_row_groups(tmp_path: Path) -> None:
    names = [f"s{index}" for index in range(30)]
    data = (b"".join(record(name, number) for name in names) for number in range(3_000))
    with Writer(airbyte(tmp_path, *names, limits={"memory_bytes": 4 << 20})) as writer:
        writer.feed_all(data)
        writer.finish()
        writer.drain()
    assert writer.of("error") == []
    paths = [tmp_path / writer.files(name)[0]["path"] for name in names]
    assert sorted(tmp_path.iterdir()) == sorted(paths), "nothing is left of what waited on disk"
    for path in paths:
        assert groups(path) == [3_000]
    for path in paths[::10]:
        assert pq.read_table(path).to_pylist() == [row(number) for number in range(3_000)]
    assert 0 < writer.peak_bytes < 32 << 20


def test_what_waits_on_disk_is_in_staging_too(tmp_path: Path) -> None:
    limits = {"memory_bytes": 2 << 20, "max_staged_bytes": 4 << 20}
    data = b"".join(record(name, number) for number in range(60_000) for name in ("a", "b"))
    writer = play(airbyte(tmp_path, "a", "b", limits=limits), data)
    assert (writer.error()["code"], writer.status) == ("limit.staged_bytes", 6)
    assert list(tmp_path.iterdir()) == []


def test_a_row_group_has_no_more_rows_than_it_may(tmp_path: Path) -> None:
    data = b"".join(record("s", number) for number in range(10_000))
    writer = play(airbyte(tmp_path, "s", parquet={"row_group_rows": 3_000}), data)
    (file,) = writer.files("s")
    assert groups(tmp_path / file["path"]) == [3_000, 3_000, 3_000, 1_000]
    assert pq.read_table(tmp_path / file["path"]).column("id").to_pylist() == list(range(10_000))


def test_values_that_repeat_have_a_dictionary_inside_of_objects_and_arrays_too(
    tmp_path: Path,
) -> None:
    data = b"".join(record("s", number) for number in range(2_000))
    writer = play(airbyte(tmp_path, "s"), data)
    group = pq.read_metadata(tmp_path / writer.files("s")[0]["path"]).row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    encoded = {c.path_in_schema: "RLE_DICTIONARY" in c.encodings for c in columns}
    assert encoded == {
        "id": False,
        "kind": True,
        "text": False,
        "place.city": True,
        "tags.list.element": True,
    }
    assert columns[0].statistics.max == 1_999


@contextmanager
def cores(wanted: set[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def test_one_thread_and_two_write_the_same_bytes(tmp_path: Path) -> None:
    there = sorted(os.sched_getaffinity(0))
    if len(there) < 2:
        pytest.skip("this process may use one core only: a second one is missing")
    data = b"".join(record(name, number) for number in range(30_000) for name in ("a", "b"))
    written, threads = [], []
    for count in (1, 2):
        staging = tmp_path / str(count)
        staging.mkdir()
        parquet = {"row_group_rows": 4_000}
        with cores(set(there[:count])):
            writer = Writer(airbyte(staging, "a", "b", parquet=parquet))
            with writer:
                writer.expect("stats")
                threads.append(len(list(Path(f"/proc/{writer.pid}/task").iterdir())))
                writer.feed_all(iter([data]))
                writer.finish()
                writer.drain()
        written.append(
            [(file["path"], file["sha256"]) for file in writer.files("a") + writer.files("b")]
        )
    assert threads == [1, 2]
    assert len(written[0]) == 2
    assert written[0] == written[1]
