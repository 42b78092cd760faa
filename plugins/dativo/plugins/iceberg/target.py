"""The Iceberg target: a table per stream, one SQL transaction per epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dativo.plugins.commit import durable, identifiers
from dativo.plugins.commit.changes import Holdings, TableChange
from dativo.plugins.commit.faults import conflict_fault, locating
from dativo.plugins.commit.messages import Open, Plan, StreamSchema, TableCommit
from dativo.plugins.commit.target import Head, Intent, PlacedFile, TableListing
from dativo.plugins.iceberg.catalog import Catalog, PointerMoved
from dativo.protocol.state import Stream, digest

if TYPE_CHECKING:
    from dativo.plugins.iceberg.tables import Staged, Tables

MAX_TRIES = 10
PRIVATE_FOLDER = "_dativo"


class IcebergTarget:
    """Tables in ``<warehouse>/<namespace>/<table>``, the catalogue in ``<warehouse>/catalog.db``."""

    program = "dativo-iceberg"
    keeps_metrics = True

    _request: Open
    _catalog: Catalog
    _tables: Tables
    _holdings: Holdings

    def attach(self, request: Open) -> Head:
        """See ``Target``; uses the standard sqlite3 only."""
        identifiers.check_namespace(request.namespace)
        self._request = request
        with locating("create a folder", self.placing().parent):
            durable.make_directories(self.placing().parent)
        self._catalog = Catalog(request.warehouse / "catalog.db", request)
        head, files = self._catalog.attach()
        self._holdings = Holdings(files.hidden, files.live)
        self._delete(files.discarded)
        return head

    def inspect(self, request: Open) -> tuple[Head, Sequence[TableListing]]:
        """See ``Target``. The files of a table are named by its metadata, which readers of Iceberg follow."""
        path = request.warehouse / "catalog.db"
        if not (path.exists() or path.is_symlink()):
            return Head(0, "", ()), ()
        catalog = Catalog(path, request)
        try:
            return catalog.inspect()
        finally:
            catalog.close()

    def placing(self) -> Path:
        """See ``Target``."""
        return self._request.warehouse / PRIVATE_FOLDER / "placing" / self._request.key

    def intents(self) -> Sequence[Intent]:
        """See ``Target``."""
        return self._catalog.intents()

    def load(self) -> None:
        """See ``Target``; imports pyiceberg."""
        from dativo.plugins.iceberg.tables import Tables

        self._tables = Tables(self._catalog, self._request)

    def plan(self, schema: StreamSchema) -> Plan:
        """See ``Target``."""
        return self._tables.plan(schema)

    def data_folder(self, stream: Stream) -> Path:
        """See ``Target``."""
        return self._tables.folder(stream) / "data"

    def check_held(self) -> None:
        """See ``Target``."""
        self._catalog.check_held()

    def record(self, intent: Intent) -> None:
        """See ``Target``."""
        self._catalog.record(intent)

    def publish(self, intent: Intent) -> list[TableCommit]:
        """See ``Target``. A foreign commit in between has the metadata staged again on top of it."""
        changes = self._holdings.changes(intent)
        for _ in range(MAX_TRIES):
            staged = self._tables.stage(changes, intent.attempt, self._summary(intent))
            try:
                self._catalog.commit(intent, [table.swap for table in staged], changes)
            except PointerMoved:
                self.discard(intent)
                self._tables.reload(staged)
                continue
            self._holdings.apply(changes)
            self._tables.settle(staged)
            self._delete([file for change in changes for file in change.discarded])
            return self._table_commits(changes, staged)
        raise conflict_fault(
            "table",
            f"others committed to the tables of epoch {intent.epoch} during each of {MAX_TRIES} tries",
            value=self._request.namespace,
            hint="Let the other writers of these tables finish, then run again.",
        )

    def discard(self, intent: Intent) -> None:
        """See ``Target``; every metadata file of a try has the attempt in its name."""
        namespace = self._request.warehouse / self._request.namespace
        for path in namespace.glob(f"*/metadata/*{intent.attempt}*"):
            with locating("delete unfinished table metadata", path):
                path.unlink(missing_ok=True)

    def forget(self, intent: Intent) -> None:
        """See ``Target``."""
        self._catalog.forget(intent)

    def close(self) -> None:
        """See ``Target``."""
        self._catalog.close()

    def _summary(self, intent: Intent) -> dict[str, str]:
        return {
            "dativo.pipeline": self._request.pipeline,
            "dativo.partition": self._request.partition,
            "dativo.epoch": str(intent.epoch),
            "dativo.parent-epoch": str(intent.parent),
            "dativo.attempt": intent.attempt,
            "dativo.run": intent.run,
            "dativo.state-sha256": digest(intent.states),
        }

    def _table_commits(
        self, changes: Sequence[TableChange], staged: Sequence[Staged]
    ) -> list[TableCommit]:
        versions = {table.change.stream: table.new for table in staged}
        commits = []
        for change in changes:
            version = versions.get(change.stream)
            if version is None and not change.arrived:
                continue
            commits.append(
                TableCommit(
                    stream=change.stream,
                    table=self._tables.full_name(change.stream),
                    rows=sum(file.rows for file in change.arrived),
                    files=len(change.arrived),
                    bytes=sum(file.bytes for file in change.arrived),
                    metadata_location=str(version.path) if version else None,
                    snapshot_id=str(version.snapshot_id) if version else None,
                )
            )
        return commits

    def _delete(self, files: Sequence[PlacedFile]) -> None:
        """Delete files that nobody will ever see. Killed inside, the next ``attach`` finds their rows and goes on."""
        if not files:
            return
        with locating("delete discarded files", self._request.warehouse):
            durable.remove_files([self._request.warehouse / file.path for file in files])
        self._catalog.forget_files(files)
