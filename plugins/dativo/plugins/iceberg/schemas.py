"""Iceberg schemas out of columns, and back. Source: Iceberg table specification, Schemas and Data Types.

Which property a field holds is kept where its name is another: in the table property NAME_MAP, by the field's id, at any depth.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from dativo.plugins.commit.types import Column, List, Map, Struct, Type, decimal_parts

NAME_MAP: Final = "dativo.name-map"

_TYPES: Mapping[str, PrimitiveType] = {
    "boolean": BooleanType(),
    "int": IntegerType(),
    "long": LongType(),
    "float": FloatType(),
    "double": DoubleType(),
    "date": DateType(),
    "time": TimeType(),
    "timestamp": TimestampType(),
    "timestamptz": TimestamptzType(),
    "string": StringType(),
    "binary": BinaryType(),
}


def columns(schema: Schema, name_map: str) -> tuple[Column, ...]:
    """Return a schema's columns with the properties they hold; one that others added holds its own name.

    A type that dativo never makes is the text of it, which nothing fits. Raises ValueError, AttributeError for a changed map.
    """
    names = json.loads(name_map)
    if isinstance(names, dict):  # as it was once: property to column, columns of the table only
        by_name = {column: of for of, column in names.items()}
        properties = {
            field.field_id: by_name[field.name] for field in schema.fields if field.name in by_name
        }
    else:
        properties = {int(field_id): str(of) for field_id, of in names}
    return tuple(_column(field, properties) for field in schema.fields)


def fields(columns: Iterable[Column]) -> list[NestedField]:
    """Return the fields of new ``columns``."""
    return [_field(column, None) for column in columns]


def grown_fields(
    schema: Schema, before: Iterable[Column], columns: Iterable[Column]
) -> list[NestedField]:
    """Return the fields of ``columns``, that grew out of ``before``, those of ``schema``. What columns do not tell of stays."""
    was = {column.field_id: column for column in before}
    known = {field.field_id: field for field in schema.fields}
    result = []
    for column in columns:
        field, old = known.get(column.field_id), was.get(column.field_id)
        if field is not None and old is not None:
            if old == column:
                result.append(field)
                continue
            if old.property != column.property:
                field = field.model_copy(update={"doc": None})
        result.append(_field(column, field))
    return result


def name_map(columns: Iterable[Column]) -> str:
    """Return what NAME_MAP says of ``columns``: pairs of field id and property."""
    return json.dumps(list(_renamed(columns)), ensure_ascii=False)


def _renamed(columns: Iterable[Column]) -> Iterator[tuple[int, str]]:
    for column in columns:
        if column.property != column.name:
            yield column.field_id, column.property
        inner = column.type
        while isinstance(inner, List | Map):
            inner = inner.element if isinstance(inner, List) else inner.value
        if isinstance(inner, Struct):
            yield from _renamed(inner.fields)


def _column(field: NestedField, properties: Mapping[int, str]) -> Column:
    return Column(
        property=properties.get(field.field_id, field.name),
        name=field.name,
        type=_type(field.field_type, properties),
        field_id=field.field_id,
        required=field.required,
    )


def _type(of: IcebergType, properties: Mapping[int, str]) -> Type:
    match of:
        case StructType():
            return Struct(tuple(_column(field, properties) for field in of.fields))
        case ListType():
            return List(of.element_id, _type(of.element_type, properties))
        case MapType() if isinstance(of.key_type, StringType):
            return Map(of.key_id, of.value_id, _type(of.value_type, properties))
        case _:
            return str(of).replace(" ", "")


def _field(column: Column, known: NestedField | None) -> NestedField:
    doc = column.property if column.property != column.name else None
    if known is None:
        return NestedField(
            field_id=column.field_id,
            name=column.name,
            field_type=_iceberg(column.type, None),
            required=column.required,
            doc=doc,
        )
    new = {
        "name": column.name,
        "field_type": _iceberg(column.type, known.field_type),
        "required": column.required,
        "doc": known.doc or doc,
    }
    return known.model_copy(update=new)


def _iceberg(of: Type, known: IcebergType | None) -> IcebergType:
    """Return the type ``of``. Of ``known``, the one that it grew out of, types stay that dativo has no name for."""
    match of:
        case Struct(inner):
            old = {field.field_id: field for field in getattr(known, "fields", ())}
            return StructType(*(_field(field, old.get(field.field_id)) for field in inner))
        case List(element_id, element):
            return ListType(
                element_id=element_id,
                element=_iceberg(element, getattr(known, "element_type", None)),
                element_required=False,
            )
        case Map(key_id, value_id, value):
            return MapType(
                key_id=key_id,
                key_type=StringType(),
                value_id=value_id,
                value_type=_iceberg(value, getattr(known, "value_type", None)),
                value_required=False,
            )
        case _:
            if known is not None and _type(known, {}) == of:
                return known
            parts = decimal_parts(of)
            return DecimalType(*parts) if parts else _TYPES[of]
