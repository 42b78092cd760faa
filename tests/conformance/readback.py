"""What a warehouse holds, read by another engine (DuckDB) along the documented layout (docs/spec/commit.md)."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

from tests.conformance.pipes import Target
from tests.integration.conftest import reader

Row: TypeAlias = dict[str, Any]
Name: TypeAlias = tuple[str | None, str]
"""A stream: namespace and name, as the source has them."""


@dataclass(frozen=True, slots=True)
class Table:
    """A stream's rows; keys are the properties of its records."""

    stream: Name
    rows: list[Row]
    types: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a stream's rows are: what DuckDB scans (None: no file yet), and property → column where they differ."""

    stream: Name
    scan: str | None
    names: Mapping[str, str]


def tables(target: Target) -> dict[Name, Table]:
    """Return every table of the target's warehouse by its stream."""
    return {place.stream: _table(place) for place in _places(target)}


def rows(target: Target, stream: str, namespace: str | None = None) -> list[Row]:
    """Return the rows of one stream."""
    return tables(target)[namespace, stream].rows


def total(target: Target, stream: str, column: str = "id") -> tuple[int, int]:
    """Return how many rows a stream has and the sum of a column, without holding them."""
    [scan] = [place.scan for place in _places(target) if place.stream == (None, stream)]
    found = reader().execute(f"SELECT count(*), sum({column}) FROM {scan}").fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


def _places(target: Target) -> Iterator[_Place]:
    return _parquet(target) if target.kind == "parquet" else _iceberg(target)


def _iceberg(target: Target) -> Iterator[_Place]:
    catalog = target.warehouse / "catalog.db"
    if not catalog.exists():
        return
    with sqlite3.connect(catalog) as db:
        located = db.execute("SELECT metadata_location FROM iceberg_tables ORDER BY 1").fetchall()
    for (location,) in located:
        path = str(location).removeprefix("file://")
        metadata = json.loads(Path(path).read_bytes())
        properties = metadata["properties"]
        [schema] = [
            s for s in metadata["schemas"] if s["schema-id"] == metadata["current-schema-id"]
        ]
        columns = {field["id"]: field["name"] for field in schema["fields"]}
        known = json.loads(properties["dativo.name-map"])
        names = {of: columns[field_id] for field_id, of in known if field_id in columns}
        yield _Place(
            _name(json.loads(properties["dativo.stream"])), f"iceberg_scan('{path}')", names
        )


def _parquet(target: Target) -> Iterator[_Place]:
    for log in target.warehouse.glob("*/_dativo/*/log"):
        dataset = log.parents[2]
        known: dict[str, Any] = {}
        files: dict[str, list[str]] = {}
        for path in sorted(log.glob("*.json"), key=lambda path: path.name):
            if path.name.endswith(".checkpoint.json"):
                continue  # the entries are all still there
            entry = json.loads(path.read_bytes())
            for table in entry["tables"]:
                known[json.dumps(table["stream"])] = table
            gone = entry.get("removed", ())
            files = {
                key: [path for path in kept if path not in gone] for key, kept in files.items()
            }
            for file in entry["added"]:
                files.setdefault(json.dumps(file["stream"]), []).append(file["path"])
        for key, table in known.items():
            names = {column["property"]: column["column"] for column in table["columns"]}
            paths = [str(dataset / path) for path in files.get(key, [])]
            scan = f"read_parquet({paths!r}, union_by_name=true)" if paths else None
            yield _Place(_name(table["stream"]), scan, names)


def _name(stream: Mapping[str, Any]) -> Name:
    return stream["namespace"] or None, stream["name"]


def _table(place: _Place) -> Table:
    if place.scan is None:
        return Table(place.stream, [], {})
    properties = {column: prop for prop, column in place.names.items()}
    connection = reader().execute(f"SELECT * FROM {place.scan}")
    types = {
        properties.get(name, name): str(kind) for name, kind, *_ in connection.description or ()
    }
    found = [dict(zip(types, row, strict=True)) for row in connection.fetchall()]
    return Table(place.stream, found, types)


# --- comparison with what was sent -----------------------------------------------------------------------------------------


def same_rows(got: Sequence[Row], sent: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what differs between rows read back and records sent, in any order; an absent field is null."""
    fields = {name for row in got for name in row} | {name for record in sent for name in record}
    left = [_key(row, fields) for row in got]
    missing = []
    for record in sent:
        key = _key(record, fields)
        for index, candidate in enumerate(left):
            if all(_same(candidate[name], key[name]) for name in fields):
                del left[index]
                break
        else:
            missing.append(f"sent and not there: {record}")
    return [*missing, *(f"there and not sent: {row}" for row in left)][:10]


def _key(row: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in fields}


def _same_members(got: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Compare a struct with an object: fields are named as columns are, and null where nothing was sent."""
    given = {re.sub("[^a-z0-9_]", "_", key.lower()): value for key, value in sent.items()}
    return given.keys() <= got.keys() and all(_same(got[key], given.get(key)) for key in got)


def _same(got: Any, sent: Any) -> bool:
    """Compare a column's value with JSON's, by Python's own means."""
    if got is None or sent is None:
        return got is sent
    if isinstance(got, dict):
        return isinstance(sent, dict) and _same_members(got, sent)
    if isinstance(got, list):
        return isinstance(sent, list) and len(got) == len(sent) and all(map(_same, got, sent))
    if isinstance(got, str) and not isinstance(sent, str):
        return _equal(json.loads(got, parse_float=Decimal), sent)  # kept as JSON text
    if isinstance(got, str):
        return got == sent or (got.startswith('"') and json.loads(got) == sent)
    if isinstance(got, datetime):
        at = datetime.fromisoformat(sent)
        return got.replace(tzinfo=got.tzinfo or UTC) == at.replace(tzinfo=at.tzinfo or UTC)
    if isinstance(got, date):
        return got == date.fromisoformat(sent)
    if isinstance(got, time):
        return got == time.fromisoformat(sent).replace(tzinfo=None)
    if isinstance(got, float):
        return got == float(sent) or (got != got and sent != sent)
    if isinstance(got, Decimal):
        return got == Decimal(sent)
    return type(got) is type(sent) and bool(got == sent)


def _equal(got: Any, sent: Any) -> bool:
    if isinstance(got, dict) and isinstance(sent, dict):
        return got.keys() == sent.keys() and all(_equal(got[key], sent[key]) for key in got)
    if isinstance(got, list) and isinstance(sent, list):
        return len(got) == len(sent) and all(map(_equal, got, sent))
    if isinstance(got, bool) or isinstance(sent, bool):
        return got is sent
    if isinstance(got, Decimal | int | float) and isinstance(sent, Decimal | int | float):
        return Decimal(str(got)) == Decimal(str(sent))
    return type(got) is type(sent) and bool(got == sent)
