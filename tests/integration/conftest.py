"""Real runs: the installed `dativo` command in a workspace and a home of its own."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

ROOT = Path(__file__).parents[2]
DATIVO = Path(sysconfig.get_path("scripts")) / "dativo"
KEPT = ("PATH", "LANG", "SSL_CERT_FILE", "UV_CACHE_DIR", "DATIVO_BIN_DIR")


@dataclass
class Result:
    """How a command ended and what it wrote."""

    status: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.stdout)
        return report


@dataclass
class Workspace:
    """A folder with jobs, and the operator's folders beside it."""

    folder: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)
    # Where no cgroup can be written (a plain user without delegation) the tests run with the named weaker wall.
    flags: tuple[str, ...] = ()

    lake_name: str = "lake"
    # What the command is started through, such as a program that takes something away from it.
    prefix: tuple[str, ...] = ()

    @property
    def lake(self) -> Path:
        return self.folder / self.lake_name

    def environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in KEPT if key in os.environ}
        return {
            **kept,
            "HOME": str(self.home),
            "DATIVO_HOME": str(self.home / "dativo"),
            **self.env,
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.prefix, str(DATIVO), *arguments],
            cwd=self.folder,
            env=self.environment(),
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )

    def dativo(self, *arguments: str, timeout_s: float = 300) -> Result:
        process = self.start(*arguments)
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Result(process.returncode, stdout, stderr)

    def run(self, job: str = "job.yaml", *more: str, timeout_s: float = 300) -> Result:
        return self.dativo("run", job, "--output", "json", *self.flags, *more, timeout_s=timeout_s)

    def job(self, text: str, name: str = "job.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def plugin(self, source: Path, name: str) -> None:
        shutil.copytree(
            source, self.folder / "plugins" / name, ignore=shutil.ignore_patterns("__pycache__")
        )

    def count(self, table: str, what: str = "count(*)") -> Any:
        """Read an Iceberg table back with DuckDB, by the pointer that the catalogue holds."""
        row = (
            reader()
            .execute(f"SELECT {what} FROM iceberg_scan('{self.metadata(table)}')")
            .fetchone()
        )
        return None if row is None else row[0] if len(row) == 1 else row

    def read(self, target: str, table: str, what: str = "count(*)", job: str = "job.yaml") -> Any:
        """Read a table of either target back: Iceberg by its metadata, Parquet by the files that its log names."""
        if target == "iceberg":
            return self.count(table, what)
        connection = duckdb.connect()
        listed = self.dativo("files", job, "--view", *self.flags)
        assert listed.status == 0, listed.stderr
        connection.execute(listed.stdout)
        row = connection.execute(f"SELECT {what} FROM {table.rpartition('.')[2]}").fetchone()
        return None if row is None else row[0] if len(row) == 1 else row

    def metadata(self, table: str) -> str:
        import sqlite3

        # Not read-only: after a kill the first reader has to roll the half transaction back.
        with sqlite3.connect(self.lake / "catalog.db") as db:
            namespace, name = table.split(".")
            [(location,)] = db.execute(
                "SELECT metadata_location FROM iceberg_tables WHERE table_namespace = ? AND table_name = ?",
                (namespace, name),
            ).fetchall()
        return str(location).removeprefix("file://")

    def tables(self) -> list[str]:
        import sqlite3

        if not (self.lake / "catalog.db").exists():
            return []
        with sqlite3.connect(self.lake / "catalog.db") as db:
            found = db.execute(
                "SELECT table_namespace || '.' || table_name FROM iceberg_tables ORDER BY 1"
            )
            return [row[0] for row in found]


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended meanwhile
        children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def reader() -> duckdb.DuckDBPyConnection:
    """Open DuckDB with its own Iceberg reader, offline."""
    extensions = Path(duckdb.__file__).parents[1] / "duckdb_ext/extensions"
    connection = duckdb.connect(config={"extension_directory": str(extensions)})
    connection.execute("LOAD avro; LOAD iceberg")
    return connection


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Find every process that a command leaves behind: orphans become our children (PR_SET_CHILD_SUBREAPER, prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    subreaper = 36
    assert libc.prctl(subreaper, 1, 0, 0, 0) == 0
    before = set(descendants(os.getpid()))
    yield
    deadline = time.monotonic() + 10
    while left := {pid for pid in descendants(os.getpid()) if not ended(pid)} - before:
        assert time.monotonic() < deadline, [
            Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left
        ]
        time.sleep(0.02)
    assert libc.prctl(subreaper, 0, 0, 0, 0) == 0


def ended(pid: int) -> bool:
    """Tell whether a process is gone; one that only waits for us to ask is asked."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    folder, home = tmp_path / "workspace", tmp_path / "home"
    folder.mkdir()
    home.mkdir(mode=0o700)
    yield Workspace(folder, home, flags=plain_flags())


def plain_flags() -> tuple[str, ...]:
    """The weaker wall that a plain user without delegation has to name."""
    return () if os.geteuid() == 0 else ("--cgroup", "degraded")
