"""The ledger: what ran, how it ended, and documents that need not be asked for twice. SQLite, a cache, never the truth.

The truth about state lies in the target, in one commit with the data. What is here serves people (``runs list``, ``runs show``),
start-up (SPEC and CATALOG by environment and configuration) and one warning: a warehouse that lost the state we knew.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS runs (
  run TEXT PRIMARY KEY, workspace TEXT NOT NULL, pipeline TEXT NOT NULL, started_at REAL NOT NULL,
  ended_at REAL, status INTEGER, summary TEXT, report TEXT);
CREATE INDEX IF NOT EXISTS runs_by_start ON runs (started_at);
CREATE TABLE IF NOT EXISTS pipelines (
  workspace TEXT NOT NULL, pipeline TEXT NOT NULL, warehouse TEXT NOT NULL, epoch INTEGER NOT NULL,
  states_sha256 TEXT NOT NULL, updated_at REAL NOT NULL, PRIMARY KEY (workspace, pipeline, warehouse));
CREATE TABLE IF NOT EXISTS documents (
  kind TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL, stored_at REAL NOT NULL, PRIMARY KEY (kind, key));
"""
MAX_RUNS: Final = 10_000


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as the ledger keeps it. ``status`` is None while it runs or when its kernel died."""

    run: str
    workspace: str
    pipeline: str
    started_at: float
    ended_at: float | None
    status: int | None
    summary: str
    report: str | None


class Ledger:
    """One connection; opened per command, closed with it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "ledger.db"
        path.touch(mode=0o600)  # SQLite gives its journal the mode of the database
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def begin(self, run: str, workspace: Path, pipeline: str) -> None:
        """Write down that a run starts; the oldest beyond MAX_RUNS are forgotten."""
        self._db.execute(
            "INSERT INTO runs (run, workspace, pipeline, started_at, summary) VALUES (?, ?, ?, ?, '')",
            (run, str(workspace), pipeline, time.time()),
        )
        self._db.execute(
            "DELETE FROM runs WHERE run IN (SELECT run FROM runs ORDER BY started_at DESC LIMIT -1 OFFSET ?)",
            (MAX_RUNS,),
        )

    def end(self, run: str, status: int, summary: str, report: str) -> None:
        """Write down how a run ended."""
        self._db.execute(
            "UPDATE runs SET ended_at = ?, status = ?, summary = ?, report = ? WHERE run = ?",
            (time.time(), status, summary, report, run),
        )

    def runs(self, *, limit: int) -> list[RunRow]:
        """Return the newest runs first."""
        rows = self._db.execute(
            "SELECT run, workspace, pipeline, started_at, ended_at, status, summary, report FROM runs"
            " ORDER BY started_at DESC LIMIT ?",
            (limit,),
        )
        return [RunRow(*row) for row in rows]

    def run(self, run: str) -> RunRow | None:
        """Return the run whose id is, or uniquely starts with, ``run``."""
        rows = self._db.execute(
            "SELECT run, workspace, pipeline, started_at, ended_at, status, summary, report FROM runs"
            " WHERE substr(run, 1, length(?1)) = ?1 LIMIT 2",
            (run,),
        ).fetchall()
        return RunRow(*rows[0]) if len(rows) == 1 else None

    def remember(
        self, workspace: Path, pipeline: str, warehouse: Path, epoch: int, states_sha256: str
    ) -> None:
        """Keep the last epoch that a pipeline committed to a warehouse."""
        self._db.execute(
            "INSERT OR REPLACE INTO pipelines VALUES (?, ?, ?, ?, ?, ?)",
            (str(workspace), pipeline, str(warehouse), epoch, states_sha256, time.time()),
        )

    def remembered_epoch(self, workspace: Path, pipeline: str, warehouse: Path) -> int | None:
        """Return the last epoch known to be committed there; None when never seen."""
        row = self._db.execute(
            "SELECT epoch FROM pipelines WHERE workspace = ? AND pipeline = ? AND warehouse = ?",
            (str(workspace), pipeline, str(warehouse)),
        ).fetchone()
        return row[0] if row else None

    def document(self, kind: str, key: str) -> str | None:
        """Return a stored SPEC or CATALOG."""
        row = self._db.execute(
            "SELECT text FROM documents WHERE kind = ? AND key = ?", (kind, key)
        ).fetchone()
        return row[0] if row else None

    def store_document(self, kind: str, key: str, text: str) -> None:
        """Keep a SPEC or CATALOG under its key."""
        self._db.execute(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", (kind, key, text, time.time())
        )
