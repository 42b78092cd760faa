"""Iceberg's partition specs and sort orders out of layouts, and back. Source: its specification, Partitioning and Sorting."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import (
    NullOrder,
    SortDirection,
    SortField,
    SortOrder,
)
from pyiceberg.transforms import IdentityTransform, parse_transform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)
from pyiceberg.utils.decimal import unscaled_to_decimal

from dativo.plugins.commit import identifiers, layouts
from dativo.plugins.commit.layouts import Layout, Placement
from dativo.plugins.commit.types import Column
from dativo.protocol.layouts import PartitionValue, is_transform

# Spark's and pyiceberg's names; those of other transforms are their own.
_SUFFIXES: Final = {"truncate": "trunc"}
_INTEGERS: Final = (IntegerType, LongType, DateType, TimeType, TimestampType, TimestamptzType)


def spec(layout: Layout, columns: Sequence[Column]) -> PartitionSpec:
    """Return the spec of a new table of ``columns``, whose fields are named as Spark and pyiceberg name them."""
    names = {column.field_id: column.name for column in columns}
    used = {column.name for column in columns}
    fields: list[PartitionField] = []
    for at, field in enumerate(layout.partition):
        column, kind = names[field.field_id], field.transform.partition("[")[0]
        if kind == layouts.IDENTITY and not any(one.name == column for one in fields):
            name = column
        else:
            name = identifiers.unused(f"{column}_{_SUFFIXES.get(kind, kind)}", used)
        used.add(name)
        fields.append(
            PartitionField(
                source_id=field.field_id,
                field_id=PARTITION_FIELD_ID_START + at,
                transform=parse_transform(field.transform),
                name=name,
            )
        )
    return PartitionSpec(*fields)


def reserved(metadata: TableMetadata) -> frozenset[str]:
    """Return the names of all partition fields that a table ever had: of a column that takes one Java would refuse the table."""
    return frozenset(field.name for spec in metadata.partition_specs for field in spec.fields)


def order(sort: Sequence[layouts.SortField], order_id: int) -> SortOrder:
    """Return a sort order; 0 is the id of none."""
    fields = [
        SortField(
            source_id=field.field_id,
            transform=IdentityTransform(),
            direction=SortDirection.DESC if field.descending else SortDirection.ASC,
            null_order=NullOrder.NULLS_FIRST if field.nulls_first else NullOrder.NULLS_LAST,
        )
        for field in sort
    ]
    return SortOrder(*fields, order_id=order_id)


def order_id(metadata: TableMetadata, sort: Sequence[layouts.SortField]) -> int:
    """Return the id of that sort order in a table: the one that it has, else the next."""
    if not sort:
        return 0
    wanted = order(sort, 0).fields
    known = (one.order_id for one in metadata.sort_orders if one.fields == wanted)
    return next(known, 1 + max((one.order_id for one in metadata.sort_orders), default=0))


def layout(metadata: TableMetadata, columns: Sequence[Column]) -> Layout:
    """Return how files of a table are laid out. A sort order that is not by plain columns is left to whoever sorts by it.

    Raises ValueError for a partition field that is none of a plain column by a transform that is known here.
    """
    kinds = {column.field_id: column.type for column in columns}
    partition = []
    for field in metadata.spec().fields:
        transform, kind = str(field.transform), kinds.get(field.source_id)
        if kind is None or not is_transform(transform) or not layouts.takes(transform, kind):
            raise ValueError(
                f"its partition field {field.name} is {transform} of field {field.source_id}"
            )
        partition.append(layouts.PartitionField(field.source_id, transform))
    default = metadata.sort_order_by_id(metadata.default_sort_order_id)
    sort: list[layouts.SortField] = []
    for by in default.fields if default else ():
        kind = kinds.get(by.source_id)
        if kind is None or str(by.transform) != layouts.IDENTITY or not layouts.sortable(kind):
            return Layout(tuple(partition), spec_id=metadata.default_spec_id, foreign_order=True)
        sort.append(
            layouts.SortField(
                by.source_id,
                by.direction == SortDirection.DESC,
                by.null_order == NullOrder.NULLS_FIRST,
            )
        )
    sort_id = metadata.default_sort_order_id if sort else None
    return Layout(tuple(partition), tuple(sort), metadata.default_spec_id, sort_id)


def record(placement: Placement, of: PartitionSpec, schema: Schema) -> Record:
    """Return a file's partition as manifests hold it. Raises ValueError for a value that its field cannot have."""
    fields = of.partition_type(schema).fields
    return Record(
        *(
            _value(value, field.field_type)
            for value, field in zip(placement.partition, fields, strict=True)
        )
    )


def _value(value: PartitionValue, of: IcebergType) -> Any:
    match value, of:
        case None, _:
            return None
        case bool(), BooleanType():
            return value
        case int(), _ if isinstance(of, _INTEGERS) and not isinstance(value, bool):
            if isinstance(of, IntegerType | DateType) and not -(2**31) <= value < 2**31:
                raise ValueError(f"{value} is no {of}")
            return value
        case str(), StringType():
            return value
        case str(), BinaryType():
            return base64.b64decode(value, validate=True)
        case str(), DecimalType():
            return unscaled_to_decimal(int(value), of.scale)
        case _:
            raise ValueError(f"{value!r} is no {of}")
