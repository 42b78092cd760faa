"""The Parquet target: a folder per stream below ``<warehouse>/<namespace>``, one log entry per epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dativo.plugins.commit import columns, durable, identifiers, layouts
from dativo.plugins.commit.changes import Holdings
from dativo.plugins.commit.faults import CommitFault, config_fault, locating
from dativo.plugins.commit.messages import Open, Plan, StreamSchema, TableCommit
from dativo.plugins.commit.target import Head, Intent, PlacedFile, TableListing, corrupt
from dativo.plugins.parquet.entries import LogState, Table
from dativo.plugins.parquet.log import Log
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import Stream

# Engines skip names that begin with an underscore when they list a folder.
MARKER = "_dativo.json"


class ParquetTarget:
    """Files in ``<warehouse>/<namespace>/<stream>``, the log in ``<warehouse>/<namespace>/_dativo/<pipeline>``."""

    program = "dativo-parquet"
    keeps_metrics = False

    _request: Open
    _log: Log
    _state: LogState
    _holdings: Holdings

    def __init__(self) -> None:
        self._unlogged: dict[Stream, None] = {}

    def attach(self, request: Open) -> Head:
        """See ``Target``."""
        identifiers.check_namespace(request.namespace)
        self._request = request
        self._log = Log(self._dataset, request)
        self._state = self._log.attach()
        self._holdings = Holdings(self._state.hidden.values(), self._state.live.values())
        return self._state.head

    def inspect(self, request: Open) -> tuple[Head, Sequence[TableListing]]:
        """See ``Target``."""
        identifiers.check_namespace(request.namespace)
        self._request = request
        if not (self._dataset / "_dativo" / request.key / "log").is_dir():
            return Head(0, "", ()), ()
        self._log = Log(self._dataset, request)
        try:
            state = self._log.read()
        finally:
            self._log.close()
        live: dict[Stream, list[PlacedFile]] = {}
        for file in state.live.values():
            absolute = str(request.warehouse / file.path)
            live.setdefault(file.stream, []).append(replace(file, path=absolute))
        return state.head, [
            TableListing(
                stream,
                self._full_name(table),
                None,
                tuple(live.get(stream, ())),
                table.columns,
            )
            for stream, table in state.tables.items()
        ]

    def placing(self) -> Path:
        """See ``Target``."""
        return self._log.folder / "placing"

    def intents(self) -> Sequence[Intent]:
        """See ``Target``."""
        return self._log.intents()

    def load(self) -> None:
        """See ``Target``; nothing heavy is needed here."""

    def plan(self, schema: StreamSchema) -> Plan:
        """See ``Target``. The columns become durable with the first epoch that follows."""
        table = self._state.tables.get(schema.stream)
        known = table.columns if table else ()
        growth = columns.evolve(schema, known, table.last_field_id if table else 0)
        layout = self._layout(schema, table, growth)
        if table is None:
            table = Table(schema.stream, self._claim_folder(schema.stream), -1, 0, ())
        if growth.changed or layout != table.layout:
            table = Table(
                schema.stream,
                table.folder,
                table.schema_id + growth.changed,
                growth.last_field_id,
                growth.columns,
                layout,
            )
            self._unlogged[schema.stream] = None
        self._state.tables[schema.stream] = table
        sources = layouts.sources(layout, growth.columns)
        return Plan(self._full_name(table), table.schema_id, growth.planned, layout, sources)

    def _layout(
        self, schema: StreamSchema, table: Table | None, growth: columns.Evolution
    ) -> layouts.Layout:
        planned = layouts.sent(growth.planned, schema.columns)
        if table is None:
            return layouts.made(schema.stream, schema.layout, planned)
        sort = layouts.resorted(schema.stream, schema.layout, table.layout, growth.columns, planned)
        return table.layout if sort is None else replace(table.layout, sort=sort)

    def data_folder(self, stream: Stream) -> Path:
        """See ``Target``."""
        return self._dataset / self._state.tables[stream].folder

    def check_held(self) -> None:
        """See ``Target``."""
        self._log.check_held()

    def record(self, intent: Intent) -> None:
        """See ``Target``."""
        self._log.record(intent)

    def publish(self, intent: Intent) -> list[TableCommit]:
        """See ``Target``."""
        changes = self._holdings.changes(intent)
        tables = [self._state.tables[stream] for stream in self._unlogged]
        record = self._state.entry(intent, tables, changes)
        path = self._log.commit(intent.epoch, record, intent)
        self._unlogged.clear()
        self._holdings.apply(changes)
        self._state.add(record, str(path))
        self._log.settle(self._state)
        return [
            TableCommit(
                stream=change.stream,
                table=self._full_name(self._state.tables[change.stream]),
                rows=sum(file.rows for file in change.arrived),
                files=len(change.arrived),
                bytes=sum(file.bytes for file in change.arrived),
                metadata_location=str(path) if change.is_visible else None,
            )
            for change in changes
            if change.stream in self._state.tables and (change.arrived or change.is_visible)
        ]

    def discard(self, intent: Intent) -> None:
        """See ``Target``; a try leaves data files only."""

    def forget(self, intent: Intent) -> None:
        """See ``Target``."""
        self._log.forget(intent)

    def close(self) -> None:
        """See ``Target``."""
        self._log.close()

    @property
    def _dataset(self) -> Path:
        return self._request.warehouse / self._request.namespace

    def _full_name(self, table: Table) -> str:
        return f"{self._request.namespace}.{table.folder}"

    def _claim_folder(self, stream: Stream) -> str:
        plain, hashed = identifiers.table_names(stream)
        # The hashed name first: it is there when another stream had the plain one before, whatever became of that.
        for name in (hashed, plain):
            if self._holder(stream, name) == stream:
                return name
        name = plain if self._holder(stream, plain) is None else hashed
        folder = self._dataset / name
        marker = {
            "owner": self._request.owner,
            "pipeline": self._request.pipeline,
            "stream": stream.to_event(),
        }
        with locating("create the stream's folder", folder):
            durable.make_directories(folder)
            durable.remove_temporaries(folder)
            durable.replace(
                folder / MARKER, json.dumps(marker, ensure_ascii=False).encode() + b"\n"
            )
        return name

    def _holder(self, stream: Stream, name: str) -> Stream | None:
        """Return the stream of ours whose folder ``name`` is, None for a free name. Raises on a stranger's."""
        folder = self._dataset / name
        with locating("look at the stream's folder", folder):
            if not folder.exists() or all(map(durable.is_temporary, folder.iterdir())):
                return None
            try:
                text = (folder / MARKER).read_text()
            except FileNotFoundError:
                raise self._stranger(stream, name, "was not made by dativo") from None
        try:
            marker = json.loads(text)
            owner, pipeline = marker["owner"], marker["pipeline"]
            holder = Stream.from_event(marker["stream"])
        except (ValueError, TypeError, KeyError, ProtocolViolation) as error:
            raise corrupt("the stream's marker cannot be read", str(folder / MARKER)) from error
        if owner != self._request.owner or pipeline != self._request.pipeline:
            raise self._stranger(stream, name, f"belongs to pipeline {pipeline} of {owner}")
        return holder

    def _stranger(self, stream: Stream, name: str, why: str) -> CommitFault:
        return config_fault(
            "table_owned",
            f"folder {self._request.namespace}/{name} {why}",
            stream=stream,
            value=self._request.owner,
            hint="Set target.config.namespace to a namespace of this pipeline's own, or remove the folder.",
        )
