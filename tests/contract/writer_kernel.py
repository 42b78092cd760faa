"""Play the kernel's part to the real dativo-writer: a socketpair on descriptor 3, a pipe on stdin."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.contract.played import Event as Event
from tests.contract.played import Fed, executable

LIMITS: Final[Mapping[str, int]] = {
    "max_line_bytes": 33554432,
    "max_depth": 64,
    "max_columns": 2000,
    "max_streams": 1000,
    "max_state_bytes": 1048576,
    "max_text_lines": 10000,
    "max_staged_bytes": 107374182400,
    "memory_bytes": 67108864,
}
EPOCH: Final[Mapping[str, int]] = {"max_bytes": 134217728, "max_rows": 1000000, "max_seconds": 60}
PARQUET: Final[Mapping[str, int]] = {
    "row_group_rows": 122880,
    "file_bytes": 134217728,
    "zstd_level": 1,
}


def binary() -> str:
    """Return where the writer is."""
    return executable(Writer.program)


def stream(name: str, schema: object = None, *, namespace: str | None = None) -> Event:
    """Return one entry of ``open.streams``; ``schema`` (Airbyte) is a JSON Schema or its text."""
    entry: Event = {"stream": {"namespace": namespace, "name": name}, "key": []}
    if schema is not None:
        entry["json_schema"] = schema if isinstance(schema, str) else json.dumps(schema)
    return entry


def opening(
    dialect: str,
    staging: Path,
    streams: list[Event],
    *,
    limits: Mapping[str, int] | None = None,
    epoch: Mapping[str, int] | None = None,
    parquet: Mapping[str, int] | None = None,
    max_epochs_waiting: int = 2,
    undeclared: str = "refuse",
    strict: bool = False,
    echo: bool = False,
) -> Event:
    """Return an ``open`` with the defaults of docs/spec/limits.md but for what is given."""
    return {
        "type": "open",
        "input": "0",
        "dialect": dialect,
        "staging": str(staging),
        "streams": streams,
        "undeclared": undeclared,
        "strict": strict,
        "echo": echo,
        "limits": {**LIMITS, **(limits or {})},
        "epoch": {**EPOCH, **(epoch or {})},
        "max_epochs_waiting": max_epochs_waiting,
        "parquet": {**PARQUET, **(parquet or {})},
    }


def plan_for(schema: Event) -> Event:
    """Answer a ``stream_schema``: each column under its own name and with the type it asks for, field ids from 1 in order."""
    ids = count(1)
    return {
        "type": "stream_plan",
        "input": "0",
        "stream": schema["stream"],
        "revision": schema["revision"],
        "table": f"t.{schema['stream']['name']}"[:1000],
        "schema_id": schema["revision"] - 1,
        "columns": [_planned(column, ids) for column in schema["columns"]],
    }


def laid_out(partition: Sequence[str] = (), sort: Sequence[str] = ()) -> Callable[[Event], Event]:
    """Plan as a committer does: ``partition`` has ``transform column``, ``sort`` ``column``, nulls first, or ``-column``."""

    def plan(schema: Event) -> Event:
        columns = [column["property"] for column in schema["columns"]]
        ids = {name: at for at, name in enumerate(columns, 1)}
        planned = plan_for(schema)
        if partition:
            fields = (item.split() for item in partition)
            planned["partition"] = [
                {"field_id": ids.get(name, 99), "transform": by} for by, name in fields
            ]
        if sort:
            planned["sort"] = [
                {
                    "field_id": ids[item.removeprefix("-")],
                    "descending": item.startswith("-"),
                    "nulls_first": not item.startswith("-"),
                }
                for item in sort
            ]
        return planned

    return plan


def _planned(column: Event, ids: Iterator[int]) -> Event:
    return {
        "property": column["property"],
        "column": column["property"],
        "field_id": next(ids),
        "type": _planned_type(column["type"], ids),
        "required": False,
    }


def _planned_type(wanted: Any, ids: Iterator[int]) -> Any:
    match wanted:
        case "json":
            return "string"
        case {"type": "struct", "fields": fields}:
            return {"type": "struct", "fields": [_planned(field, ids) for field in fields]}
        case {"type": "list", "element": element}:
            return {
                "type": "list",
                "element_id": next(ids),
                "element": _planned_type(element, ids),
            }
        case {"type": "map", "value": value}:
            return {
                "type": "map",
                "key_id": next(ids),
                "value_id": next(ids),
                "value": _planned_type(value, ids),
            }
        case _:
            return wanted


@dataclass
class Writer(Fed):
    """One writer process. Schemas and epochs are answered by themselves: by ``plan``, and while ``commit``."""

    program: ClassVar[str] = "dativo-writer"

    commit: bool = True
    plan: Callable[[Event], Event | None] = plan_for

    def finish(self, rest: str = "commit", *, complete: bool = True) -> None:
        """Say that the source is done."""
        self.send({"type": "finish", "rest": rest, "complete": complete})

    def answer(self, event: Event) -> None:
        """Plan for a schema; take an epoch for durable."""
        if event["type"] == "stream_schema" and (plan := self.plan(event)) is not None:
            self.send(plan)
        if event["type"] == "sealed" and self.commit and not event["final"]:
            self.committed(event["sequence"])

    def committed(self, sequence: int) -> None:
        """Tell the writer that an epoch is durable."""
        self.send(
            {
                "type": "committed",
                "input": "0",
                "sequence": sequence,
                "epoch": sequence,
                "tables": [],
            }
        )

    def files(self, name: str) -> list[Event]:
        """Return the sealed files of a stream, in order."""
        return [
            f
            for sealed in self.of("sealed")
            for f in sealed["files"]
            if f["stream"]["name"] == name
        ]


def play(open_: Event, *chunks: bytes, commit: bool = True, rest: str = "commit") -> Writer:
    """Run a whole source: all of ``chunks``, end of file, ``finish``, until the writer is gone."""
    with Writer(open_, commit=commit) as writer:
        writer.feed_all(iter(chunks))
        writer.finish(rest)
        writer.drain()
    return writer
