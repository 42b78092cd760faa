"""source-files and the writer against DuckDB's COPY of the same CSV file to the same Parquet, on one core's work.

"orders" as CSV: a million rows of 15 columns. dativo-source-files reads it and writes batches (for information also lines) into
the real dativo-writer while this process plays the kernel; the CPU of both processes is counted, from start to end. DuckDB is
told the types of all columns, too. The first round checks that both wrote the same rows.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.contract.files_source import arguments, config
from tests.contract.writer_kernel import Writer, opening, stream

from bench.copies import PIPE_BYTES, Copy, DuckDB
from bench.measure import MB, Bar, median, table
from bench.streams import streams

SHAPE: Final = "orders"
CPU_BAR: Final = 1.0
BYTES_BAR: Final = 1.05


def csv_file() -> Path:
    """Return the generated orders as CSV, beside the stream that they come from; makes it where it is missing."""
    folder = streams(SHAPE)
    target = folder / f"{SHAPE}.csv"
    if not target.is_file():
        print(f"writing {target} …", file=sys.stderr, flush=True)
        names = list(json.loads((folder / f"{SHAPE}.schema.json").read_text())["properties"])
        part = target.with_suffix(".part")
        with (
            (folder / f"{SHAPE}.singer.jsonl").open("rb") as lines,
            part.open("w", newline="", encoding="utf-8") as out,
        ):
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(names)
            for line in lines:
                message = json.loads(line, parse_float=str)
                if message["type"] == "RECORD":
                    record = message["record"]
                    writer.writerow([_text(record.get(name)) for name in names])
        part.rename(target)
    return target


def _text(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def land(source: Path, schema: dict[str, object], staging: Path, *, batches: bool) -> Copy:
    """Read ``source`` into the writer. Raises RuntimeError when either fails."""
    with tempfile.TemporaryDirectory() as documents:
        said = {"name": SHAPE, "path": str(source), "format": "csv"}
        argv = arguments(
            Path(documents),
            config(Path(documents), said),
            [{"name": SHAPE, "json_schema": schema}],
            [],
        )
        began_s = time.perf_counter()
        env = {"DATIVO_BATCHES": "arrow-ipc"} if batches else {}
        open_ = {**opening("airbyte", staging, [stream(SHAPE, schema)]), "batches": True}
        with Writer(open_) as writer:
            fcntl.fcntl(writer.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            reading = subprocess.Popen(argv, env=env, stdout=writer.stdin)
            writer.close_stdin()
            writer.finish()
            writer.drain()
            _, status, usage = os.wait4(reading.pid, 0)
            reading.returncode = os.waitstatus_to_exitcode(status)
            wall_s = time.perf_counter() - began_s
    if reading.returncode or writer.status or writer.usage is None:
        raise RuntimeError(f"failed: {reading.returncode} {writer.of('error')} {writer.stderr()}")
    files = writer.files(SHAPE)
    both = (usage, writer.usage)
    return Copy(
        cpu_s=sum(each.ru_utime + each.ru_stime for each in both),
        wall_s=wall_s,
        peak_rss_bytes=max(usage.ru_maxrss * 1024, writer.peak_bytes),
        rows=sum(file["rows"] for file in files),
        bytes=sum(file["bytes"] for file in files),
    )


def measure(rounds: int = 3) -> list[Bar]:
    """Let all copy the file in turn; medians."""
    source = csv_file()
    schema_file = source.with_name(f"{SHAPE}.schema.json")
    schema = json.loads(schema_file.read_text())
    duckdb = DuckDB()
    print(f"DuckDB {duckdb.version}", file=sys.stderr, flush=True)
    batched, lined, theirs = [], [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            batched.append(land(source, schema, Path(one), batches=True))
            same_as = Path(one) if number == 0 else None
            theirs.append(duckdb.copy(source, "csv", schema_file, Path(other), same_as=same_as))
        with tempfile.TemporaryDirectory() as folder:
            lined.append(land(source, schema, Path(folder), batches=False))
        if len({each[-1].rows for each in (batched, lined, theirs)}) != 1:
            raise RuntimeError("not the same number of rows")
    cpu_s, lines_s, peer_s = (median([c.cpu_s for c in side]) for side in (batched, lined, theirs))
    source_mb = source.stat().st_size / MB
    return [
        Bar("orders, CSV by batches: CPU of DuckDB's COPY", cpu_s / peer_s, "×", CPU_BAR),
        Bar("orders, CSV: bytes of DuckDB's", batched[0].bytes / theirs[0].bytes, "×", BYTES_BAR),
        Bar("orders, CSV by batches", source_mb / cpu_s, "MB per CPU second"),
        Bar("orders, CSV: DuckDB", source_mb / peer_s, "MB per CPU second"),
        Bar("orders, CSV by lines: CPU of DuckDB's COPY", lines_s / peer_s, "×"),
        Bar("orders, CSV by batches: wall of DuckDB's", batched[0].wall_s / theirs[0].wall_s, "×"),
        Bar(
            "orders, CSV by batches: peak RSS of a process",
            max(c.peak_rss_bytes for c in batched) / MB,
            "MB",
        ),
    ]


if __name__ == "__main__":
    print(table(measure()))
