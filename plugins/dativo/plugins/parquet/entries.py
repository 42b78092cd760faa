"""The entries of the commit log: what they hold, and what all of them together say (docs/spec/commit.md, Parquet)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dativo.plugins.commit.changes import TableChange
from dativo.plugins.commit.layouts import NO_LAYOUT, Layout
from dativo.plugins.commit.target import (
    Generation,
    Head,
    Intent,
    PlacedFile,
    check_inside,
    file_record,
    files_from,
    generation_from,
    states_from,
)
from dativo.plugins.commit.types import Column, kept_column
from dativo.protocol.state import StateEntry, Stream, digest


@dataclass(frozen=True, slots=True)
class Table:
    """A stream's folder, columns and layout."""

    stream: Stream
    folder: str
    schema_id: int
    last_field_id: int
    columns: tuple[Column, ...]
    layout: Layout = NO_LAYOUT

    def to_record(self) -> dict[str, object]:
        """Return the table as log entries hold it."""
        return {
            "stream": self.stream.to_event(),
            "folder": self.folder,
            "schema_id": self.schema_id,
            "last_field_id": self.last_field_id,
            "columns": [column.to_event() for column in self.columns],
            **self.layout.to_event(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Table:
        """Read a table of a log entry. Raises KeyError, TypeError, ValueError, ProtocolViolation."""
        columns = tuple(kept_column(item) for item in record["columns"])
        stream = Stream.from_event(record["stream"])
        return cls(
            stream,
            record["folder"],
            record["schema_id"],
            record["last_field_id"],
            columns,
            Layout.from_record(record),
        )


@dataclass(slots=True)
class LogState:
    """What the log says up to one entry. ``live`` and ``hidden`` files by their path, which is relative to the warehouse."""

    namespace: str
    head: Head = field(default_factory=lambda: Head(0, "", ()))
    tables: dict[Stream, Table] = field(default_factory=dict)
    live: dict[str, PlacedFile] = field(default_factory=dict)
    hidden: dict[str, PlacedFile] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    def add(self, record: Mapping[str, Any], where: str) -> None:
        """Take an entry or a checkpoint in. Raises KeyError, TypeError, ProtocolViolation, CommitFault."""
        for item in record["tables"]:
            table = Table.from_record(item)
            self.tables[table.stream] = table
        self.hidden |= self._files(record.get("hidden", []), where)
        shown = self._files(record["files"] if "files" in record else record["added"], where)
        self.live |= shown
        for path in shown:
            self.hidden.pop(path, None)
        self.removed = tuple(self._placed(path, where) for path in record.get("removed", []))
        for path in self.removed:
            self.live.pop(path, None)
            self.hidden.pop(path, None)
        generations = {generation.stream: generation for generation in self.head.generations}
        for item in record.get("generations", []):
            generation = generation_from(item, where)
            generations[generation.stream] = generation
        self.head = Head(
            record["epoch"],
            record["attempt"],
            states_from(record["states"], record["states_sha256"], where),
            _pending_from(record, where),
            tuple(generations.values()),
        )

    def checkpoint(self) -> dict[str, object]:
        """Return what a checkpoint holds besides whose it is."""
        head = self.head
        return {
            "epoch": head.epoch,
            "parent": head.epoch - 1,
            "attempt": head.attempt,
            "tables": [table.to_record() for table in self.tables.values()],
            "files": [self._record(file) for file in self.live.values()],
            **_optional("hidden", [self._record(file) for file in self.hidden.values()]),
            **_optional("removed", [self._from_dataset(path) for path in self.removed]),
            **_optional("generations", _generation_records(head.generations)),
            **states_record(head.states),
            **_pending_record(head.pending),
        }

    def entry(
        self, intent: Intent, tables: Sequence[Table], changes: Sequence[TableChange]
    ) -> dict[str, object]:
        """Return what the next entry, that of ``intent``, holds besides whose it is."""
        gone = [
            path
            for change in changes
            for path in (*self._leaving(change), *(file.path for file in change.discarded))
        ]
        return {
            "epoch": intent.epoch,
            "parent": intent.parent,
            "attempt": intent.attempt,
            "tables": [table.to_record() for table in tables],
            "added": [self._record(file) for change in changes for file in change.added],
            **_optional("hidden", [self._record(f) for c in changes for f in c.hidden]),
            **_optional("removed", [self._from_dataset(path) for path in gone]),
            **_optional("generations", _generation_records(intent.generations)),
            **states_record(intent.states),
            **_pending_record(intent.pending),
        }

    def _leaving(self, change: TableChange) -> list[str]:
        if change.kept is None:
            return []
        stays = {file.path for file in change.kept}
        live = (file for file in self.live.values() if file.stream == change.stream)
        return [file.path for file in live if file.path not in stays]

    def _files(self, items: Any, where: str) -> dict[str, PlacedFile]:
        files = files_from(items, where)
        placed = (replace(file, path=self._placed(file.path, where)) for file in files)
        return {file.path: file for file in placed}

    def _placed(self, path: str, where: str) -> str:
        check_inside(path, where)
        return f"{self.namespace}/{path}"

    def _from_dataset(self, path: str) -> str:
        return path.removeprefix(f"{self.namespace}/")

    def _record(self, file: PlacedFile) -> dict[str, object]:
        return {**file_record(file), "path": self._from_dataset(file.path)}


def states_record(states: Sequence[StateEntry]) -> dict[str, object]:
    """Return states as entries and intents hold them."""
    return {"states": [state.to_event() for state in states], "states_sha256": digest(states)}


def _pending_record(states: Sequence[StateEntry]) -> dict[str, object]:
    if not states:
        return {}
    return {"pending": [state.to_event() for state in states], "pending_sha256": digest(states)}


def _pending_from(record: Mapping[str, Any], where: str) -> tuple[StateEntry, ...]:
    if "pending" not in record:
        return ()
    return states_from(record["pending"], record["pending_sha256"], where)


def _generation_records(generations: Sequence[Generation]) -> list[dict[str, object]]:
    return [generation.to_record() for generation in generations]


def _optional(key: str, items: Sequence[object]) -> dict[str, object]:
    return {key: items} if items else {}
