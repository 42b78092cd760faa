"""What ``catalog.db`` holds for overwriting: hidden generations, their files and states, and the versions of live files.

The functions work inside a transaction of ``catalog.Catalog``, which owns the connection and the fence.

    dativo_generations   how far each overwritten stream is
    dativo_pending       the states that wait with the hidden rows
    dativo_metrics       what the columns of hidden files hold, for the manifest of the swap
    dativo_placements    their partitions and sort orders, for the same
    dativo_files         files: ``hidden`` ones, ``live`` ones that have a version, ``discarded`` ones that are not deleted yet
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from dativo.plugins.commit.changes import TableChange
from dativo.plugins.commit.messages import Open
from dativo.plugins.commit.target import (
    Generation,
    Intent,
    PlacedFile,
    files_from,
    generation_from,
    parsed,
    states_from,
    states_text,
)
from dativo.protocol.state import StateEntry, Stream, digest

TABLES = (
    """CREATE TABLE IF NOT EXISTS dativo_generations (
        pipeline TEXT NOT NULL,
        partition TEXT NOT NULL,
        stream TEXT NOT NULL,
        published INTEGER NOT NULL,
        pending INTEGER,
        PRIMARY KEY (pipeline, partition, stream))""",
    """CREATE TABLE IF NOT EXISTS dativo_pending (
        pipeline TEXT NOT NULL,
        partition TEXT NOT NULL,
        states TEXT NOT NULL,
        states_sha256 TEXT NOT NULL,
        PRIMARY KEY (pipeline, partition))""",
    """CREATE TABLE IF NOT EXISTS dativo_files (
        pipeline TEXT NOT NULL,
        partition TEXT NOT NULL,
        path TEXT NOT NULL,
        status TEXT NOT NULL,
        stream TEXT NOT NULL,
        schema_id INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        version INTEGER,
        generation INTEGER,
        PRIMARY KEY (pipeline, partition, path))""",
    """CREATE TABLE IF NOT EXISTS dativo_placements (
        pipeline TEXT NOT NULL,
        partition TEXT NOT NULL,
        path TEXT NOT NULL,
        placement TEXT NOT NULL,
        PRIMARY KEY (pipeline, partition, path))""",
    """CREATE TABLE IF NOT EXISTS dativo_metrics (
        pipeline TEXT NOT NULL,
        partition TEXT NOT NULL,
        path TEXT NOT NULL,
        metrics TEXT NOT NULL,
        PRIMARY KEY (pipeline, partition, path))""",
)


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """The rows of ``dativo_files``, by status."""

    hidden: tuple[PlacedFile, ...]
    live: tuple[PlacedFile, ...]
    discarded: tuple[PlacedFile, ...]


def read_pending(sql: sqlite3.Cursor, request: Open, where: str) -> tuple[StateEntry, ...]:
    """Return the pending states. Raises CommitFault."""
    row = sql.execute(
        "SELECT states, states_sha256 FROM dativo_pending WHERE pipeline = ? AND partition = ?",
        _key(request),
    ).fetchone()
    return () if row is None else states_from(parsed(row[0], where), row[1], where)


def read_generations(sql: sqlite3.Cursor, request: Open, where: str) -> tuple[Generation, ...]:
    """Return the pipeline's generations. Raises CommitFault."""
    rows = sql.execute(
        "SELECT stream, published, pending FROM dativo_generations "
        "WHERE pipeline = ? AND partition = ? ORDER BY stream",
        _key(request),
    ).fetchall()
    return tuple(
        generation_from(
            {"stream": parsed(stream, where), "published": published, "pending": pending}, where
        )
        for stream, published, pending in rows
    )


def read_files(sql: sqlite3.Cursor, request: Open, where: str) -> KeptFiles:
    """Return the pipeline's kept files, in the order in which they came. Raises CommitFault."""
    columns = ("path", "schema_id", "rows", "bytes", "sha256", "version", "generation")
    rows = sql.execute(
        "SELECT metrics, placement, status, stream, path, schema_id, rows, bytes, sha256, version, generation "
        "FROM dativo_files AS files LEFT JOIN dativo_metrics USING (pipeline, partition, path) "
        "LEFT JOIN dativo_placements USING (pipeline, partition, path) "
        "WHERE pipeline = ? AND partition = ? ORDER BY files.rowid",
        _key(request),
    ).fetchall()
    found: dict[str, list[dict[str, object]]] = {"hidden": [], "live": [], "discarded": []}
    streams: dict[str, object] = {}
    for metrics, placement, status, stream, *values in rows:
        if stream not in streams:
            streams[stream] = parsed(stream, where)
        record = {"stream": streams[stream], **dict(zip(columns, values, strict=True))}
        if metrics is not None:
            record["metrics"] = parsed(metrics, where)
        if placement is not None:
            record |= parsed(placement, where)
        found.setdefault(status, []).append(record)
    return KeptFiles(*(files_from(found[name], where) for name in ("hidden", "live", "discarded")))


