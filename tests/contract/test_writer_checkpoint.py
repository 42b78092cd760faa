"""The end of a run at its states: ``rest: checkpoint``, half a line, and what `complete` needs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.contract.writer_kernel import Event, Writer, opening, play, stream

SCHEMA = {"properties": {"id": {"type": "integer"}, "text": {"type": "string"}}}


def singer(kind: str, **more: object) -> bytes:
    return json.dumps({"type": kind, **more}).encode() + b"\n"


def singer_schema(name: str = "s", schema: object = SCHEMA) -> bytes:
    return singer("SCHEMA", stream=name, schema=schema, key_properties=["id"])


def singer_rows(start: int, count: int, name: str = "s", **more: object) -> bytes:
    numbers = range(start, start + count)
    return b"".join(singer("RECORD", stream=name, record={"id": n}, **more) for n in numbers)


def airbyte_rows(start: int, count: int, name: str, text: str | None = None) -> bytes:
    lines = [
        {"type": "RECORD", "record": {"stream": name, "data": {"id": n, "text": text}}}
        for n in range(start, start + count)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def airbyte_state(name: str | None, value: int) -> bytes:
    if name is None:
        state: object = {"type": "GLOBAL", "global": {"shared_state": {"n": value}}}
    else:
        descriptor = {"stream_descriptor": {"name": name}, "stream_state": {"n": value}}
        state = {"type": "STREAM", "stream": descriptor}
    return json.dumps({"type": "STATE", "state": state}).encode() + b"\n"


def ids(staging: Path, sealed: Event, name: str = "s") -> list[int]:
    """Return a stream's ids of one epoch, and check that its files are what the event says."""
    found: list[int] = []
    for file in sealed["files"]:
        content = (staging / file["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            file["bytes"],
            file["sha256"],
        )
        if file["stream"]["name"] == name:
            rows = pq.read_table(staging / file["path"])["id"].to_pylist()
            assert len(rows) == file["rows"]
            found += rows
    return found


def counts(sealed: Event) -> dict[str, tuple[int, int]]:
    return {c["stream"]["name"]: (c["read"], c["written"]) for c in sealed["counts"]}


def left(staging: Path, *sealed: Event) -> None:
    """Nothing lies in staging but what was sealed."""
    listed = {file["path"] for one in sealed for file in one["files"]}
    assert {path.name for path in staging.iterdir()} == listed


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("file_bytes", [1, 30_000, 1 << 27])
@pytest.mark.parametrize("behind", [0, 1, 8192, 20_000])
def test_rows_behind_the_last_state_are_cut_off(
    tmp_path: Path, batches: int, file_bytes: int, behind: int
) -> None:
    """The mark may lie in the batch in memory, in the open file, in a closed one, or between two."""
    count = 8192 * batches + 17
    data = singer_schema() + singer_rows(0, count) + singer("STATE", value={"n": 1})
    open_ = opening("singer", tmp_path, [stream("s")], parquet={"file_bytes": file_bytes})
    writer = play(open_, data, singer_rows(count, behind), rest="checkpoint")
    assert (writer.status, writer.of("error")) == (0, [])
    (sealed,) = writer.of("sealed")
    assert ids(tmp_path, sealed) == list(range(count))
    assert counts(sealed) == {"s": (count, count)}
    assert [state["text"] for state in sealed["states"]] == ['{"n": 1}']
    assert (sealed["final"], sealed["complete"]) == (True, behind == 0)
    assert writer.of("stats")[-1]["counts"][0]["read"] == count + behind
    left(tmp_path, sealed)


def test_without_a_state_nothing_is_left(tmp_path: Path) -> None:
    open_ = opening("singer", tmp_path, [stream("s")], parquet={"file_bytes": 1})
    writer = play(open_, singer_schema() + singer_rows(0, 20_000), rest="checkpoint")
    (sealed,) = writer.of("sealed")
    assert (sealed["files"], sealed["states"], sealed["counts"]) == ([], [], [])
    assert (sealed["final"], sealed["complete"], writer.status) == (True, False, 0)
    left(tmp_path)


def test_only_the_open_epoch_is_cut(tmp_path: Path) -> None:
    data = singer_schema() + singer_rows(0, 10) + singer("STATE", value=1) + singer_rows(10, 5)
    open_ = opening("singer", tmp_path, [stream("s")], epoch={"max_rows": 10})
    writer = play(open_, data, rest="checkpoint")
    first, last = writer.of("sealed")
    assert (ids(tmp_path, first), ids(tmp_path, last)) == (list(range(10)), [])
    assert (last["states"], last["counts"], last["complete"]) == ([], [], False)
    assert writer.of("stats")[-1]["counts"][0] == {
        "stream": {"namespace": None, "name": "s"},
        "read": 15,
        "written": 10,
        "rejected": 0,
        "filtered": 0,
    }
    left(tmp_path, first)


@pytest.mark.parametrize("file_bytes", [1, 40_000, 1 << 27])
@pytest.mark.parametrize("max_rows", [5_000, 1_000_000])
def test_interleaved_streams_are_cut_at_their_own_states(
    tmp_path: Path, file_bytes: int, max_rows: int
) -> None:
    """Each ends at the last state of its own; the state of the whole source stands for those that come before it."""
    random = Random(f"{file_bytes} {max_rows}")
    names = ["a", "b", "c", "never"]
    have = dict.fromkeys(names, 0)
    mark = dict.fromkeys(names, 0)
    chunks = []
    for _ in range(300):
        name = random.choice(names)
        count = random.randrange(400)
        chunks.append(airbyte_rows(have[name], count, name, "x" * random.randrange(50)))
        have[name] += count
        if name != "never" and random.random() < 0.3:
            mark[name] = have[name]
            chunks.append(airbyte_state(name, have[name]))
    open_ = opening(
        "airbyte",
        tmp_path,
        [stream(name, SCHEMA) for name in names],
        parquet={"file_bytes": file_bytes},
        epoch={"max_rows": max_rows},
    )
    writer = play(open_, *chunks, rest="checkpoint")
    assert (writer.status, writer.of("error")) == (0, [])
    sealed = writer.of("sealed")
    assert len(sealed) > (1 if max_rows < 10_000 else 0)
    for name in names:
        rows = [n for one in sealed for n in ids(tmp_path, one, name)]
        assert rows == list(range(mark[name])), name
        assert sum(counts(one).get(name, (0, 0))[0] for one in sealed) == mark[name]
    last = {s["stream"]["name"]: s["text"] for one in sealed for s in one["states"]}
    states = {n: json.loads(text)["stream"]["stream_state"]["n"] for n, text in last.items()}
    assert states == {name: mark[name] for name in names[:3]}
    left(tmp_path, *sealed)


def test_a_state_for_all_covers_every_stream(tmp_path: Path) -> None:
    data = (
        airbyte_rows(0, 3, "a")
        + airbyte_rows(0, 2, "b")
        + airbyte_state(None, 1)
        + airbyte_rows(3, 1, "a")
        + airbyte_rows(2, 4, "b")
        + airbyte_state("b", 6)
        + airbyte_rows(6, 1, "b")
    )
    streams = [stream("a", SCHEMA), stream("b", SCHEMA)]
    (sealed,) = play(opening("airbyte", tmp_path, streams), data, rest="checkpoint").of("sealed")
    assert (ids(tmp_path, sealed, "a"), ids(tmp_path, sealed, "b")) == ([0, 1, 2], list(range(6)))
    assert [state["kind"] for state in sealed["states"]] == ["global", "stream"]


def test_a_state_of_one_stream_seals_nothing_past_one_for_all(tmp_path: Path) -> None:
    """Else the state for all would be durable before the rows of `b` that it covers."""
    data = (
        airbyte_rows(0, 1, "b")
        + airbyte_state(None, 1)
        + airbyte_rows(1, 1, "b")
        + airbyte_rows(0, 1, "a")
        + airbyte_state("a", 1)
    )
    streams = [stream("a", SCHEMA), stream("b", SCHEMA)]
    with Writer(opening("airbyte", tmp_path, streams)) as writer:
        writer.feed(data)
        while writer.expect("stats")["lines"] < 5:
            pass
        writer.send({"type": "seal"})
        writer.close_stdin()
        writer.finish()
        sealed = writer.expect("sealed")
        assert (sealed["final"], ids(tmp_path, sealed, "b")) == (True, [0, 1])


def test_a_shortened_file_keeps_types_field_ids_and_settings(tmp_path: Path) -> None:
    properties = {
        "id": {"type": "integer"},
        "flag": {"type": "boolean"},
        "ratio": {"type": "number"},
        "price": {"type": "number", "multipleOf": 0.01},
        "big": {"type": "string", "format": "x-singer.decimal", "precision": 8, "scale": 2},
        "day": {"type": "string", "format": "date"},
        "clock": {"type": "string", "format": "time"},
        "moment": {"type": "string", "format": "date-time"},
        "blob": {"type": "string", "contentEncoding": "base64"},
        "word": {"type": "string"},
        "nested": {"type": "object"},
    }
    record = {
        "flag": True, "ratio": 0.1, "price": 289.78, "big": "123456.78", "day": "2024-02-29", "clock": "01:02:03.000004",
        "moment": "1969-12-31T23:59:59.999999Z", "blob": "AAEC", "nested": {"a": [1.50]},
    }  # fmt: skip

    def rows(start: int, count: int) -> bytes:
        return b"".join(
            singer(
                "RECORD",
                stream="s",
                record={"id": n, "word": ["a", "b", None][n % 3]} | (record if n % 2 else {}),
            )
            for n in range(start, start + count)
        )

    head = singer_schema(schema={"properties": properties}) + rows(0, 9_000)
    data = head + singer("STATE", value=1) + rows(9_000, 9_000)
    tables = []
    for folder, whole, rest in (("cut", data, "checkpoint"), ("short", head, "commit")):
        (tmp_path / folder).mkdir()
        writer = play(opening("singer", tmp_path / folder, [stream("s")]), whole, rest=rest)
        (sealed,) = writer.of("sealed")
        (file,) = sealed["files"]
        assert file["rows"] == 9_000
        tables.append(pq.ParquetFile(tmp_path / folder / file["path"]))
    cut, short = tables
    assert cut.schema_arrow.equals(short.schema_arrow, check_metadata=True)
    assert cut.schema.equals(short.schema)
    assert cut.read().equals(short.read())
    assert cut.metadata.created_by == short.metadata.created_by
    columns = range(len(properties))
    encodings = [[t.metadata.row_group(0).column(n).encodings for n in columns] for t in tables]
    assert encodings[0] == encodings[1]
    assert cut.metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_checkpoint_takes_no_more_memory_than_the_run(tmp_path: Path) -> None:
    """Long and short rows in one file, which is read back and written anew."""

    def chunks() -> Any:
        yield singer_schema()
        random = Random(7)
        for n in range(3_000):
            text = random.randbytes(40_000).hex() if n % 3 else ""
            yield singer("RECORD", stream="s", record={"id": n, "text": text})
            if n == 2_500:
                yield singer("STATE", value=1)

    open_ = opening("singer", tmp_path, [stream("s")], limits={"memory_bytes": 16 << 20})
    with Writer(open_) as writer:
        writer.feed_all(chunks())
        writer.finish("checkpoint")
        writer.drain()
    (sealed,) = writer.of("sealed")
    assert ids(tmp_path, sealed) == list(range(2_501))
    assert len(sealed["files"]) > 0
    assert 0 < writer.peak_bytes < 64 << 20


@pytest.mark.parametrize("rest", ["commit", "checkpoint"])
def test_half_a_line_is_a_checkpoint_and_then_an_error(tmp_path: Path, rest: str) -> None:
    data = singer_schema() + singer_rows(0, 3) + singer("STATE", value=1) + singer_rows(3, 2)
    writer = play(opening("singer", tmp_path, [stream("s")]), data + b'{"type":"REC', rest=rest)
    (sealed,) = writer.of("sealed")
    assert ids(tmp_path, sealed) == [0, 1, 2]
    assert (sealed["final"], sealed["complete"]) == (True, False)
    assert [event["type"] for event in writer.events][-2:] == ["sealed", "error"]
    assert (writer.error()["code"], writer.error()["line"], writer.status) == (
        "framing.half_line",
        8,
        7,
    )
    left(tmp_path, sealed)


def test_half_a_line_of_a_covered_source_is_not_complete(tmp_path: Path) -> None:
    data = singer_schema() + singer_rows(0, 3) + singer("STATE", value=1)
    writer = play(opening("singer", tmp_path, [stream("s")]), data + b"{")
    (sealed,) = writer.of("sealed")
    assert (ids(tmp_path, sealed), sealed["complete"]) == ([0, 1, 2], False)


@pytest.mark.parametrize("complete", [True, False])
def test_complete_is_what_the_kernel_knows(tmp_path: Path, complete: bool) -> None:
    open_ = opening("singer", tmp_path, [stream("s")], epoch={"max_rows": 2})
    with Writer(open_) as writer:
        writer.feed(singer_schema() + singer_rows(0, 2) + singer("STATE", value=1))
        assert writer.expect("sealed")["complete"] is False
        writer.feed(singer_rows(2, 1))
        writer.close_stdin()
        writer.finish(complete=complete)
        assert writer.expect("sealed")["complete"] is complete


def test_a_finish_without_more_commits(tmp_path: Path) -> None:
    with Writer(opening("singer", tmp_path, [stream("s")])) as writer:
        writer.feed(singer_schema() + singer_rows(0, 2))
        writer.close_stdin()
        writer.send({"type": "finish"})
        sealed = writer.expect("sealed")
        assert (ids(tmp_path, sealed), sealed["complete"]) == ([0, 1], False)


def test_finish_before_the_end_reads_to_the_end(tmp_path: Path) -> None:
    with Writer(opening("singer", tmp_path, [stream("s")])) as writer:
        writer.finish("checkpoint", complete=False)
        writer.feed(singer_schema() + singer_rows(0, 5) + singer("STATE", value=1))
        writer.feed(singer_rows(5, 5) + singer("STATE", value=2) + singer_rows(10, 1))
        writer.close_stdin()
        sealed = writer.expect("sealed")
        assert ids(tmp_path, sealed) == list(range(10))
        writer.drain()
        assert writer.status == 0


def test_a_file_that_cannot_be_read_back_is_a_failure(tmp_path: Path) -> None:
    open_ = opening("singer", tmp_path, [stream("s")], parquet={"file_bytes": 1})
    with Writer(open_) as writer:
        writer.feed_all(
            iter(
                [
                    singer_schema()
                    + singer_rows(0, 100)
                    + singer("STATE", value=1)
                    + singer_rows(100, 8092)
                ]
            )
        )
        while writer.expect("stats")["lines"] < 8194:
            pass
        (path,) = tmp_path.iterdir()
        with path.open("r+b") as file:
            file.seek(-8, os.SEEK_END)
            file.write(b"\xff\xff\xff\x7fPAR1")
        writer.finish("checkpoint")
        writer.drain()
    assert (writer.error()["code"], writer.error()["blame"], writer.status) == (
        "target.io",
        "machine",
        5,
    )
    assert writer.of("sealed") == []
    left(tmp_path)
