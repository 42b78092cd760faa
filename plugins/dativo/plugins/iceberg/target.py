"""The Iceberg target: a table per stream, one SQL transaction per epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dativo.plugins.commit import durable, identifiers
from dativo.plugins.commit.faults import conflict_fault, locating
from dativo.plugins.commit.messages import Open, Plan, StreamSchema, TableCommit
from dativo.plugins.commit.target import Head, Intent, TableListing
from dativo.plugins.iceberg.catalog import Catalog, PointerMoved
from dativo.protocol.state import Stream, digest

if TYPE_CHECKING:
    from dativo.plugins.iceberg.tables import Staged, Tables

MAX_TRIES = 10
PRIVATE_FOLDER = "_dativo"


class IcebergTarget:
    """Tables in ``<warehouse>/<namespace>/<table>``, the catalogue in ``<warehouse>/catalog.db``."""

    program = "dativo-iceberg"

    _request: Open
    _catalog: Catalog
    _tables: Tables

    def attach(self, request: Open) -> Head:
        """See ``Target``; uses the standard sqlite3 only."""
        identifiers.check_namespace(request.namespace)
        self._request = request
        with locating("create a folder", self.placing().parent):
            durable.make_directories(self.placing().parent)
        self._catalog = Catalog(request.warehouse / "catalog.db", request)
        return self._catalog.attach()

    def inspect(self, request: Open) -> tuple[Head, Sequence[TableListing]]:
        """See ``Target``. The files of a table are named by its metadata, which readers of Iceberg follow."""
        path = request.warehouse / "catalog.db"
        if not path.exists():
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
        for _ in range(MAX_TRIES):
            staged = self._tables.stage(intent, self._summary(intent))
            try:
                self._catalog.commit(intent, [table.swap for table in staged])
            except PointerMoved:
                self.discard(intent)
                self._tables.reload(staged)
                continue
            self._tables.settle(staged)
            return [self._table_commit(table) for table in staged]
        raise conflict_fault(
            "table",
            f"others committed to the tables of epoch {intent.epoch} during each of {MAX_TRIES} tries",
            value=self._request.namespace,
            hint="Let the other writers of these tables finish, then run again.",
        )

    def discard(self, intent: Intent) -> None:
        """See ``Target``; every metadata file of a try has the attempt in its name."""
        tables = {(self._request.warehouse / file.path).parent.parent for file in intent.files}
        for table in tables:
            for path in (table / "metadata").glob(f"*{intent.attempt}*"):
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

    def _table_commit(self, staged: Staged) -> TableCommit:
        return TableCommit(
            stream=staged.stream,
            table=self._tables.full_name(staged.stream),
            rows=sum(file.rows for file in staged.files),
            files=len(staged.files),
            bytes=sum(file.bytes for file in staged.files),
            metadata_location=str(staged.new.path),
            snapshot_id=str(staged.new.snapshot_id),
        )