def write(
    sql: sqlite3.Cursor, request: Open, intent: Intent, changes: Sequence[TableChange]
) -> None:
    """Record what an epoch does to generations, pending states and kept files."""
    key = _key(request)
    sql.execute("DELETE FROM dativo_pending WHERE pipeline = ? AND partition = ?", key)
    if intent.pending:
        row = (*key, states_text(intent.pending), digest(intent.pending))
        sql.execute("INSERT INTO dativo_pending VALUES (?, ?, ?, ?)", row)
    sql.executemany(
        "INSERT OR REPLACE INTO dativo_generations VALUES (?, ?, ?, ?, ?)",
        [(*key, _stream(g.stream), g.published, g.pending) for g in intent.generations],
    )
    for change in changes:
        if change.kept is not None:
            stays = (*change.kept, *change.added)
            sql.execute(
                "DELETE FROM dativo_files "
                "WHERE pipeline = ? AND partition = ? AND stream = ? AND status <> 'discarded'",
                (*key, _stream(change.stream)),
            )
        else:
            stays = change.added
        _put(sql, request, "live", [file for file in stays if file.version is not None])
        _put(sql, request, "hidden", change.hidden)
        _put(sql, request, "discarded", change.discarded)
        _put_metrics(sql, request, change.hidden)
        _put_placements(sql, request, change.hidden)
    if any(change.kept is not None or change.discarded for change in changes):
        sql.execute(
            "DELETE FROM dativo_metrics WHERE pipeline = ? AND partition = ? AND path NOT IN "
            "(SELECT path FROM dativo_files WHERE pipeline = ? AND partition = ? AND status = 'hidden')",
            (*key, *key),
        )
        sql.execute(
            "DELETE FROM dativo_placements WHERE pipeline = ? AND partition = ? AND path NOT IN "
            "(SELECT path FROM dativo_files WHERE pipeline = ? AND partition = ? AND status = 'hidden')",
            (*key, *key),
        )


def forget(sql: sqlite3.Cursor, request: Open, files: Sequence[PlacedFile]) -> None:
    """Remove the rows of files that are deleted."""
    sql.executemany(
        "DELETE FROM dativo_files "
        "WHERE pipeline = ? AND partition = ? AND path = ? AND status = 'discarded'",
        [(*_key(request), file.path) for file in files],
    )


def _put(sql: sqlite3.Cursor, request: Open, status: str, files: Sequence[PlacedFile]) -> None:
    sql.executemany(
        "INSERT OR REPLACE INTO dativo_files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *_key(request),
                file.path,
                status,
                _stream(file.stream),
                file.schema_id,
                file.rows,
                file.bytes,
                file.sha256,
                file.version,
                file.generation,
            )
            for file in files
        ],
    )


def _put_metrics(sql: sqlite3.Cursor, request: Open, files: Sequence[PlacedFile]) -> None:
    sql.executemany(
        "INSERT OR REPLACE INTO dativo_metrics VALUES (?, ?, ?, ?)",
        [
            (
                *_key(request),
                file.path,
                json.dumps([column.to_record() for column in file.metrics], separators=(",", ":")),
            )
            for file in files
            if file.metrics
        ],
    )


def _put_placements(sql: sqlite3.Cursor, request: Open, files: Sequence[PlacedFile]) -> None:
    records = ((file.path, file.placement.to_record()) for file in files)
    sql.executemany(
        "INSERT OR REPLACE INTO dativo_placements VALUES (?, ?, ?, ?)",
        [(*_key(request), path, json.dumps(record)) for path, record in records if record],
    )


def _key(request: Open) -> tuple[str, str]:
    return request.pipeline, request.partition


def _stream(stream: Stream) -> str:
    return json.dumps(stream.to_event(), ensure_ascii=False)
