"""The ledger: what ran, how it ended, documents that need not be asked for twice, and what foreign targets acknowledged. SQLite.

The state of a run into dativo's own targets lies there, in one commit with the data; of those the ledger is a cache that serves
people (``runs list``, ``runs show``), start-up (SPEC and CATALOG by environment and configuration) and one warning: a warehouse
that lost the state we knew. A foreign target keeps no state of ours: what it acknowledged is here and nowhere else.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from dativo.protocol.errors import Blame, InternalError, Where
from dativo.protocol.state import StateEntry, StateKind, Stream, digest

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS runs (
  run TEXT PRIMARY KEY, workspace TEXT NOT NULL, pipeline TEXT NOT NULL, started_at REAL NOT NULL,
  ended_at REAL, status INTEGER, summary TEXT, report TEXT);
CREATE INDEX IF NOT EXISTS runs_by_start ON runs (started_at);
CREATE TABLE IF NOT EXISTS pipelines (
  workspace TEXT NOT NULL, pipeline TEXT NOT NULL, warehouse TEXT NOT NULL, epoch INTEGER NOT NULL,
  states_sha256 TEXT NOT NULL, updated_at REAL NOT NULL, PRIMARY KEY (workspace, pipeline, warehouse));
CREATE TABLE IF NOT EXISTS states (
  workspace TEXT NOT NULL, pipeline TEXT NOT NULL, target TEXT NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL,
  namespace TEXT, name TEXT, text TEXT NOT NULL, sha256 TEXT NOT NULL, run TEXT NOT NULL, updated_at REAL NOT NULL,
  PRIMARY KEY (workspace, pipeline, target, position));
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
        self._path = path = folder / "ledger.db"
        path.touch(mode=0o600)  # SQLite gives its journal the mode of the database
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")  # a state that is saved is on the disk
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

    def save_states(
        self,
        workspace: Path,
        pipeline: str,
        target: str,
        states: tuple[StateEntry, ...],
        *,
        run: str,
    ) -> None:
        """Replace what ``target`` has acknowledged of a pipeline. On the disk when this returns (fsync).

        ``target`` is the target's reference. Each state is kept with its SHA-256.
        """
        now = time.time()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute(
                "DELETE FROM states WHERE workspace = ? AND pipeline = ? AND target = ?",
                (str(workspace), pipeline, target),
            )
            self._db.executemany(
                "INSERT INTO states VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        str(workspace),
                        pipeline,
                        target,
                        position,
                        entry.kind,
                        entry.stream.namespace if entry.stream else None,
                        entry.stream.name if entry.stream else None,
                        entry.text,
                        digest((entry,)),
                        run,
                        now,
                    )
                    for position, entry in enumerate(states)
                ],
            )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def saved_states(self, workspace: Path, pipeline: str, target: str) -> tuple[StateEntry, ...]:
        """Return what ``target`` has acknowledged of a pipeline; () when nothing. Raises InternalError for a damaged state."""
        found = []
        for kind, namespace, name, text, sha256 in self._db.execute(
            "SELECT kind, namespace, name, text, sha256 FROM states"
            " WHERE workspace = ? AND pipeline = ? AND target = ? ORDER BY position",
            (str(workspace), pipeline, target),
        ):
            stream = Stream(namespace, name) if name is not None else None
            entry = StateEntry(cast(StateKind, kind), stream, text)
            if digest((entry,)) != sha256:
                raise InternalError(
                    f"a saved state of pipeline {pipeline} does not match its digest",
                    Where(file=str(self._path), stream=str(stream) if stream else None),
                    blame=Blame.MACHINE,
                )
            found.append(entry)
        return tuple(found)

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
