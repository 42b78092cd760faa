"""The catalogue in ``<warehouse>/catalog.db``: Iceberg's SQL (JDBC) catalogue, and our own tables beside it.

``iceberg_tables`` and ``iceberg_namespace_properties`` have the layout that iceberg-java's JdbcCatalog and pyiceberg's SqlCatalog
share, so both open the file. They are written here with the standard sqlite3 because one transaction must hold the pointers of
all tables, the state and the intent, and because it spares the start of a run the imports of an ORM.
Sources: sqlite.org/lang_transaction.html, sqlite.org/pragma.html (synchronous, journal_mode).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from dativo.plugins.commit.changes import TableChange
from dativo.plugins.commit.faults import CommitFault, config_fault, conflict_fault, locating
from dativo.plugins.commit.kept import check_regular, read_kept
from dativo.plugins.commit.messages import Open
from dativo.plugins.commit.target import (
    Head,
    Intent,
    PlacedFile,
    TableListing,
    corrupt,
    files_from,
    files_text,
    parsed,
    states_from,
    states_text,
)
from dativo.plugins.iceberg import generations
from dativo.plugins.iceberg.generations import KeptFiles
from dativo.protocol.errors import Blame, ProtocolViolation
from dativo.protocol.state import Stream, digest

CATALOG_NAME = "dativo"
BUSY_TIMEOUT_S = 5.0
MAX_VALUE_BYTES = 256 * 1024 * 1024

_NOTHING = Head(0, "", ())
_TABLES = (
    """CREATE TABLE IF NOT EXISTS iceberg_tables (
        catalog_name VARCHAR(255) NOT NULL,
        table_namespace VARCHAR(255) NOT NULL,
        table_name VARCHAR(255) NOT NULL,
        metadata_location VARCHAR(1000),
        previous_metadata_location VARCHAR(1000),
        iceberg_type VARCHAR(5),
        PRIMARY KEY (catalog_name, table_namespace, table_name))""",
    """CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
        catalog_name VARCHAR(255) NOT NULL,
        namespace VARCHAR(255) NOT NULL,
        property_key VARCHAR(255) NOT NULL,
        property_value VARCHAR(1000) NOT NULL,
        PRIMARY KEY (catalog_name, namespace, property_key))""",
    """CREATE TABLE IF NOT EXISTS dativo_state (
        pipeline TEXT NOT NULL,
        partition TEXT NOT NULL,
        owner TEXT NOT NULL,
        namespace TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        attempt TEXT NOT NULL,
        run TEXT NOT NULL,
        states TEXT NOT NULL,
        states_sha256 TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        PRIMARY KEY (pipeline, partition))""",
    """CREATE TABLE IF NOT EXISTS dativo_intents (
        pipeline TEXT NOT NULL,
        partition TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        parent_epoch INTEGER NOT NULL,
        attempt TEXT NOT NULL,
        run TEXT NOT NULL,
        files TEXT NOT NULL,
        states TEXT NOT NULL,
        states_sha256 TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (pipeline, partition, epoch))""",
    *generations.TABLES,
)


class PointerMoved(Exception):
    """A table's pointer is no longer what the new metadata was built on."""


@dataclass(frozen=True, slots=True)
class Swap:
    """One table's step from one metadata file to the next, both plain paths."""

    table: str
    current: str
    new: str


