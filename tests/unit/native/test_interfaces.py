"""Whoever reads or gives Arrow data and bytes: pyarrow, DuckDB, file objects, pipes, threads."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dativo.native", reason="dativo.native is not built: uv sync")

import pyarrow as pa

from dativo import native

SCHEMA = {"properties": {"n": {"type": "integer"}, "t": {"type": "array", "items": {"type": "string"}}}}  # fmt: skip


def lines(count: int) -> bytes:
    return b"".join(b'{"n":%d,"t":["%d"]}\n' % (n, n) for n in range(count))


EXPECTED = [{"n": n, "t": [str(n)]} for n in range(5)]


def test_it_imports_nothing_heavy() -> None:
    code = "import sys, dativo.native; print([m for m in ('pyarrow', 'numpy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stderr


def test_batches_one_by_one_all_at_once_or_as_a_stream() -> None:
    reader = native.read_jsonl(lines(5), SCHEMA, batch_rows=2)
    batches = list(reader)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    rows = [row for batch in batches for row in pa.record_batch(batch).to_pylist()]
    assert rows == EXPECTED
    assert len(reader.read_all()) == 0 and reader.error is None

    reader = native.read_jsonl(lines(5), SCHEMA, batch_rows=2)
    first = next(reader)
    rest = reader.read_all()
    assert (len(first), len(rest)) == (2, 3)
    assert pa.table(rest) == pa.table(rest)  # as often as is wanted

    reader = native.read_jsonl(lines(5), SCHEMA, batch_rows=2)
    stream = pa.RecordBatchReader.from_stream(reader)
    assert stream.schema == pa.schema(reader.schema) == pa.schema(reader)
    assert stream.read_next_batch().num_rows == 2
    assert len(next(reader)) == 2  # they take turns
    assert stream.read_all().num_rows == 1


def test_a_reader_is_a_table_to_write(tmp_path: Path) -> None:
    reader = native.read_jsonl(lines(5), SCHEMA)
    assert native.write_jsonl(reader, tmp_path / "out.jsonl") == 5
    assert (tmp_path / "out.jsonl").read_bytes() == lines(5)
    batch = next(native.read_jsonl(lines(5), SCHEMA))
    assert native.write_jsonl(batch, str(tmp_path / "out.jsonl")) == 5


def test_an_error_of_the_source_is_one_of_the_writer() -> None:
    reader = native.read_jsonl(b'{"n":""}', SCHEMA)
    with pytest.raises(native.EncodeError, match="expected an integer"):
        native.write_jsonl(reader, io.BytesIO())
    assert isinstance(reader.error, native.DecodeError)


def test_duckdb_reads_and_gives() -> None:
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    reader = native.read_jsonl(lines(100), SCHEMA, batch_rows=7)
    connection.register("reader", reader)
    found = connection.sql("SELECT sum(n), count(t[1]) FROM reader").fetchall()
    assert found == [(4950, 100)]
    schema = {"properties": {"j": {}, "moment": {"type": "string", "format": "date-time"}}}
    given = native.read_jsonl(b'{"j":{"a":[1]},"moment":"2024-02-29T12:00:00+01:00"}', schema)
    connection.register("given", given)
    assert connection.sql("SELECT j->>'$.a[0]', moment::text FROM given").fetchall() == [
        ("1", "2024-02-29 11:00:00+00")
    ]
    out = io.BytesIO()
    query = (
        "SELECT 1.50::DECIMAL(9,2) AS d, {'a': [1, NULL]} AS s, MAP {'k': 1} AS m, 'x'::BLOB AS b"
    )
    assert native.write_jsonl(connection.sql(query), out) == 1
    assert out.getvalue() == b'{"d":"1.50","s":{"a":[1,null]},"m":{"k":1},"b":"eA=="}\n'


# --- file objects -----------------------------------------------------------------------------------------------


class Drops(io.RawIOBase):
    """Gives and takes a few bytes at a time."""

    def __init__(self, data: bytes = b"") -> None:
        self.left = data
        self.taken = b""

    def read(self, size: int = -1) -> bytes:
        given, self.left = self.left[: min(size, 3)], self.left[min(size, 3) :]
        return given

    def write(self, data: Any) -> int:
        self.taken += bytes(data[:5])
        return min(len(data), 5)


def test_file_objects_may_give_and_take_little() -> None:
    drops = Drops(lines(5))
    assert pa.table(native.read_jsonl(drops, SCHEMA)).to_pylist() == EXPECTED
    assert native.write_jsonl(native.read_jsonl(lines(5), SCHEMA), drops) == 5
    assert drops.taken == lines(5)


class Odd:
    """A file whose calls answer as they are told to."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.read = self.write = answer


