"""The writer on "orders" at full scale, a million rows and 464 MB, against DuckDB's COPY of the same file to the same Parquet.

The real dativo-writer reads ``cat FILE |`` while this process plays the kernel: it answers schemas and takes every epoch for
committed. What is measured is the writer process alone (wait4), from its start to its end. DuckDB gets an environment of its own
from uv. Both write every column with the same type, and the first round checks that they wrote the same rows.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.contract.writer_kernel import Writer, opening, stream

from bench.measure import MB, Bar, command, median, table

DUCKDB = "duckdb==2.0.*"
DIALECTS = ("singer", "airbyte")
SHAPE = "orders"
CPU_BAR = 1.0
RSS_BAR_MB = 128.0
PIPE_BYTES = 1 << 20
FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Copy:
    """One pass over the file."""

    cpu_s: float
    peak_rss_bytes: int
    rows: int
    bytes: int


def streams() -> Path:
    """Return the folder of the generated streams; makes them when they are not there or not what their manifest says.

    It lies in $XDG_CACHE_HOME (by default ~/.cache), one for each version of the generator, of 924 MB.
    """
    generator = FOLDER / "generate_streams.py"
    version = hashlib.sha256(generator.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "dativo" / f"bench-{version}"
    if not _is_whole(folder):
        print(f"generating {SHAPE} into {folder} …", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command([sys.executable, str(generator), str(folder), "--only", SHAPE])
        if not _is_whole(folder):
            raise RuntimeError(f"{folder} is not what its manifest says")
    return folder


def _is_whole(folder: Path) -> bool:
    manifest = folder / "MANIFEST.json"
    if not manifest.is_file():
        return False
    files = json.loads(manifest.read_text())
    names = {f"{SHAPE}.{dialect}.jsonl" for dialect in DIALECTS}
    return names <= files.keys() and all(
        (folder / name).is_file() and _sha256(folder / name) == files[name]["sha256"]
        for name in names
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ours(source: Path, dialect: str, schema: str, staging: Path) -> Copy:
    """Run the writer over ``source`` into ``staging``."""
    declared = stream(SHAPE, schema if dialect == "airbyte" else None)
    with Writer(opening(dialect, staging, [declared])) as writer:
        fcntl.fcntl(writer.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with subprocess.Popen(["cat", str(source)], stdout=writer.stdin) as cat:
            writer.close_stdin()
            writer.finish()
            writer.drain()
        if cat.returncode or writer.status or writer.usage is None:
            raise RuntimeError(f"the writer failed: {writer.of('error')} {writer.stderr()}")
    files = writer.files(SHAPE)
    usage = writer.usage
    # ru_maxrss counts this process's memory before exec too; it is far below the writer's peak.
    return Copy(
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_rss_bytes=usage.ru_maxrss * 1024,
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
        self, source: Path, dialect: str, schema: Path, folder: Path, same_as: Path | None
    ) -> Copy:
        """COPY ``source`` to Parquet; raises RuntimeError when the rows are not those of ``same_as``."""
        argv = [str(FOLDER / "duckdb_copy.py"), str(source), dialect, str(schema), str(folder)]
        compare = [] if same_as is None else ["--same-as", str(same_as)]
        told = json.loads(command([*self._python, *argv, *compare]).stdout)
        return Copy(told["cpu_s"], told["peak_rss_bytes"], told["rows"], told["bytes"])


def measure(rounds: int = 3) -> list[Bar]:
    """Let both copy each file in turn; medians."""
    folder = streams()
    schema = folder / f"{SHAPE}.schema.json"
    duckdb = DuckDB()
    print(f"DuckDB {duckdb.version}", file=sys.stderr, flush=True)
    found: dict[str, list[tuple[Copy, Copy]]] = {dialect: [] for dialect in DIALECTS}
    for number in range(rounds):
        for dialect in DIALECTS:
            source = folder / f"{SHAPE}.{dialect}.jsonl"
            with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
                mine = ours(source, dialect, schema.read_text(), Path(one))
                same_as = Path(one) if number == 0 else None
                theirs = duckdb.copy(source, dialect, schema, Path(other), same_as)
            if mine.rows != theirs.rows:
                raise RuntimeError(f"the writer wrote {mine.rows} rows, DuckDB {theirs.rows}")
            found[dialect].append((mine, theirs))
    bars = []
    for dialect, pairs in found.items():
        source_mb = (folder / f"{SHAPE}.{dialect}.jsonl").stat().st_size / MB
        bars += _bars(f"{SHAPE}, {dialect}", source_mb, pairs)
    return bars


def _bars(what: str, source_mb: float, pairs: list[tuple[Copy, Copy]]) -> list[Bar]:
    mine, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    cpu_s, peer_s = median([c.cpu_s for c in mine]), median([c.cpu_s for c in theirs])
    rss_mb, peer_mb = (max(c.peak_rss_bytes for c in side) / MB for side in (mine, theirs))
    return [
        Bar(f"{what}: writer, CPU of DuckDB's COPY", cpu_s / peer_s, "×", CPU_BAR),
        Bar(f"{what}: writer, peak RSS", rss_mb, "MB", RSS_BAR_MB),
        Bar(f"{what}: rows", mine[0].rows, ""),
        Bar(f"{what}: writer", source_mb / cpu_s, "MB per CPU second"),
        Bar(f"{what}: DuckDB", source_mb / peer_s, "MB per CPU second"),
        Bar(f"{what}: writer, Parquet", mine[0].bytes / MB, "MB"),
        Bar(f"{what}: DuckDB, Parquet", theirs[0].bytes / MB, "MB"),
        Bar(f"{what}: DuckDB, peak RSS", peer_mb, "MB"),
    ]


if __name__ == "__main__":
    print(table(measure()))
