"""Singer's BATCH in the writer: rows in files of the exchange folder, in the place of the message, with the rules of any row."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.contract.writer_kernel import Event, Writer, opening, play, stream

GZIP = {"format": "jsonl", "compression": "gzip"}
NONE = {"format": "jsonl", "compression": "none"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    exchange = tmp_path / "exchange"
    exchange.mkdir()
    return exchange


def opened(tmp_path: Path, *, contract: Event | None = None, **more: Any) -> Event:
    staging = tmp_path / "staging"
    staging.mkdir(exist_ok=True)
    entry = stream("s") | ({} if contract is None else {"contract": contract})
    exchange = {"exchange": str(tmp_path / "exchange")}
    return {**opening("singer", staging, [entry], **more), **exchange}


def message(**said: Any) -> bytes:
    return json.dumps(said).encode() + b"\n"


SCHEMA = message(
    type="SCHEMA",
    stream="s",
    schema={"properties": {"id": {"type": "integer"}, "name": {"type": "string"}}},
    key_properties=["id"],
)


def record(number: int, **more: Any) -> bytes:
    return message(type="RECORD", stream="s", record={"id": number}, **more)


def state(number: int) -> bytes:
    return message(type="STATE", value={"at": number})


def batch(*files: Path | str, encoding: object = GZIP, **more: Any) -> bytes:
    manifest = [f"file://{file}" for file in files]
    return message(type="BATCH", stream="s", encoding=encoding, manifest=manifest, **more)


def lines(numbers: Iterable[int]) -> bytes:
    return b"".join(b'{"id":%d}\n' % number for number in numbers)


def ids(tmp_path: Path, writer: Writer) -> list[int]:
    assert (writer.status, writer.of("error")) == (0, [])
    paths = [tmp_path / "staging" / file["path"] for file in writer.files("s")]
    return [row["id"] for path in paths for row in pq.read_table(path).to_pylist()]


def failure(writer: Writer) -> Event:
    (error,) = writer.of("error")
    assert writer.status in (6, 7)
    return error


def test_rows_come_in_the_place_of_the_message(tmp_path: Path, folder: Path) -> None:
    (folder / "in").mkdir()
    first, second, third = folder / "a.json.gz", folder / "in" / "b c.json", folder / "empty.gz"
    first.write_bytes(gzip.compress(lines(range(2, 200_000))) + gzip.compress(lines([200_000])))
    second.write_bytes(b'\n { "id" : 200001 , "x": [] } \n{"id":200002}')
    third.write_bytes(gzip.compress(b"", mtime=0))
    writer = play(
        opened(tmp_path),
        SCHEMA,
        record(1),
        batch(first, third),
        batch(second, encoding=NONE),
        record(200_003),
        state(1),
        batch(),
    )
    assert ids(tmp_path, writer) == list(range(1, 200_004))
    (sealed,) = writer.of("sealed")
    assert sealed["counts"][0]["read"] == 200_003
    assert sealed["consumed"] == ["a.json.gz", "empty.gz", "in/b c.json"]
    assert [entry["text"] for entry in sealed["states"]] == ['{"at": 1}']
    assert writer.of("stats")[-1]["oddities"] == {"blank_line": 1}


def test_files_are_consumed_with_the_epoch_that_holds_them(tmp_path: Path, folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}").write_bytes(lines([number]))
    chunks = [batch(folder / f"{n}", encoding=NONE) + state(n) for n in range(3)]
    writer = play(opened(tmp_path, epoch={"max_rows": 1}), SCHEMA, *chunks)
    assert ids(tmp_path, writer) == [0, 1, 2]
    sealed = writer.of("sealed")
    assert [one.get("consumed", []) for one in sealed] == [["0"], ["1"], ["2"], []]


def test_rows_behind_the_last_state_are_cut_off(tmp_path: Path, folder: Path) -> None:
    for name, numbers in (("a", range(10)), ("b", range(10, 20))):
        (folder / name).write_bytes(gzip.compress(lines(numbers)))
    chunks = [SCHEMA, batch(folder / "a"), state(1), record(99), batch(folder / "b")]
    writer = play(opened(tmp_path), *chunks, rest="checkpoint")
    assert ids(tmp_path, writer) == list(range(10))


def test_a_contract_holds_for_rows_in_files(tmp_path: Path, folder: Path) -> None:
    (folder / "a").write_bytes(b'{"id":1}\n{"id":"two"}\n{"name":"no key"}\n{"id":4}\n')
    contract = {"values": "discard_row", "max_rejects": 5}
    writer = play(
        opened(tmp_path, contract=contract), SCHEMA, batch(folder / "a", encoding=NONE), state(1)
    )
    assert ids(tmp_path, writer) == [1, 4]
    (sealed,) = writer.of("sealed")
    assert [sealed["counts"][0][key] for key in ("read", "written", "rejected")] == [4, 2, 2]
    (file,) = writer.files("_dativo_rejects")
    rejects = pq.read_table(tmp_path / "staging" / file["path"]).to_pylist()
    assert [reject["line"] for reject in rejects] == [2, 3]
    assert all("in the file a, which line 2" in reject["message"] for reject in rejects)


def test_rows_of_a_version_and_their_metadata(tmp_path: Path, folder: Path) -> None:
    (folder / "a").write_bytes(lines([1, 2]))
    open_ = opened(tmp_path) | {"metadata": {"columns": "singer", "pipeline": "p"}}
    chunks = [record(0, version=7), batch(folder / "a", encoding=NONE, version=8), record(3)]
    writer = play(open_, SCHEMA, *chunks, state(1))
    assert [(file["version"], file["rows"]) for file in writer.files("s")] == [
        (7, 1),
        (8, 2),
        (None, 1),
    ]
    versions = [
        row["_sdc_table_version"]
        for file in writer.files("s")
        for row in pq.read_table(tmp_path / "staging" / file["path"]).to_pylist()
    ]
    assert versions == [7, 8, 8, None]


def test_without_a_folder_a_batch_is_refused(tmp_path: Path, folder: Path) -> None:
    (folder / "a").write_bytes(gzip.compress(lines([1])))
    open_ = opened(tmp_path)
    del open_["exchange"]
    assert failure(play(open_, SCHEMA, batch(folder / "a")))["code"] == "message.batch"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ({"format": "parquet"}, 'the format of a BATCH is not taken: "parquet"'),
        ({"format": "csv", "compression": "gzip"}, 'not taken: "csv"'),
        ({"format": "jsonl", "compression": "zstd"}, 'the compression of a BATCH is not taken: "z'),
        ({}, "not taken: null"),
        ([], "a BATCH needs an encoding"),
    ],
)
def test_other_encodings_are_refused_by_name(
    tmp_path: Path, folder: Path, encoding: object, said: str
) -> None:
    (folder / "a").write_bytes(b"PAR1")
    error = failure(play(opened(tmp_path), SCHEMA, batch(folder / "a", encoding=encoding)))
    assert error["code"] == "message.batch" and said in error["message"]
    assert error["line"] == 2


def _link(folder: Path) -> str:
    (folder / "x").symlink_to("/etc/passwd")
    return "x"


def _link_above(folder: Path) -> str:
    (folder / "up").symlink_to("/etc")
    return "up/passwd"


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "x")
    return "x"


def _twice(folder: Path) -> str:
    (folder / "y").write_bytes(lines([1]))
    os.link(folder / "y", folder / "x")
    return "x"


def _folder(folder: Path) -> str:
    (folder / "x").mkdir()
    return "x"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_link, "cannot be read"),
        (_link_above, "cannot be read"),
        (_pipe, "is no regular file"),
        (_twice, "is no regular file"),
        (_folder, "is no regular file"),
        (lambda folder: "missing", "cannot be read: No such file"),
        (lambda folder: "../staging/x", "no plain file:// path"),
        (lambda folder: "%2e%2e/x", "no plain file:// path"),
    ],
)
def test_only_plain_files_below_the_folder_are_read(
    tmp_path: Path, folder: Path, make: Any, said: str
) -> None:
    name = make(folder)
    error = failure(play(opened(tmp_path), SCHEMA, batch(f"{folder}/{name}", encoding=NONE)))
    assert error["code"] == "message.batch" and said in error["message"]


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"not gzip at all", "message.batch", "invalid gzip header"),
        (gzip.compress(lines(range(9999)), mtime=0)[:-9], "message.batch", "cannot be read"),
        (gzip.compress(lines([1]), mtime=0) + b"more", "message.batch", "cannot be read"),
        (
            gzip.compress(b"[1]\n", mtime=0),
            "message.batch",
            "no record (in the file x, which line 2",
        ),
        (gzip.compress(b'{"id":1}\n{"id":2\n', mtime=0), "json.invalid", "(in the file x"),
        (gzip.compress(b'{"id":1} {}\n', mtime=0), "json.invalid", "(in the file x"),
        (gzip.compress(b'{"id":1}\n{"id":"2"}\n', mtime=0), "record.value", "64 bits (in the file"),
        (
            gzip.compress(b'{"id":1,"name":"\xff"}\n', mtime=0),
            "framing.invalid_utf8",
            "(in the file x",
        ),
        (
            gzip.compress(b"{" + b" " * 2_000_000, mtime=0),
            "framing.line_too_long",
            "(in the file x",
        ),
    ],
)
def test_what_is_in_a_file_is_as_hostile_as_any_output(
    tmp_path: Path, folder: Path, content: bytes, code: str, said: str
) -> None:
    (folder / "x").write_bytes(content)
    limits = {"max_line_bytes": 1_000_000}
    error = failure(play(opened(tmp_path, limits=limits), SCHEMA, batch(folder / "x")))
    assert error["code"] == code and said in error["message"], error


def test_a_file_that_expands_to_more_than_the_source_may_write(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "x").write_bytes(gzip.compress(b"\n" * 20_000_000, mtime=0))
    open_ = opened(tmp_path, limits={"max_output_bytes": 10_000_000})
    error = failure(play(open_, SCHEMA, batch(folder / "x")))
    assert error["code"] == "limit.output" and "grants.output" in error["hint"]


def test_a_file_that_expands_to_nothing(tmp_path: Path, folder: Path) -> None:
    (folder / "x").write_bytes(gzip.compress(b"", mtime=0) * 900_000)
    error = failure(play(opened(tmp_path), SCHEMA, batch(folder / "x")))
    assert "expand to nothing" in error["message"]


def test_a_batch_before_its_schema(tmp_path: Path, folder: Path) -> None:
    error = failure(play(opened(tmp_path), batch(folder / "x")))
    assert error["code"] == "message.record_before_schema"