def failing(_: Any) -> Any:
    raise KeyError("the file")


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (failing, KeyError, "the file"),
        (lambda size: "text", TypeError, "binary mode"),
        (lambda size: None, BlockingIOError, "returned None"),
        (lambda size: b"x" * (size + 1), ValueError, "more than size"),
    ],
)
def test_files_that_do_not_read(
    answer: Callable[[Any], Any], error: type[Exception], said: str
) -> None:
    reader = native.read_jsonl(Odd(answer), SCHEMA)
    for _ in range(2):
        with pytest.raises(error, match=said):
            next(reader)
    assert isinstance(reader.error, error)
    with pytest.raises(OSError, match=said):
        pa.table(reader)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (failing, KeyError, "the file"),
        (lambda data: None, BlockingIOError, "returned None"),
        (lambda data: 0, BlockingIOError, "no byte"),
        (lambda data: len(data) + 1, ValueError, "more bytes"),
        (lambda data: "x", TypeError, "str"),
    ],
)
def test_files_that_do_not_write(
    answer: Callable[[Any], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        native.write_jsonl(native.read_jsonl(lines(1), SCHEMA), Odd(answer))


def test_a_reader_is_not_read_by_its_own_source() -> None:
    def read(size: int) -> bytes:
        next(reader)
        return b""

    reader = native.read_jsonl(Odd(read), SCHEMA)
    with pytest.raises(RuntimeError, match="in use"):
        next(reader)


def test_paths_that_cannot_be_opened_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        native.read_jsonl(tmp_path / "none", SCHEMA)
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, str(tmp_path / "none"))
    with pytest.raises(IsADirectoryError):
        native.read_jsonl(tmp_path, SCHEMA).read_all()
    with pytest.raises(IsADirectoryError):
        native.write_jsonl(native.read_jsonl(b"", SCHEMA), tmp_path)
    with pytest.raises(OSError) as full:
        native.write_jsonl(native.read_jsonl(lines(1), SCHEMA), "/dev/full")
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(TypeError, match="a path, bytes or a readable"):
        native.read_jsonl(1, SCHEMA)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="__arrow_c_stream__"):
        native.write_jsonl([], io.BytesIO())  # type: ignore[arg-type]


def test_a_pipe_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
        native.write_jsonl(native.read_jsonl(lines(1), SCHEMA), pipe)


def test_other_threads_run_while_it_reads(tmp_path: Path) -> None:
    """The lines come from a thread of this very interpreter, one by one, while another reads them from a pipe by its path."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def feed() -> None:
        with pipe.open("wb", buffering=0) as out:
            for line in lines(50).splitlines(keepends=True):
                out.write(line)

    feeder = threading.Thread(target=feed)
    feeder.start()
    table = pa.table(native.read_jsonl(pipe, SCHEMA, batch_rows=1).read_all())
    feeder.join(30)
    assert table.num_rows == 50


def test_an_interrupt_ends_the_wait_for_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = (
        "import sys; from dativo import native; "
        "native.read_jsonl(sys.argv[1], {'properties': {'n': {}}}).read_all()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(pipe)], stderr=subprocess.PIPE, text=True
    )
    # The pipe opens here when the child has opened it. A signal that comes just before the child waits does not wake it: then
    # the next one does.
    with child, pipe.open("wb", buffering=0):
        for _ in range(300):
            child.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.2)
                break
        assert child.stderr is not None
        told = child.stderr.read()
    assert child.returncode != 0 and "KeyboardInterrupt" in told
