"""dativo.native on "orders", a million records, against orjson for each line and pyarrow.Table.from_pylist.

Both read the same file of plain records into one Arrow table, in turn, each time in a process of its own. What is measured is the
CPU of that alone, without start and imports. Ours also makes timestamps and decimals of what stays text with the other one.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa

from bench.measure import MB, Bar, command, median, table
from bench.streams import streams

SHAPE = "orders"
COMPARED_RECORDS = 20_000
BAR = 10.0
# Columns that both read as the same type.
COMPARED = ("order_id", "customer_id", "status", "weight_kg", "email", "note", "is_test")


def ours(path: Path, schema: str) -> pa.Table:
    """Decode plain records."""
    from dativo import native

    return pa.table(native.read_jsonl(path, schema).read_all())


def messages(path: Path, schema: str) -> pa.Table:
    """Decode the records in Singer's messages."""
    from dativo import native

    reader = native.read_jsonl(path, schema, dialect="singer", stream=SHAPE)
    return pa.table(reader.read_all())


def theirs(path: Path, schema: str) -> pa.Table:
    """Parse plain records to dicts, and let pyarrow infer the types."""
    del schema
    with path.open("rb") as lines:
        return pa.Table.from_pylist([orjson.loads(line) for line in lines])


CASES: dict[str, Callable[[Path, str], pa.Table]] = {
    "ours": ours,
    "messages": messages,
    "theirs": theirs,
}


def measure(rounds: int = 3) -> list[Bar]:
    """Let each case read in turn; medians."""
    source = streams(SHAPE)
    schema = source / f"{SHAPE}.schema.json"
    with tempfile.TemporaryDirectory() as folder:
        plain, singer = Path(folder, "plain.jsonl"), Path(folder, "singer.jsonl")
        _cut(source / f"{SHAPE}.singer.jsonl", plain, singer, COMPARED_RECORDS)
        _compare(plain, singer, schema.read_text())
        _cut(source / f"{SHAPE}.singer.jsonl", plain, singer, None)
        files = {"ours": plain, "messages": singer, "theirs": plain}
        found: dict[str, list[float]] = {name: [] for name in CASES}
        for _ in range(rounds):
            for name, file in files.items():
                argv = [sys.executable, "-m", "bench.native", name, str(file), str(schema)]
                found[name].append(json.loads(command(argv).stdout))
        sizes = {name: file.stat().st_size / MB for name, file in files.items()}
    cpu_s = {name: median(values) for name, values in found.items()}
    ratio = cpu_s["theirs"] / cpu_s["ours"]
    return [
        Bar(
            f"{SHAPE}: dativo.native, speed of orjson and from_pylist", ratio, "×", BAR, least=True
        ),
        *(
            Bar(f"{SHAPE}: {what}", sizes[name] / cpu_s[name], "MB per CPU second")
            for name, what in (
                ("ours", "dativo.native"),
                ("messages", "dativo.native, Singer's messages"),
                ("theirs", "orjson and from_pylist"),
            )
        ),
    ]


def _cut(source: Path, plain: Path, singer: Path, count: int | None) -> None:
    """Copy the first ``count`` RECORDs of ``source``, or all, as they are and their records alone."""
    with source.open("rb") as lines, plain.open("wb") as bare, singer.open("wb") as whole:
        records = (line for line in lines if line.startswith(b'{"type":"RECORD"'))
        for line in itertools.islice(records, count):
            whole.write(line)
            bare.write(orjson.dumps(orjson.loads(line)["record"]) + b"\n")


def _compare(plain: Path, singer: Path, schema: str) -> None:
    """Raise RuntimeError unless all cases read the same."""
    read = ours(plain, schema)
    if not read.equals(messages(singer, schema)) or read.num_rows != COMPARED_RECORDS:
        raise RuntimeError("messages and plain records are not read alike")
    other = theirs(plain, schema)
    for name in COMPARED:
        if not read[name].combine_chunks().equals(other[name].combine_chunks()):
            raise RuntimeError(f"{name} is not read alike")


def _run(name: str, path: str, schema: str) -> None:
    """Print the CPU seconds of one case."""
    text = Path(schema).read_text()
    import dativo.native  # noqa: F401  an import is not what is measured

    started = time.process_time()
    read = CASES[name](Path(path), text)
    print(time.process_time() - started)
    del read  # freeing it is not either


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _run(*sys.argv[1:])
    else:
        print(table(measure()))
