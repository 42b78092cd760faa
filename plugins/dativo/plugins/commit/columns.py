"""How a table's columns grow: new ones are added as nullable, some types widen, all else is a conflict.

The rules are Iceberg's (spec, Schema Evolution) and hold for both targets: ``int → long``, ``float → double``,
``decimal(p,s) → decimal(q,s)`` with ``q > p``. A source that now sends less than the table holds keeps the table's type.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dativo.plugins.commit import identifiers
from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.messages import Column, StreamSchema
from dativo.protocol.errors import Blame

MAX_TABLE_COLUMNS = 10_000
MAX_DECIMAL_PRECISION = 38

_SIMPLE = frozenset(
    {"boolean", "int", "long", "float", "double"}
    | {"date", "time", "timestamp", "timestamptz", "string", "binary"}
)
_WIDER = {("int", "long"): "long", ("float", "double"): "double"}
_DECIMAL = re.compile(r"decimal\((\d{1,2}),(\d{1,2})\)")


def decimal_parts(type_name: str) -> tuple[int, int] | None:
    """Return precision and scale of ``decimal(p,s)``, None for any other text or one out of range."""
    match = _DECIMAL.fullmatch(type_name)
    if match is None:
        return None
    precision, scale = int(match[1]), int(match[2])
    return (precision, scale) if scale <= precision <= MAX_DECIMAL_PRECISION and precision else None


def is_type(type_name: str) -> bool:
    """Tell whether ``type_name`` is a column type of docs/spec/events.md."""
    return type_name in _SIMPLE or decimal_parts(type_name) is not None


def widen(table: str, wanted: str) -> str | None:
    """Return the type that holds both without loss, None when the rules allow none."""
    if table == wanted:
        return table
    if wider := _WIDER.get((table, wanted)) or _WIDER.get((wanted, table)):
        return wider
    left, right = decimal_parts(table), decimal_parts(wanted)
    if left and right and left[1] == right[1]:
        return f"decimal({max(left[0], right[0])},{left[1]})"
    return None


@dataclass(frozen=True, slots=True)
class Evolution:
    """A table's columns after a stream's schema was taken in."""

    columns: tuple[Column, ...]
    planned: tuple[Column, ...]
    last_field_id: int
    changed: bool


def evolve(schema: StreamSchema, table: Sequence[Column], last_field_id: int) -> Evolution:
    """Return ``table`` grown by what ``schema`` asks for. Raises CommitFault ``schema.…`` naming stream, column and types."""
    _check(schema)
    by_property = {column.property: column for column in table}
    names = {column.name for column in table}
    columns = {column.field_id: column for column in table}
    # Legal names first, so that a column is not renamed because a stranger one came before it.
    new = [wanted for wanted in schema.columns if wanted.property not in by_property]
    new_names: dict[str, str] = {}
    for wanted in sorted(new, key=lambda wanted: not identifiers.is_identifier(wanted.property)):
        new_names[wanted.property] = identifiers.unused(wanted.property, names)
        names.add(new_names[wanted.property])
    for wanted in new:
        last_field_id += 1
        name = new_names[wanted.property]
        column = Column(wanted.property, name, wanted.type, last_field_id)
        columns[last_field_id] = by_property[wanted.property] = column
    if len(columns) > MAX_TABLE_COLUMNS:
        raise CommitFault(
            f"the table would have {len(columns)} columns, the limit is {MAX_TABLE_COLUMNS}",
            code="limit.table_columns",
            stream=schema.stream,
            hint="Deselect the stream's properties that nobody reads.",
            blame=Blame.PLUGIN,
        )
    for wanted in schema.columns:
        column = by_property[wanted.property]
        wider = widen(column.type, wanted.type)
        if wider is None:
            raise _conflict(schema, column, wanted.type)
        columns[column.field_id] = by_property[wanted.property] = replace(column, type=wider)
    grown = tuple(columns.values())
    planned = tuple(by_property[wanted.property] for wanted in schema.columns)
    return Evolution(grown, planned, last_field_id, grown != tuple(table))


def _check(schema: StreamSchema) -> None:
    seen: set[str] = set()
    for wanted in schema.columns:
        if wanted.property in seen:
            raise CommitFault(
                "a property comes twice in the schema",
                code="schema.duplicate",
                stream=schema.stream,
                field=wanted.property,
                blame=Blame.DATIVO,
            )
        seen.add(wanted.property)
        if not is_type(wanted.type):
            raise CommitFault(
                "unknown column type",
                code="schema.type",
                stream=schema.stream,
                field=wanted.property,
                value=wanted.type,
                blame=Blame.DATIVO,
            )
    if not schema.columns:
        raise CommitFault(
            "the stream has no column: a table needs one",
            code="schema.no_columns",
            stream=schema.stream,
            hint="Deselect the stream, or select at least one of its properties.",
            blame=Blame.PLUGIN,
        )


def _conflict(schema: StreamSchema, column: Column, wanted: str) -> CommitFault:
    return CommitFault(
        f"stream {schema.stream}: column {column.name} is {column.type} in the table, "
        f"the source now declares {wanted}",
        code="schema.conflict",
        stream=schema.stream,
        field=column.property,
        value=wanted,
        hint="Types widen int to long, float to double and decimal precision only. "
        "Load the stream into a new namespace, or have the source declare the old type.",
        blame=Blame.PLUGIN,
    )
