"""Types of columns: primitives by their names, and the trees that structs, lists and maps make of them.

A type of a table carries a field id for everything that a file stores by id: fields, elements, keys and values. A wanted type is
what a source's schema was compiled to; it has none. Both are told as docs/spec/events.md says, Types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dativo.protocol import columntypes

JSON: Final = columntypes.JSON
MAX_DECIMAL_PRECISION: Final = 38
MAX_TEXT_CHARS: Final = 200

_SIMPLE = frozenset(
    {"boolean", "int", "long", "float", "double"}
    | {"date", "time", "timestamp", "timestamptz", "string", "binary"}
)
_DECIMAL = re.compile(r"decimal\((\d{1,2}),(\d{1,2})\)")

Type: TypeAlias = "str | Struct | List | Map"
Wanted: TypeAlias = "str | WantedStruct | WantedList | WantedMap"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, or a field of a struct: the property it holds, its name, type and field id there."""

    property: str
    name: str
    type: Type
    field_id: int
    required: bool = False

    def to_event(self) -> dict[str, object]:
        """Return the column as ``stream_plan`` carries it."""
        return {
            "property": self.property,
            "column": self.name,
            "type": type_event(self.type),
            "field_id": self.field_id,
            "required": self.required,
        }


@dataclass(frozen=True, slots=True)
class Struct:
    """Fields with names of their own."""

    fields: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class List:
    """Elements of one type, each of which may be null."""

    element_id: int
    element: Type


@dataclass(frozen=True, slots=True)
class Map:
    """Values of one type, each of which may be null, by strings."""

    key_id: int
    value_id: int
    value: Type


@dataclass(frozen=True, slots=True)
class WantedColumn:
    """A property as the writer compiled it. ``metadata``: none of the source's, and its name is the column's."""

    property: str
    type: Wanted
    metadata: bool = False


@dataclass(frozen=True, slots=True)
class WantedStruct:
    """An object whose properties are known."""

    fields: tuple[WantedColumn, ...]


@dataclass(frozen=True, slots=True)
class WantedList:
    """An array whose items have one type."""

    element: Wanted


@dataclass(frozen=True, slots=True)
class WantedMap:
    """An object whose values have one type."""

    value: Wanted


def decimal_parts(type_name: str) -> tuple[int, int] | None:
    """Return precision and scale of ``decimal(p,s)``, None for any other text or one out of range."""
    match = _DECIMAL.fullmatch(type_name)
    if match is None:
        return None
    precision, scale = int(match[1]), int(match[2])
    return (precision, scale) if scale <= precision <= MAX_DECIMAL_PRECISION and precision else None


def is_primitive(type_name: str) -> bool:
    """Tell whether ``type_name`` is a primitive of docs/spec/events.md."""
    return type_name in _SIMPLE or decimal_parts(type_name) is not None


def wanted_column(event: Any) -> WantedColumn:
    """Read a column of ``stream_schema``. Raises ProtocolViolation."""
    columntypes.check_column(event, planned=False)
    return _wanted_column(event)


def kept_column(record: Any) -> Column:
    """Read back what ``Column.to_event`` wrote. Raises ProtocolViolation."""
    columntypes.check_column(record, planned=True)
    return _kept_column(record)


def type_event(of: Type) -> object:
    """Return the type as ``stream_plan`` carries it."""
    match of:
        case Struct(fields):
            return {"type": "struct", "fields": [field.to_event() for field in fields]}
        case List(element_id, element):
            return {"type": "list", "element_id": element_id, "element": type_event(element)}
        case Map(key_id, value_id, value):
            ids = {"key_id": key_id, "value_id": value_id}
            return {"type": "map", **ids, "value": type_event(value)}
        case _:
            return of


def text(of: Type | Wanted) -> str:
    """Return the type for people, clipped to MAX_TEXT_CHARS: ``struct<id: long, tags: list<string>>``."""
    whole = "".join(_text(of))
    return whole if len(whole) <= MAX_TEXT_CHARS else whole[: MAX_TEXT_CHARS - 1] + "…"


def kind(of: Type | Wanted) -> str:
    """Return the type as a part of a column's name: ``decimal_9_2``, ``struct``; JSON text is a string."""
    match of:
        case Struct() | WantedStruct():
            return "struct"
        case List() | WantedList():
            return "list"
        case Map() | WantedMap():
            return "map"
        case str():
            parts = decimal_parts(of)
            if parts:
                return f"decimal_{parts[0]}_{parts[1]}"
            return "string" if of == JSON else of


def leaves(of: Type) -> int:
    """Return how many columns of values the type takes in a file."""
    match of:
        case Struct(fields):
            return sum(leaves(field.type) for field in fields)
        case List(_, element):
            return leaves(element)
        case Map(_, _, value):
            return 1 + leaves(value)
        case _:
            return 1


def field_ids(columns: Iterable[Column]) -> Iterator[int]:
    """Yield every field id of ``columns``, those inside their types included."""
    for column in columns:
        yield column.field_id
        yield from _ids_in(column.type)


def _ids_in(of: Type) -> Iterator[int]:
    match of:
        case Struct(fields):
            yield from field_ids(fields)
        case List(element_id, element):
            yield element_id
            yield from _ids_in(element)
        case Map(key_id, value_id, value):
            yield from (key_id, value_id)
            yield from _ids_in(value)
        case _:
            pass


def _text(of: Type | Wanted) -> Iterator[str]:
    match of:
        case Struct(fields):
            yield from _fields_text((field.name, field.type) for field in fields)
        case WantedStruct(wanted):
            yield from _fields_text((field.property, field.type) for field in wanted)
        case List(_, element) | WantedList(element):
            yield from ("list<", *_text(element), ">")
        case Map(_, _, value) | WantedMap(value):
            yield from ("map<string, ", *_text(value), ">")
        case str():
            yield of


def _fields_text(fields: Iterable[tuple[str, Type | Wanted]]) -> Iterator[str]:
    before = "struct<"
    for name, of in fields:
        yield from (before, name, ": ", *_text(of))
        before = ", "
    yield ">"


def _wanted_column(event: Mapping[str, Any]) -> WantedColumn:
    return WantedColumn(event["property"], _wanted(event["type"]), event.get("metadata", False))


def _wanted(event: Any) -> Wanted:
    if isinstance(event, str):
        return event
    if event["type"] == "struct":
        return WantedStruct(tuple(_wanted_column(field) for field in event["fields"]))
    if event["type"] == "list":
        return WantedList(_wanted(event["element"]))
    return WantedMap(_wanted(event["value"]))


def _kept_column(record: Mapping[str, Any]) -> Column:
    return Column(
        record["property"],
        record["column"],
        _kept(record["type"]),
        record["field_id"],
        record.get("required", False),
    )


def _kept(record: Any) -> Type:
    if isinstance(record, str):
        return record
    if record["type"] == "struct":
        return Struct(tuple(_kept_column(field) for field in record["fields"]))
    if record["type"] == "list":
        return List(record["element_id"], _kept(record["element"]))
    return Map(record["key_id"], record["value_id"], _kept(record["value"]))
