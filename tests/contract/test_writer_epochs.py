"""Epochs: where they are cut, what is sealed, who waits for whom, and how a run ends."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.contract.writer_kernel import Writer, binary, opening, plan_for, play, stream

SCHEMA = {"properties": {"id": {"type": "integer"}}}
SINGER_SCHEMA = b'{"type":"SCHEMA","stream":"s","schema":{"properties":{"id":{"type":"integer"}}},"key_properties":[]}\n'


def rows(start: int, count: int, name: str = "s") -> bytes:
    return b"".join(
        b'{"type":"RECORD","record":{"stream":"%s","data":{"id":%d}}}\n' % (name.encode(), n)
        for n in range(start, start + count)
    )


def singer_rows(start: int, count: int) -> bytes:
    return b"".join(
        b'{"type":"RECORD","stream":"s","record":{"id":%d}}\n' % n
        for n in range(start, start + count)
    )


def state(value: int, name: str = "s") -> bytes:
    inner = f'{{"type":"STREAM","stream":{{"stream_descriptor":{{"name":"{name}"}},"stream_state":{{"n": {value}.50}}}}}}'
    return f'{{"type":"STATE","state":{inner}}}\n'.encode()


def ids(staging: Path, sealed: dict[str, Any], name: str = "s") -> list[int]:
    files = [file for file in sealed["files"] if file["stream"]["name"] == name]
    return [
        value for file in files for value in pq.read_table(staging / file["path"])["id"].to_pylist()
    ]


def airbyte(staging: Path, *names: str, **more: Any) -> dict[str, Any]:
    return opening("airbyte", staging, [stream(name, SCHEMA) for name in names or ("s",)], **more)


def test_version_and_usage() -> None:
    shown = subprocess.run(
        [binary(), "--version"], capture_output=True, text=True, check=True, timeout=10
    )
    assert shown.stdout == "dativo-writer 0.1.0 protocol 1.0\n"
    for arguments in (["--help"], ["--version", "x"], []):
        refused = subprocess.run(
            [binary(), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
        assert refused.returncode == 2
        assert refused.stdout == ""
        assert refused.stderr != ""


def test_one_epoch_ends_with_the_run(tmp_path: Path) -> None:
    writer = play(airbyte(tmp_path), rows(0, 20_000), state(1), rows(20_000, 10))
    assert writer.events[0] == {
        "type": "hello",
        "protocol": "1.0",
        "program": "dativo-writer",
        "version": "0.1.0",
        "features": ["batches"],
    }
    (sealed,) = writer.of("sealed")
    assert (sealed["sequence"], sealed["final"]) == (1, True)
    assert ids(tmp_path, sealed) == list(range(20_010))
    text = (
        '{"type":"STREAM","stream":{"stream_descriptor":{"name":"s"},"stream_state":{"n": 1.50}}}'
    )
    assert sealed["states"] == [
        {"kind": "stream", "stream": {"namespace": None, "name": "s"}, "text": text}
    ]
    assert sealed["counts"] == [
        {
            "stream": {"namespace": None, "name": "s"},
            "read": 20_010,
            "written": 20_010,
            "rejected": 0,
            "filtered": 0,
        }
    ]
    (file,) = sealed["files"]
    content = (tmp_path / file["path"]).read_bytes()
    assert (file["rows"], file["bytes"], file["sha256"]) == (
        20_010,
        len(content),
        hashlib.sha256(content).hexdigest(),
    )
    assert (file["path"], file["revision"]) == ("000001-0000.parquet", 1)
    assert writer.status == 0


def test_an_empty_source_ends_with_an_empty_epoch(tmp_path: Path) -> None:
    writer = play(airbyte(tmp_path))
    (sealed,) = writer.of("sealed")
    assert sealed == {
        "type": "sealed", "input": "0", "sequence": 1, "final": True, "complete": True, "files": [], "states": [], "counts": [],
        "echo": [], "activations": [],
    }  # fmt: skip
    assert writer.status == 0


def test_epochs_are_cut_at_a_state_after_max_rows(tmp_path: Path) -> None:
    data = rows(0, 90) + state(1) + rows(90, 10) + rows(100, 5) + state(2) + rows(105, 1) + state(3)
    writer = play(airbyte(tmp_path, epoch={"max_rows": 100}), data)
    first, last = writer.of("sealed")
    assert (ids(tmp_path, first), ids(tmp_path, last)) == (list(range(105)), [105])
    assert [s["text"].count("2.50") for s in first["states"]] == [1]
    assert [s["text"].count("3.50") for s in last["states"]] == [1]
    assert (first["final"], last["final"], last["sequence"]) == (False, True, 2)
    assert [file["path"] for file in last["files"]] == ["000002-0000.parquet"]


def test_epochs_are_cut_by_bytes(tmp_path: Path) -> None:
    noise = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(20_000)]
    lines = [
        json.dumps({"type": "RECORD", "record": {"stream": "s", "data": {"t": text}}}) + "\n"
        for text in noise
    ]
    open_ = opening(
        "airbyte",
        tmp_path,
        [stream("s", {"properties": {"t": {"type": "string"}}})],
        epoch={"max_bytes": 200_000},
    )
    data = b"".join(
        "".join(lines[n : n + 1000]).encode() + state(n) for n in range(0, 20_000, 1000)
    )
    writer = play(open_, data)
    sealed = writer.of("sealed")
    assert len(sealed) >= 3
    assert all(
        200_000 <= sum(file["bytes"] for file in one["files"]) < 1_000_000 for one in sealed[:-1]
    )


def test_the_last_state_of_each_stream_is_sealed(tmp_path: Path) -> None:
    data = rows(0, 1, "a") + state(1, "a") + rows(0, 1, "b") + state(1, "b") + state(2, "a")
    (sealed,) = play(airbyte(tmp_path, "a", "b"), data).of("sealed")
    assert [(s["stream"]["name"], "2.50" in s["text"]) for s in sealed["states"]] == [
        ("b", False),
        ("a", True),
    ]
    assert [(c["stream"]["name"], c["read"]) for c in sealed["counts"]] == [("a", 1), ("b", 1)]


def test_a_cut_leaves_open_the_streams_that_are_past_their_own_state(tmp_path: Path) -> None:
    """Rows of a stream are sealed with a state of that stream that covers them, or not before the end."""
    data = (
        rows(0, 5, "a")
        + rows(0, 7, "b")
        + state(1, "b")
        + rows(7, 2, "b")
        + state(1, "a")  # due: a stands at its state, b does not
        + rows(5, 1, "a")
        + rows(9, 1, "b")
        + state(2, "b")  # due: b stands at its state, a does not
        + rows(6, 1, "a")
    )
    writer = play(airbyte(tmp_path, "a", "b", epoch={"max_rows": 5}), data)
    sealed = writer.of("sealed")
    found = [
        (
            ids(tmp_path, one, "a"),
            ids(tmp_path, one, "b"),
            [s["stream"]["name"] for s in one["states"]],
        )
        for one in sealed
    ]
    assert found == [
        (list(range(0)), list(range(7)), ["b"]),
        (list(range(5)), [], ["a"]),
        ([5, 6], [7, 8, 9], ["b"]),
    ]
    assert [one["final"] for one in sealed] == [False, False, True]


@pytest.mark.parametrize("every", [(3, 5, 7), (1, 50, 4), (1000, 2, 9)])
def test_interleaved_streams_never_commit_rows_beyond_their_state(
    tmp_path: Path, every: tuple[int, ...]
) -> None:
    """Whatever is sealed before the end can be gone on from: each stream has exactly the rows that its state covers."""
    names = ["a", "b", "c"]
    data = b""
    for n in range(120):
        for name, step in zip(names, every, strict=True):
            data += rows(n, 1, name)
            if (n + 1) % step == 0:
                data += state(n + 1, name)
    open_ = airbyte(tmp_path, *names, epoch={"max_rows": 20}, parquet={"file_bytes": 500})
    with Writer(open_) as writer:
        writer.feed_all(iter([data]))
        writer.finish()
        writer.drain()
    sealed = writer.of("sealed")
    assert len(sealed) > 3
    have: dict[str, list[int]] = {name: [] for name in names}
    for one in sealed:
        for name in names:
            have[name] += ids(tmp_path, one, name)
        if one["final"]:
            break
        for entry in one["states"]:
            name, inner = entry["stream"]["name"], json.loads(entry["text"])
            assert have[name] == list(range(int(inner["stream"]["stream_state"]["n"])))
        covered = {entry["stream"]["name"] for entry in one["states"]}
        assert {file["stream"]["name"] for file in one["files"]} <= covered
    assert have == {name: list(range(120)) for name in names}


def test_the_kernel_asks_for_a_seal(tmp_path: Path) -> None:
    with Writer(airbyte(tmp_path)) as writer:
        writer.feed(rows(0, 3))
        writer.expect("stats")
        writer.send({"type": "seal"})
        writer.feed(rows(3, 2) + state(1))
        sealed = writer.expect("sealed")
        assert (ids(tmp_path, sealed), sealed["final"]) == ([0, 1, 2, 3, 4], False)
        # At a state it is cut at once.
        writer.feed(rows(5, 1) + state(2))
        while writer.expect("stats")["lines"] < 8:
            pass
        writer.send({"type": "seal"})
        assert ids(tmp_path, writer.expect("sealed")) == [5]


def test_a_quiet_source_is_sealed_by_time(tmp_path: Path) -> None:
    with Writer(airbyte(tmp_path, epoch={"max_seconds": 1})) as writer:
        writer.feed(rows(0, 3) + state(1))
        assert ids(tmp_path, writer.expect("sealed", 5.0)) == [0, 1, 2]


def test_reading_stops_while_two_epochs_wait(tmp_path: Path) -> None:
    with Writer(airbyte(tmp_path, epoch={"max_rows": 1}), commit=False) as writer:
        writer.feed(b"".join(rows(n, 1) + state(n) for n in range(5)))
        writer.expect("sealed")
        writer.expect("sealed")
        deadline = time.monotonic() + 10
        while (stats := writer.expect("stats"))["blocked_s"] < 0.5:
            assert time.monotonic() < deadline
        assert stats["idle_s"] == 0.0
        assert stats["staged_bytes"] == sum(file["bytes"] for file in writer.files("s"))
        assert len(writer.of("sealed")) == 2
        writer.committed(1)
        assert writer.expect("sealed")["sequence"] == 3
        writer.finish()
        writer.close_stdin()
        for sequence in (2, 3):
            writer.committed(sequence)
        assert writer.expect("sealed")["sequence"] == 4
        writer.committed(4)
        assert writer.expect("sealed")["sequence"] == 5
        writer.committed(5)
        assert writer.expect("sealed")["final"] is True
        writer.drain()
        assert writer.status == 0


def test_end_of_file_is_not_success(tmp_path: Path) -> None:
    with Writer(airbyte(tmp_path)) as writer:
        writer.feed(rows(0, 3) + state(1))
        writer.close_stdin()
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            writer.expect("stats")
        assert writer.of("sealed") == []
        writer.finish()
        assert ids(tmp_path, writer.expect("sealed")) == [0, 1, 2]
        writer.drain()
        assert writer.status == 0


def test_idle_time_is_told_while_the_pipe_is_empty(tmp_path: Path) -> None:
    with Writer(airbyte(tmp_path)) as writer:
        first = writer.expect("stats")
        second = writer.expect("stats")
        assert 0.5 < first["idle_s"] < second["idle_s"] < 10
        writer.feed(rows(0, 1))
        assert writer.expect("stats")["idle_s"] < second["idle_s"]


@pytest.mark.parametrize("end", ["abort", "lost kernel"])
def test_the_open_epoch_is_dropped(tmp_path: Path, end: str) -> None:
    with Writer(airbyte(tmp_path, parquet={"file_bytes": 1}, epoch={"max_rows": 10})) as writer:
        writer.feed(rows(0, 10) + state(1))
        sealed = writer.expect("sealed")
        writer.feed(rows(10, 20_000))
        deadline = time.monotonic() + 10
        while len(list(tmp_path.iterdir())) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if end == "abort":
            writer.send({"type": "abort"})
        else:
            writer.close_control()
        assert writer.wait() == (0 if end == "abort" else 1)
    assert [path.name for path in tmp_path.iterdir()] == [file["path"] for file in sealed["files"]]


def test_a_failure_drops_the_open_epoch_only(tmp_path: Path) -> None:
    data = rows(0, 10) + state(1) + rows(10, 20_000) + b"{\n"
    writer = play(airbyte(tmp_path, epoch={"max_rows": 10}), data)
    (sealed,) = writer.of("sealed")
    assert writer.error()["line"] == 20_012
    assert [path.name for path in tmp_path.iterdir()] == [file["path"] for file in sealed["files"]]


def test_nothing_is_written_before_the_plan(tmp_path: Path) -> None:
    held: list[dict[str, Any]] = []

    def hold(schema: dict[str, Any]) -> None:
        held.append(plan_for(schema))

    with Writer(airbyte(tmp_path, "a", "b"), plan=hold) as writer:
        writer.feed(rows(0, 1, "a"))
        writer.expect("stream_schema")
        writer.expect("stream_schema")
        writer.send(held[1])
        writer.send(held[0])
        writer.finish()
        writer.close_stdin()
        assert ids(tmp_path, writer.expect("sealed"), "a") == [0]


@pytest.mark.parametrize(
    "change",
    [{"revision": 2}, {"stream": {"namespace": None, "name": "x"}}, {"columns": []},
     {"columns": [{"property": "id", "column": "id", "type": "string", "field_id": 1}]},
     {"columns": [{"property": "id", "column": "id", "type": "int", "field_id": 1}]}],
)  # fmt: skip
def test_a_plan_that_does_not_fit_is_dativos_fault(tmp_path: Path, change: dict[str, Any]) -> None:
    writer = Writer(airbyte(tmp_path), plan=lambda schema: plan_for(schema) | change)
    with writer:
        writer.drain()
    error = writer.error()
    assert (error["code"], error["blame"], writer.status) == ("internal.plan", "dativo", 1)


@pytest.mark.parametrize("command", ["{}", '{"type":"dance"}', "nonsense", '{"type":"open"}'])
def test_a_command_that_does_not_fit_is_dativos_fault(tmp_path: Path, command: str) -> None:
    with Writer(airbyte(tmp_path)) as writer:
        writer.send_text(command)
        writer.drain()
    assert (writer.error()["code"], writer.status) == ("internal.control", 1)


def test_the_same_schema_again_changes_nothing(tmp_path: Path) -> None:
    spaced = b'{"type":"SCHEMA","stream":"s","schema":{"properties":{"id":{"description":"x","type":["null","integer"]}}}}\n'
    data = (
        SINGER_SCHEMA
        + singer_rows(0, 2)
        + SINGER_SCHEMA
        + singer_rows(2, 2)
        + spaced
        + singer_rows(4, 1)
    )
    writer = play(opening("singer", tmp_path, [stream("s")]), data)
    assert len(writer.of("stream_schema")) == 1
    (sealed,) = writer.of("sealed")
    assert ([len(sealed["files"])], ids(tmp_path, sealed)) == ([1], [0, 1, 2, 3, 4])


def test_a_changed_schema_starts_a_new_file(tmp_path: Path) -> None:
    changed = SINGER_SCHEMA.replace(
        b'"id":{"type":"integer"}', b'"id":{"type":"integer"},"b":{"type":"string"}'
    )
    data = (
        SINGER_SCHEMA
        + singer_rows(0, 2)
        + changed
        + b'{"type":"RECORD","stream":"s","record":{"id":2,"b":"x"}}\n'
    )
    writer = play(opening("singer", tmp_path, [stream("s")]), data + changed)
    assert [(s["revision"], len(s["columns"])) for s in writer.of("stream_schema")] == [
        (1, 1),
        (2, 2),
    ]
    (sealed,) = writer.of("sealed")
    assert [(file["revision"], file["rows"]) for file in sealed["files"]] == [(1, 2), (2, 1)]
    tables = [pq.read_table(tmp_path / file["path"]).to_pylist() for file in sealed["files"]]
    assert tables == [[{"id": 0}, {"id": 1}], [{"id": 2, "b": "x"}]]


def test_a_state_before_the_first_schema_is_kept(tmp_path: Path) -> None:
    data = (
        b'{"type": "STATE", "value": {"currently_syncing": "s"}}\n'
        + SINGER_SCHEMA
        + singer_rows(0, 1)
    )
    (sealed,) = play(opening("singer", tmp_path, [stream("s")]), data).of("sealed")
    assert [s["text"] for s in sealed["states"]] == ['{"currently_syncing": "s"}']


def test_files_are_rolled_and_row_groups_bounded(tmp_path: Path) -> None:
    data = rows(0, 100_000)
    open_ = airbyte(tmp_path, parquet={"file_bytes": 50_000, "row_group_rows": 10_000})
    (sealed,) = play(open_, data).of("sealed")
    assert len(sealed["files"]) > 2
    assert ids(tmp_path, sealed) == list(range(100_000))
    for file in sealed["files"]:
        metadata = pq.ParquetFile(tmp_path / file["path"]).metadata
        assert max(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)) <= 10_000
        assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_staging_is_bounded(tmp_path: Path) -> None:
    noise = b"".join(
        b'{"type":"RECORD","record":{"stream":"s","data":{"id":%d}}}\n'
        % (n * 0x9E3779B97F4A7C15 % 2**63)
        for n in range(50_000)
    )
    writer = play(airbyte(tmp_path, limits={"max_staged_bytes": 100_000}), noise)
    assert (writer.error()["code"], writer.status) == ("limit.staged_bytes", 6)
    assert list(tmp_path.iterdir()) == []


def test_too_many_streams(tmp_path: Path) -> None:
    writer = play(airbyte(tmp_path, "a", "b", "c", limits={"max_streams": 2}))
    assert (writer.error()["code"], writer.status) == ("limit.streams", 6)


def test_a_thousand_streams_in_little_memory_and_few_descriptors(tmp_path: Path) -> None:
    names = [f"stream{n}" for n in range(1000)]
    text = "x" * 200
    open_ = opening(
        "airbyte",
        tmp_path,
        [
            stream(name, {"properties": {"id": {"type": "integer"}, "t": {"type": "string"}}})
            for name in names
        ],
        limits={"memory_bytes": 16 << 20},
    )
    lines = [
        json.dumps(
            {"type": "RECORD", "record": {"stream": name, "data": {"id": n, "t": f"{n}{text}"}}}
        )
        + "\n"
        for n in range(120)
        for name in names
    ]
    with Writer(open_) as writer:
        subprocess.run(["prlimit", f"--pid={writer.pid}", "--nofile=32"], check=True)
        writer.feed_all(iter([line.encode() for line in lines]))
        writer.finish()
        writer.drain()
    assert writer.of("error") == []
    (sealed,) = writer.of("sealed")
    assert len(sealed["files"]) == 1000
    assert ids(tmp_path, sealed, "stream7") == list(range(120))
    assert 0 < writer.peak_bytes < 128 << 20


def test_a_full_disk_is_the_machines_fault(tmp_path: Path) -> None:
    with Writer(airbyte(tmp_path)) as writer:
        subprocess.run(["prlimit", f"--pid={writer.pid}", "--fsize=1000"], check=True)
        writer.feed_all(iter([rows(0, 300_000)]))
        writer.finish()
        writer.drain()
    # Over the limit on a file's size the signal comes first unless it is ignored.
    assert writer.status == -signal.SIGXFSZ or writer.error()["code"] == "target.io"


def test_a_missing_staging_folder(tmp_path: Path) -> None:
    writer = play(airbyte(tmp_path / "none"))
    assert (writer.error()["code"], writer.error()["blame"], writer.status) == (
        "target.io",
        "machine",
        5,
    )


def test_a_file_that_is_there_already_is_not_touched(tmp_path: Path) -> None:
    there = tmp_path / "000001-0000.parquet"
    there.write_bytes(b"somebody's")
    writer = play(airbyte(tmp_path), rows(0, 1))
    assert (writer.error()["code"], writer.status) == ("target.io", 5)
    assert there.read_bytes() == b"somebody's"


def test_large_states_are_sealed_before_they_fill_a_message(tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(8)]
    data = b"".join(
        state(1, name).replace(b"1.50", b'"' + b'\\"' * 500_000 + b'"') for name in names
    )
    writer = play(airbyte(tmp_path, *names), data)
    assert writer.of("error") == []
    assert sum(len(sealed["states"]) for sealed in writer.of("sealed")) == 8
    assert max(len(json.dumps(sealed)) for sealed in writer.of("sealed")) < 8 << 20


def test_orders_at_a_small_scale(tmp_path: Path) -> None:
    """The floor under the benchmark: docs/benchmarks.md has the real figures."""
    row = (
        '{"type":"RECORD","stream":"s","record":{"id":%d,"status":"paid","total":"%d.1234","weight":%d.5,'
        '"created_at":"2024-01-01T00:00:%02d.123Z","note":"alpha bravo charlie delta echo","ref":"%032x"}}\n'
    )
    kinds = {
        "id": {"type": "integer"},
        "status": {"type": "string"},
        "total": {"type": "string", "format": "singer.decimal"},
        "weight": {"type": "number"},
        "created_at": {"type": "string", "format": "date-time"},
        "note": {"type": "string"},
        "ref": {"type": "string"},
    }
    schema = json.dumps({"type": "SCHEMA", "stream": "s", "schema": {"properties": kinds}}) + "\n"
    data = "".join(row % (n, n, n, n % 60, n * 0x9E3779B97F4A7C15) for n in range(200_000)).encode()
    writer = play(opening("singer", tmp_path, [stream("s")]), schema.encode(), data)
    assert writer.of("error") == []
    assert 0 < writer.peak_bytes < 128 << 20
    assert writer.usage is not None
    assert len(data) / 1e6 / (writer.usage.ru_utime + writer.usage.ru_stime) > 50
    assert os.stat(tmp_path / "000001-0000.parquet").st_size < len(data) / 4
