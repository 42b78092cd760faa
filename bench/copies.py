"""JSON lines to Parquet by dativo-writer and by DuckDB's COPY: what each took.

The real dativo-writer reads ``cat FILE |`` while this process plays the kernel: it answers schemas and takes every epoch for
committed. What is measured is the writer process alone (wait4), from its start to its end. DuckDB gets an environment of its own
from uv; of it only the COPY statement is measured. Both write the same types, zstd level, rows in a row group (as many as the
writer puts there) and statistics.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from tests.contract.writer_kernel import PARQUET, Event, Writer, opening, plan_for, stream

from bench.measure import command

DUCKDB = "duckdb==2.0.*"
PIPE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Copy:
    """One pass over a file."""

    cpu_s: float
    wall_s: float
    peak_rss_bytes: int
    rows: int
    bytes: int


def write(
    source: Path,
    shape: str,
    dialect: str,
    schema: str,
    staging: Path,
    *,
    plan: Callable[[Event], Event] = plan_for,
) -> Copy:
    """Run the writer over ``source`` into ``staging``. Raises RuntimeError when it fails."""
    declared = stream(shape, schema if dialect == "airbyte" else None)
    began_s = time.perf_counter()
    with Writer(opening(dialect, staging, [declared]), plan=plan) as writer:
        fcntl.fcntl(writer.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with subprocess.Popen(["cat", str(source)], stdout=writer.stdin) as cat:
            writer.close_stdin()
            writer.finish()
            writer.drain()
        wall_s = time.perf_counter() - began_s
        if cat.returncode or writer.status or writer.usage is None:
            raise RuntimeError(f"the writer failed: {writer.of('error')} {writer.stderr()}")
    files = writer.files(shape)
    usage = writer.usage
    return Copy(
        cpu_s=usage.ru_utime + usage.ru_stime,
        wall_s=wall_s,
        peak_rss_bytes=writer.peak_bytes,
        rows=sum(file["rows"] for file in files),
        bytes=sum(file["bytes"] for file in files),
    )


class DuckDB:
    """DuckDB in its own environment. Making it may download the wheel."""

    def __init__(self) -> None:
        uv = str(Path(sysconfig.get_path("scripts")) / "uv")
        self._python = [uv, "run", "--quiet", "--no-project", "--with", DUCKDB, "python"]
        code = "import duckdb, platform; print(duckdb.__version__, 'on Python', platform.python_version())"
        self.version = command([*self._python, "-c", code]).stdout.strip()

    def copy(
        self,
        source: Path,
        dialect: str,
        schema: Path,
        folder: Path,
        *,
        group_rows: int = PARQUET["row_group_rows"],
        threads: int = 1,
        same_as: Path | None = None,
    ) -> Copy:
        """COPY ``source`` to Parquet; raises RuntimeError when the rows are not those of ``same_as``."""
        script = Path(__file__).parent / "duckdb_copy.py"
        settings = [str(threads), str(group_rows)]
        argv = [str(script), str(source), dialect, str(schema), str(folder), *settings]
        compare = [] if same_as is None else ["--same-as", str(same_as)]
        told = json.loads(command([*self._python, *argv, *compare]).stdout)
        return Copy(**told)


def pair(
    duckdb: DuckDB, folder: Path, shape: str, dialect: str, *, threads: int = 1, compare: bool
) -> tuple[Copy, Copy]:
    """Let both copy a stream of ``folder``, one after the other. Raises RuntimeError when they wrote different rows.

    ``compare`` looks at all values, not only at the number of rows.
    """
    source, schema = folder / f"{shape}.{dialect}.jsonl", folder / f"{shape}.schema.json"
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        mine = write(source, shape, dialect, schema.read_text(), Path(one))
        same_as = Path(one) if compare else None
        theirs = duckdb.copy(source, dialect, schema, Path(other), threads=threads, same_as=same_as)
    if mine.rows != theirs.rows:
        raise RuntimeError(f"the writer wrote {mine.rows} rows, DuckDB {theirs.rows}")
    return mine, theirs


def _group_rows(staging: Path) -> int:
    """Return the rows of the largest row group."""
    files = [pq.read_metadata(path) for path in staging.glob("*.parquet")]
    rows = (file.row_group(n).num_rows for file in files for n in range(file.num_row_groups))
    return max(rows, default=0)
