"""dativo.native on "orders", a million records, against orjson for each line and pyarrow.Table.from_pylist.

Both read the same file of plain records into the same Arrow table, in turn, each time in a process of its own. Measured is the
CPU of that alone, without start and imports. Ours is measured with timestamps and decimals too, which from_pylist leaves text.
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


def ours(path: Path, schema: str) -> pa.Table:
    """Decode plain records, strings to strings."""
    from dativo import native

    return pa.table(native.read_jsonl(path, as_text(schema)).read_all())


def typed(path: Path, schema: str) -> pa.Table:
    """Decode plain records, to timestamps and decimals too."""
    from dativo import native

    return pa.table(native.read_jsonl(path, schema).read_all())


def messages(path: Path, schema: str) -> pa.Table:
    """Decode the records in Singer's messages, to the same types."""
    from dativo import native

    reader = native.read_jsonl(path, schema, dialect="singer", stream=SHAPE)
    return pa.table(reader.read_all())


def as_text(schema: str) -> str:
    """Return ``schema`` without the formats of strings."""
    given = json.loads(schema)
    for node in given["properties"].values():
        node.pop("format", None)
    return json.dumps(given)


def theirs(path: Path, schema: str) -> pa.Table:
    """Parse plain records to dicts, and let pyarrow infer the types."""
    del schema
    with path.open("rb") as lines:
        return pa.Table.from_pylist([orjson.loads(line) for line in lines])


CASES: dict[str, Callable[[Path, str], pa.Table]] = {
    "ours": ours,
    "typed": typed,
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
        files = {"ours": plain, "typed": plain, "messages": singer, "theirs": plain}
        found: dict[str, list[float]] = {name: [] for name in CASES}
        for _ in range(rounds):
            for name, file in files.items():
                argv = [sys.executable, "-m", "bench.native", name, str(file), str(schema)]
                found[name].append(json.loads(command(argv).stdout))
        sizes = {name: file.stat().st_size / MB for name, file in files.items()}
    cpu_s = {name: median(values) for name, values in found.items()}
    speed = {name: cpu_s["theirs"] / cpu_s[name] for name in ("ours", "typed")}
    peer = "orjson and from_pylist"
    return [
        Bar(f"{SHAPE}: dativo.native, speed of {peer}", speed["ours"], "×", BAR, least=True),
        Bar(f"{SHAPE}: with timestamps and decimals, speed of {peer}", speed["typed"], "×"),
        *(
            Bar(f"{SHAPE}: {what}", sizes[name] / cpu_s[name], "MB per CPU second")
            for name, what in (
                ("ours", "dativo.native"),
                ("typed", "dativo.native with timestamps and decimals"),
                ("messages", "the same out of Singer's messages"),
                ("theirs", peer),
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
    read, other = ours(plain, schema), theirs(plain, schema)
    if read.num_rows != COMPARED_RECORDS or not read.equals(other):
        raise RuntimeError("dativo.native and orjson do not read alike")
    if not typed(plain, schema).equals(messages(singer, schema)):
        raise RuntimeError("messages and plain records are not read alike")


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
