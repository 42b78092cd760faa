"""The pipeline's tables: found or made by a stream's schema, and their next metadata staged for a commit.

This module imports pyiceberg, so it is itself imported late (``IcebergTarget.load``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dativo.plugins.commit import columns, durable, identifiers, layouts
from dativo.plugins.commit.changes import TableChange
from dativo.plugins.commit.faults import CommitFault, config_fault, conflict_fault, locating
from dativo.plugins.commit.messages import Open, Plan, StreamSchema
from dativo.plugins.commit.target import PlacedFile
from dativo.plugins.iceberg import _pyiceberg as iceberg
from dativo.plugins.iceberg.catalog import Catalog, PointerMoved, Swap
from dativo.plugins.iceberg.layouts import reserved
from dativo.protocol.state import Stream

MAX_TRIES = 10


@dataclass(frozen=True, slots=True)
class Staged:
    """A table's next version: on disk, not yet pointed at."""

    change: TableChange
    table: str
    current: iceberg.TableVersion
    new: iceberg.TableVersion

    @property
    def swap(self) -> Swap:
        """The step of the table's pointer."""
        return Swap(self.table, self.current.pointer, self.new.pointer)


class Tables:
    """The tables of one pipeline, each kept as it was last seen. Every method blocks on disk and raises CommitFault."""

    def __init__(self, catalog: Catalog, request: Open) -> None:
        self._catalog = catalog
        self._request = request
        self._root = request.warehouse / request.namespace
        self._names: dict[Stream, str] = {}
        self._versions: dict[Stream, iceberg.TableVersion] = {}

    def plan(self, schema: StreamSchema) -> Plan:
        """Make the stream's table or grow it to ``schema``."""
        for _ in range(MAX_TRIES):
            name, version = self._find(schema.stream)
            growth = (
                columns.evolve(
                    schema, version.columns, version.last_field_id, reserved(version.metadata)
                )
                if version
                else columns.evolve(schema, (), 0)
            )
            try:
                version = (
                    self._create(schema, name, growth)
                    if version is None
                    else self._alter(schema, name, version, growth)
                )
            except PointerMoved:
                continue
            self._names[schema.stream] = name
            self._versions[schema.stream] = version
            layout = version.layout
            return Plan(
                self.full_name(schema.stream),
                version.schema_id,
                growth.planned,
                layout,
                layouts.sources(layout, growth.columns),
            )
        raise self._outrun(schema.stream)

    def full_name(self, stream: Stream) -> str:
        """Return ``namespace.table`` of a planned stream."""
        return f"{self._request.namespace}.{self._names[stream]}"

    def folder(self, stream: Stream) -> Path:
        """Return the folder of a planned stream's table."""
        return self._versions[stream].location

    def stage(
        self, changes: Sequence[TableChange], attempt: str, summary: Mapping[str, str]
    ) -> list[Staged]:
        """Write, synced, the next metadata of every table that ``changes`` show something new of."""
        staged = []
        for change in changes:
            current = self._current(change) if change.is_visible else None
            if current is None:
                continue
            rows = sum(file.rows for file in change.added)
            metadata_folder = current.location / "metadata"
            properties = {**summary, "dativo.rows": str(rows)}
            kept = None if change.kept is None else {self._path(file) for file in change.kept}
            added = [(self._path(file), file) for file in change.added]
            with _readable(change.stream, metadata_folder):
                new = iceberg.with_files(current, added, kept, attempt, properties)
                if new is None:
                    continue
                durable.sync_directory(metadata_folder)
            staged.append(Staged(change, self._names[change.stream], current, new))
        return staged

    def settle(self, staged: list[Staged]) -> None:
        """Take the committed versions over and delete the metadata files that their logs dropped."""
        for table in staged:
            self._versions[table.change.stream] = table.new
            self._remove(table.current.superseded(table.new))

    def reload(self, staged: list[Staged]) -> None:
        """Read again the tables of a try that a foreign commit overtook."""
        for table in staged:
            stream = table.change.stream
            name, version = self._find(stream)
            if version is None or name != table.table:
                raise self._outrun(stream)
            self._versions[stream] = version

    def _current(self, change: TableChange) -> iceberg.TableVersion | None:
        """Return the table of a planned stream, or of one that this run emptied without a schema; None if that has none."""
        stream = change.stream
        if stream not in self._versions:
            name, version = self._find(stream)
            if version is None:
                return None
            self._names[stream] = name
            self._versions[stream] = version
        return self._versions[stream]

    def _path(self, file: PlacedFile) -> Path:
        return self._request.warehouse / file.path

    def _find(self, stream: Stream) -> tuple[str, iceberg.TableVersion | None]:
        plain, hashed = identifiers.table_names(stream)
        # The hashed name first: it is there when another stream had the plain one before, whatever became of that.
        version = self._load(stream, hashed)
        if version is not None:
            return hashed, version
        version = self._load(stream, plain)
        if version is None or version.stream == stream:
            return plain, version
        return hashed, None

    def _load(self, stream: Stream, name: str) -> iceberg.TableVersion | None:
        pointer = self._catalog.pointer(name)
        if pointer is None:
            return None
        with _readable(stream, Path(pointer)):
            version = iceberg.read(pointer)
        self._check_owner(stream, name, version)
        return version

    def _check_owner(self, stream: Stream, name: str, version: iceberg.TableVersion) -> None:
        owner = version.properties.get(iceberg.OWNER)
        pipeline = version.properties.get(iceberg.PIPELINE)
        if owner == self._request.owner and pipeline == self._request.pipeline:
            return
        table = f"{self._request.namespace}.{name}"
        if owner is None:
            message = f"table {table} was not made by dativo"
        else:
            message = f"table {table} belongs to pipeline {pipeline} of {owner}"
        raise config_fault(
            "table_owned",
            message,
            stream=stream,
            value=self._request.owner,
            hint="Set target.config.namespace to a namespace of this pipeline's own, or drop the table.",
        )

    def _create(
        self, schema: StreamSchema, name: str, growth: columns.Evolution
    ) -> iceberg.TableVersion:
        location, stream = self._root / name, schema.stream
        layout = layouts.made(stream, schema.layout, layouts.sent(growth.planned, schema.columns))
        properties = {
            iceberg.OWNER: self._request.owner,
            iceberg.PIPELINE: self._request.pipeline,
            iceberg.STREAM: json.dumps(stream.to_event(), ensure_ascii=False),
            "write.metadata.previous-versions-max": "10",
            "write.metadata.delete-after-commit.enabled": "true",
            "write.parquet.compression-codec": "zstd",
        }
        with locating("create a table", location):
            durable.make_directories(location / "data")
            durable.make_directories(location / "metadata")
            version = iceberg.create(location, growth.columns, layout, properties)
            durable.sync_directory(location / "metadata")
        try:
            self._catalog.register(name, version.pointer)
        except PointerMoved:
            self._remove([version.path])
            raise
        return version

    def _alter(
        self,
        schema: StreamSchema,
        name: str,
        version: iceberg.TableVersion,
        growth: columns.Evolution,
    ) -> iceberg.TableVersion:
        """Grow a table and sort it anew, as far as that changes anything."""
        planned = layouts.sent(growth.planned, schema.columns)
        sort = layouts.resorted(
            schema.stream, schema.layout, version.layout, growth.columns, planned
        )
        if not growth.changed and sort is None:
            return version
        with _readable(schema.stream, version.location):
            new = iceberg.altered(version, growth.columns, sort)
            durable.sync_directory(version.location / "metadata")
        try:
            self._catalog.alter(Swap(name, version.pointer, new.pointer))
        except PointerMoved:
            self._remove([new.path])
            raise
        self._remove(version.superseded(new))
        return new

    def _remove(self, paths: list[Path]) -> None:
        for path in paths:
            with locating("delete old table metadata", path):
                path.unlink(missing_ok=True)

    def _outrun(self, stream: Stream) -> CommitFault:
        return conflict_fault(
            "table",
            f"the table of stream {stream} was changed by others during {MAX_TRIES} tries",
            value=self._request.namespace,
            hint="Let the other writers of the table finish, then run again.",
        )


@contextmanager
def _readable(stream: Stream, path: Path) -> Iterator[None]:
    with locating("read or write table metadata", path):
        try:
            yield
        except iceberg.UnreadableMetadata as error:
            raise config_fault(
                "table_unreadable",
                f"the table of stream {stream} cannot be written: {error}",
                stream=stream,
                value=str(path),
                hint="Tables of format version 2 are written here, without partitions or with those of columns by identity, "
                "year, month, day, hour, bucket or truncate.",
            ) from error
