"""How a table's columns grow: new ones are added as nullable, some types widen, all else is a conflict.

The rules are Iceberg's (spec, Schema Evolution), hold for both targets, and for the fields of a struct as for the columns of a
table: ``int → long``, ``float → double``, ``decimal(p,s) → decimal(q,s)`` with ``q > p``. A source that now sends less than the
table holds keeps the table's type. A string takes what has no type of its own there, as JSON text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dativo.plugins.commit import identifiers, types
from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.messages import StreamSchema
from dativo.plugins.commit.types import (
    JSON,
    Column,
    List,
    Map,
    Struct,
    Type,
    Wanted,
    WantedColumn,
    WantedList,
    WantedMap,
    WantedStruct,
)
from dativo.protocol.errors import Blame

MAX_TABLE_COLUMNS = 10_000
MAX_PATH_CHARS = 1000

_WIDER = {("int", "long"): "long", ("float", "double"): "double"}


@dataclass(frozen=True, slots=True)
class Evolution:
    """A table's columns after a stream's schema was taken in, and those of them that its rows are written to."""

    columns: tuple[Column, ...]
    planned: tuple[Column, ...]
    last_field_id: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Misfit:
    """Two types that nothing holds both of, and where: names of columns, of ``element`` and ``value``."""

    path: tuple[str, ...]
    table: Type
    wanted: Wanted


def evolve(schema: StreamSchema, table: Sequence[Column], last_field_id: int) -> Evolution:
    """Return ``table`` grown by what ``schema`` asks for. Raises CommitFault ``schema.…`` naming stream, column and types."""
    _check(schema, schema.columns)
    if not schema.columns:
        raise _fault(
            schema,
            "no_columns",
            "the stream has no column: a table needs one",
            hint="Deselect the stream, or select at least one of its properties.",
        )
    growth = _Growth(schema, last_field_id)
    columns, planned = growth.fields(table, schema.columns)
    count = types.leaves(Struct(columns))
    if count > MAX_TABLE_COLUMNS:
        raise CommitFault(
            f"the table would have {count} columns, the limit is {MAX_TABLE_COLUMNS}",
            code="limit.table_columns",
            stream=schema.stream,
            hint="Deselect the stream's properties that nobody reads.",
            blame=Blame.PLUGIN,
        )
    return Evolution(columns, planned, growth.last_field_id, columns != tuple(table))


def widen(table: str, wanted: str) -> str | None:
    """Return the primitive that holds both without loss, None when the rules allow none."""
    if table == wanted:
        return table
    if wider := _WIDER.get((table, wanted)) or _WIDER.get((wanted, table)):
        return wider
    left, right = types.decimal_parts(table), types.decimal_parts(wanted)
    if left and right and left[1] == right[1]:
        return f"decimal({max(left[0], right[0])},{left[1]})"
    return None


def misfit(table: Type, wanted: Wanted, path: tuple[str, ...]) -> Misfit | None:
    """Return the innermost place where ``table`` cannot grow to hold ``wanted`` too, None when it can."""
    match table, wanted:
        case Struct(fields), WantedStruct(inner):
            known = {field.property: field for field in fields}
            for part in inner:
                field = known.get(part.property)
                found = field and misfit(field.type, part.type, (*path, field.name))
                if found:
                    return found
            return None
        case List(_, element), WantedList(inner_element):
            return misfit(element, inner_element, (*path, "element"))
        case Map(_, _, value), WantedMap(inner_value):
            return misfit(value, inner_value, (*path, "value"))
        case str(), str() if wanted != JSON and widen(table, wanted):
            return None
        case "string", _ if _as_text(wanted):
            return None
        case _:
            return Misfit(path, table, wanted)


class _Growth:
    """One evolution: the ids it has given out."""

    def __init__(self, schema: StreamSchema, last_field_id: int) -> None:
        self._schema = schema
        self.last_field_id = last_field_id

    def fields(
        self, table: Sequence[Column], wanted: Sequence[WantedColumn]
    ) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
        """Return the columns of a table or struct grown by ``wanted``, and those that hold it, with no more than it inside."""
        by_property = {column.property: column for column in table}
        # What is not sent is missing in the files to come, so nothing stays required.
        columns = {column.field_id: replace(column, required=False) for column in table}
        new = [part for part in wanted if part.property not in by_property]
        names = _names([column.name for column in table], new)
        # All fields of a struct get their ids before what is inside them, as Iceberg numbers a new schema.
        ids = {part.property: self._new_id() for part in new}
        planned = []
        for part in wanted:
            column = by_property.get(part.property)
            if column is None:
                kind = whole = self._made(part.type)
                column = Column(part.property, names[part.property], whole, ids[part.property])
            else:
                found = misfit(column.type, part.type, (column.name,))
                if found:
                    raise _conflict(self._schema, part, found)
                whole, kind = self._grown(column.type, part.type)
            columns[column.field_id] = replace(column, type=whole, required=False)
            planned.append(replace(column, type=kind, required=False))
        return tuple(columns.values()), tuple(planned)

    def _grown(self, table: Type, wanted: Wanted) -> tuple[Type, Type]:
        """Return ``table`` grown to hold ``wanted``, which fits it, and the part of it that ``wanted`` fills."""
        match table, wanted:
            case Struct(fields), WantedStruct(inner):
                columns, planned = self.fields(fields, inner)
                return Struct(columns), Struct(planned)
            case List(element_id, element), WantedList(inner_element):
                whole, part = self._grown(element, inner_element)
                return List(element_id, whole), List(element_id, part)
            case Map(key_id, value_id, value), WantedMap(inner_value):
                whole, part = self._grown(value, inner_value)
                return Map(key_id, value_id, whole), Map(key_id, value_id, part)
            case str(), str() if wanted != JSON:
                wider = widen(table, wanted) or table
                return wider, wider
            case _:
                return table, table

    def _made(self, wanted: Wanted) -> Type:
        """Return a new type with fresh ids."""
        match wanted:
            case WantedStruct(fields):
                return Struct(self.fields((), fields)[0])
            case WantedList(element):
                return List(self._new_id(), self._made(element))
            case WantedMap(value):
                return Map(self._new_id(), self._new_id(), self._made(value))
            case _:
                return "string" if wanted == JSON else wanted

    def _new_id(self) -> int:
        self.last_field_id += 1
        return self.last_field_id


def _as_text(wanted: Wanted) -> bool:
    """Whether a string column may hold it as JSON text."""
    return wanted == JSON or not isinstance(wanted, str)


def _names(taken: Sequence[str], new: Sequence[WantedColumn]) -> dict[str, str]:
    """Return a name for each new property. Legal ones first, so that none is renamed because a stranger one came before it."""
    used = set(taken)
    names = {}
    for part in sorted(new, key=lambda part: not identifiers.is_identifier(part.property)):
        names[part.property] = identifiers.unused(part.property, used)
        used.add(names[part.property])
    return names


def _check(
    schema: StreamSchema, columns: Sequence[WantedColumn], above: tuple[str, ...] = ()
) -> None:
    seen: set[str] = set()
    for column in columns:
        path = (*above, column.property)
        if column.property in seen:
            raise _fault(
                schema,
                "duplicate",
                "a property comes twice in the schema",
                path=path,
                blame=Blame.DATIVO,
            )
        seen.add(column.property)
        inner = column.type
        while isinstance(inner, WantedList | WantedMap):
            inner = inner.element if isinstance(inner, WantedList) else inner.value
        if isinstance(inner, WantedStruct):
            _check(schema, inner.fields, path)
        elif inner != JSON and not types.is_primitive(inner):
            raise _fault(
                schema,
                "type",
                "unknown column type",
                path=path,
                value=inner,
                blame=Blame.DATIVO,
            )


def _conflict(schema: StreamSchema, column: WantedColumn, found: Misfit) -> CommitFault:
    table, wanted = types.text(found.table), types.text(found.wanted)
    return _fault(
        schema,
        "conflict",
        f"stream {schema.stream}: column {'.'.join(found.path)[:MAX_PATH_CHARS]} is {table} in the table, "
        f"the source now declares {wanted}",
        path=(column.property,),
        value=wanted,
        hint="Types widen int to long, float to double and decimal precision only. "
        "Load the stream into a new namespace, or have the source declare the old type.",
    )


def _fault(
    schema: StreamSchema,
    code: str,
    message: str,
    *,
    path: tuple[str, ...] = (),
    value: str | None = None,
    hint: str | None = None,
    blame: Blame = Blame.PLUGIN,
) -> CommitFault:
    return CommitFault(
        message,
        code=f"schema.{code}",
        stream=schema.stream,
        field=".".join(path)[:MAX_PATH_CHARS] or None,
        value=value,
        hint=hint,
        blame=blame,
    )