class Catalog:
    """A connection to the catalogue on behalf of one run. Every method blocks up to BUSY_TIMEOUT_S on a rival's lock."""

    def __init__(self, path: Path, request: Open) -> None:
        self._path = path
        self._request = request
        with locating("open the catalogue", path):
            check_regular(path)
        with self._located():
            self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
            self._connection.execute("PRAGMA trusted_schema=OFF")
            self._check_schema()
            # A rollback journal whose removal is synced too: once COMMIT returns, the transaction survives power loss.
            # With FULL the folder is not synced behind the unlink, and a journal that came back would be rolled back.
            mode = self._connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
            if mode != "delete":
                raise self._locked()
            self._connection.execute("PRAGMA synchronous=EXTRA")

    def _check_schema(self) -> None:
        """Refuse a database that does something by itself, or that is somebody else's (https://www.sqlite.org/security.html)."""
        found = self._connection.execute(
            "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view') LIMIT 1"
        ).fetchone()
        if found is not None:
            raise corrupt(f"the catalogue has a {found[0]}, {found[1]!r}", str(self._path))
        [application] = self._connection.execute("PRAGMA application_id").fetchone()
        if application != 0:
            raise corrupt(
                f"the catalogue is the database of another application, {application}",
                str(self._path),
            )

    def close(self) -> None:
        """Close the connection."""
        with self._located():
            self._connection.close()

    def attach(self) -> tuple[Head, KeptFiles]:
        """Create what is missing, write our run into the pipeline's state row, return what is kept."""
        request, where = self._request, str(self._path)
        with self._transaction() as sql:
            for statement in _TABLES:
                sql.execute(statement)
            sql.execute(
                "INSERT OR IGNORE INTO iceberg_namespace_properties VALUES (?, ?, 'exists', 'true')",
                (CATALOG_NAME, request.namespace),
            )
            sql.execute(
                "INSERT OR IGNORE INTO dativo_state VALUES (?, ?, ?, ?, 0, '', ?, '[]', ?, ?)",
                (
                    request.pipeline,
                    request.partition,
                    request.owner,
                    request.namespace,
                    request.run,
                    digest(()),
                    _now(),
                ),
            )
            head = replace(
                self._read_head(sql) or _NOTHING,
                pending=generations.read_pending(sql, request, where),
                generations=generations.read_generations(sql, request, where),
            )
            files = generations.read_files(sql, request, where)
            sql.execute(
                "UPDATE dativo_state SET run = ? WHERE pipeline = ? AND partition = ?",
                (request.run, request.pipeline, request.partition),
            )
        return head, files

    def inspect(self) -> tuple[Head, list[TableListing]]:
        """Return the published state and this pipeline's tables. Writes nothing."""
        # One transaction, so that state and pointers are of the same epoch.
        with self._transaction("DEFERRED") as sql:
            known = sql.execute(
                "SELECT count(*) FROM sqlite_master WHERE name = 'dativo_state'"
            ).fetchone()[0]
            head = self._read_head(sql) if known else None
            if head is None:
                return _NOTHING, []
            pointers = sql.execute(
                "SELECT table_name, metadata_location FROM iceberg_tables "
                "WHERE catalog_name = ? AND table_namespace = ? ORDER BY table_name",
                (CATALOG_NAME, self._request.namespace),
            ).fetchall()
        listings = (self._listing(name, location) for name, location in pointers)
        return head, [listing for listing in listings if listing is not None]

    def _read_head(self, sql: sqlite3.Cursor) -> Head | None:
        """Return what is published of our pipeline, None before its first run. Raises CommitFault for another's."""
        row = sql.execute(
            "SELECT owner, namespace, epoch, attempt, states, states_sha256 FROM dativo_state "
            "WHERE pipeline = ? AND partition = ?",
            (self._request.pipeline, self._request.partition),
        ).fetchone()
        if row is None:
            return None
        owner, namespace, epoch, attempt, states, sha256 = row
        self._check_identity(owner, namespace)
        where = str(self._path)
        if not isinstance(epoch, int) or epoch < 0 or not isinstance(attempt, str):
            raise corrupt(f"the pipeline's epoch is {epoch!r}"[:200], where)
        return Head(epoch, attempt, states_from(parsed(states, where), sha256, where))

    def _listing(self, table: str, location: str) -> TableListing | None:
        """Return a table of this pipeline by its metadata file; None for a table of another one."""
        path = Path(location.removeprefix("file://"))
        with locating("read table metadata", path):
            text = read_kept(path).decode("utf-8", "backslashreplace")
        try:
            properties = parsed(text, str(path)).get("properties", {})
            if properties.get("dativo.owner") != self._request.owner:
                return None
            stream = Stream.from_event(parsed(properties["dativo.stream"], str(path)))
        except (AttributeError, KeyError, TypeError, ProtocolViolation) as error:
            raise corrupt(
                f"the metadata of a table cannot be read: {error!r}", str(path)
            ) from error
        return TableListing(stream, f"{self._request.namespace}.{table}", str(path), ())

    def intents(self) -> list[Intent]:
        """Return the intents of our pipeline that were never settled."""
        with self._located():
            rows = self._connection.execute(
                "SELECT epoch, attempt, run, files, states, states_sha256 FROM dativo_intents "
                "WHERE pipeline = ? AND partition = ? ORDER BY epoch",
                (self._request.pipeline, self._request.partition),
            ).fetchall()
        where = str(self._path)
        return [
            Intent(
                epoch,
                attempt,
                run,
                files_from(parsed(files, where), where),
                states_from(parsed(states, where), sha256, where),
            )
            for epoch, attempt, run, files, states, sha256 in rows
        ]

    def check_held(self) -> None:
        """Raise ``conflict.epoch`` unless the state row names our run."""
        with self._located():
            self._check_run(self._connection.cursor())

    def record(self, intent: Intent) -> None:
        """Write ``intent`` down. Raises ``conflict.epoch`` when the pipeline is not ours any more."""
        with self._transaction() as sql:
            self._check_run(sql, intent.parent)
            sql.execute(
                "INSERT INTO dativo_intents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._request.pipeline,
                    self._request.partition,
                    intent.epoch,
                    intent.parent,
                    intent.attempt,
                    intent.run,
                    files_text(intent.files),
                    states_text(intent.states),
                    digest(intent.states),
                    _now(),
                ),
            )

    def forget(self, intent: Intent) -> None:
        """Remove ``intent``."""
        with self._transaction() as sql:
            self._delete_intent(sql, intent)

    def pointer(self, table: str) -> str | None:
        """Return the metadata file of ``table``, None when there is no such table."""
        with self._located():
            row = self._connection.execute(
                "SELECT metadata_location FROM iceberg_tables "
                "WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?",
                (CATALOG_NAME, self._request.namespace, table),
            ).fetchone()
        return None if row is None else row[0]

    def register(self, table: str, metadata_location: str) -> None:
        """Add a new table. Raises PointerMoved when the name was taken meanwhile."""
        with self._transaction() as sql:
            self._check_run(sql)
            added = sql.execute(
                "INSERT OR IGNORE INTO iceberg_tables (catalog_name, table_namespace, table_name, "
                "metadata_location) VALUES (?, ?, ?, ?)",
                (CATALOG_NAME, self._request.namespace, table, metadata_location),
            ).rowcount
            if added != 1:
                raise PointerMoved(table)

    def alter(self, swap: Swap) -> None:
        """Move one table's pointer, no epoch with it. Raises PointerMoved."""
        with self._transaction() as sql:
            self._check_run(sql)
            self._move_pointer(sql, swap)

    def commit(self, intent: Intent, swaps: Sequence[Swap], changes: Sequence[TableChange]) -> None:
        """Take everything over at once: all pointers, the states, the generations and their files, the end of the intent.

        Raises ``conflict.epoch`` when the pipeline is not ours any more, PointerMoved when a foreign commit came between.
        """
        with self._transaction() as sql:
            self._advance_state(sql, intent)
            for swap in swaps:
                self._move_pointer(sql, swap)
            generations.write(sql, self._request, intent, changes)
            self._delete_intent(sql, intent)

    def forget_files(self, files: Sequence[PlacedFile]) -> None:
        """Forget discarded files that are deleted. Needs no fence: nobody else uses their names."""
        with self._transaction() as sql:
            generations.forget(sql, self._request, files)

    def _advance_state(self, sql: sqlite3.Cursor, intent: Intent) -> None:
        moved = sql.execute(
            "UPDATE dativo_state SET epoch = ?, attempt = ?, states = ?, states_sha256 = ?, updated_at = ? "
            "WHERE pipeline = ? AND partition = ? AND epoch = ? AND run = ?",
            (
                intent.epoch,
                intent.attempt,
                states_text(intent.states),
                digest(intent.states),
                _now(),
                self._request.pipeline,
                self._request.partition,
                intent.parent,
                self._request.run,
            ),
        ).rowcount
        if moved != 1:
            self._check_run(sql, intent.parent)

    def _move_pointer(self, sql: sqlite3.Cursor, swap: Swap) -> None:
        moved = sql.execute(
            "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? "
            "WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? AND metadata_location = ?",
            (
                swap.new,
                swap.current,
                CATALOG_NAME,
                self._request.namespace,
                swap.table,
                swap.current,
            ),
        ).rowcount
        if moved != 1:
            raise PointerMoved(swap.table)

    def _delete_intent(self, sql: sqlite3.Cursor, intent: Intent) -> None:
        sql.execute(
            "DELETE FROM dativo_intents WHERE pipeline = ? AND partition = ? AND epoch = ? AND attempt = ?",
            (self._request.pipeline, self._request.partition, intent.epoch, intent.attempt),
        )

    def _check_run(self, sql: sqlite3.Cursor, parent: int | None = None) -> None:
        row = sql.execute(
            "SELECT run, epoch FROM dativo_state WHERE pipeline = ? AND partition = ?",
            (self._request.pipeline, self._request.partition),
        ).fetchone()
        if row is None:
            raise corrupt("the pipeline's state row is gone", str(self._path))
        run, epoch = row
        if run != self._request.run or (parent is not None and epoch != parent):
            raise conflict_fault(
                "epoch",
                f"run {run} took over pipeline {self._request.pipeline} at epoch {epoch}",
                value=f"this run is {self._request.run}",
                hint="Only one run of a pipeline may write: let the other one finish.",
            )

    def _check_identity(self, owner: str, namespace: str) -> None:
        if owner != self._request.owner:
            raise config_fault(
                "pipeline_owned",
                f"pipeline {self._request.pipeline} of this warehouse belongs to {owner}",
                value=self._request.owner,
                hint="Name the pipeline otherwise, or use another warehouse.",
            )
        if namespace != self._request.namespace:
            raise config_fault(
                "namespace_moved",
                f"pipeline {self._request.pipeline} writes to namespace {namespace}, and its state belongs to the tables there",
                value=self._request.namespace,
                hint="Name the pipeline otherwise to load everything into the new namespace.",
            )

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Cursor]:
        with self._located():
            cursor = self._connection.cursor()
            cursor.execute(f"BEGIN {kind}")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    @contextmanager
    def _located(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _fault(self, error: sqlite3.Error) -> CommitFault:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return self._locked()
        return CommitFault(
            f"the catalogue cannot be used: {error}",
            code="target.io",
            value=str(self._path),
            hint="See that the file is a SQLite database that the owner of the warehouse can write.",
            blame=Blame.MACHINE,
        )

    def _locked(self) -> CommitFault:
        return conflict_fault(
            "locked",
            f"the catalogue is locked by another process for {BUSY_TIMEOUT_S:.0f} s",
            value=str(self._path),
            hint="Wait for the other run, or see who holds the file with fuser(1).",
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
