"""How a table is laid out in its files: its partition spec and sort order, and what a job asks for (docs/spec/commit.md, Layout).

Fields name columns by id, transforms by Iceberg's names. Source: Iceberg table specification, Partitioning and Sorting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from dativo.plugins.commit import types
from dativo.plugins.commit.faults import CommitFault, config_fault, protocol_fault
from dativo.plugins.commit.types import Column, WantedColumn
from dativo.protocol.errors import Blame
from dativo.protocol.layouts import (
    MAX_LAYOUT_FIELDS,
    PartitionValue,
    is_transform,
    partition_value,
)
from dativo.protocol.state import Stream

IDENTITY: Final = "identity"

_TIMES = frozenset({"date", "timestamp", "timestamptz"})
_SORTED = _TIMES | {
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "decimal",
    "time",
    "string",
    "binary",
}
# What each transform takes; a number in brackets aside.
_TAKES: Mapping[str, frozenset[str]] = {
    IDENTITY: _SORTED - {"float", "double"},
    "year": _TIMES,
    "month": _TIMES,
    "day": _TIMES,
    "hour": _TIMES - {"date"},
    "bucket": _SORTED - {"float", "double", "boolean"},
    "truncate": frozenset({"int", "long", "decimal", "string", "binary"}),
}


@dataclass(frozen=True, slots=True)
class PartitionField:
    """What all rows of a file have in common: ``transform`` of a column."""

    field_id: int
    transform: str

    def to_event(self) -> dict[str, object]:
        """Return the field as ``stream_plan`` carries it, and as targets keep it."""
        return {"field_id": self.field_id, "transform": self.transform}


@dataclass(frozen=True, slots=True)
class SortField:
    """A column that the rows of a file are sorted by."""

    field_id: int
    descending: bool
    nulls_first: bool

    def to_event(self) -> dict[str, object]:
        """Return the field as ``stream_plan`` carries it, and as targets keep it."""
        return {
            "field_id": self.field_id,
            "descending": self.descending,
            "nulls_first": self.nulls_first,
        }


@dataclass(frozen=True, slots=True)
class Layout:
    """A table's partition spec and sort order, with the ids that its metadata gives them; a Parquet dataset has one of each.

    ``foreign_order``: there is one that dativo does not sort by, and ``sort`` is empty.
    """

    partition: tuple[PartitionField, ...] = ()
    sort: tuple[SortField, ...] = ()
    spec_id: int = 0
    sort_id: int | None = None
    foreign_order: bool = False

    def to_event(self) -> dict[str, object]:
        """Return what ``stream_plan`` says of it, and what targets keep; nothing of what there is not."""
        event: dict[str, object] = {}
        if self.partition:
            event["partition"] = [field.to_event() for field in self.partition]
        if self.sort:
            event["sort"] = [field.to_event() for field in self.sort]
        return event

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Layout:
        """Read a kept layout. Raises KeyError, TypeError, ValueError."""
        partition = tuple(
            PartitionField(int(item["field_id"]), _transform(item["transform"]))
            for item in record.get("partition", ())
        )
        sort = tuple(
            SortField(int(item["field_id"]), bool(item["descending"]), bool(item["nulls_first"]))
            for item in record.get("sort", ())
        )
        return cls(partition, sort)


NO_LAYOUT: Final = Layout()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a file belongs in its table: the values of its partition in the order of the spec, and how it is sorted."""

    partition: tuple[PartitionValue, ...] = ()
    spec_id: int = 0
    sort_id: int | None = None

    def to_record(self) -> dict[str, object]:
        """Return it as targets keep it; empty for a file of a table without a layout."""
        record: dict[str, object] = {}
        if self.partition:
            record["partition"] = list(self.partition)
        if self.spec_id:
            record["spec_id"] = self.spec_id
        if self.sort_id is not None:
            record["sort_id"] = self.sort_id
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Placement:
        """Read a kept placement. Raises TypeError, ValueError, ProtocolViolation."""
        partition = tuple(partition_value(value) for value in record.get("partition", ()))
        sort_id = record.get("sort_id")
        return cls(
            partition, int(record.get("spec_id", 0)), None if sort_id is None else int(sort_id)
        )


NO_PLACEMENT: Final = Placement()


@dataclass(frozen=True, slots=True)
class WantedLayout:
    """What a job asks of a stream's table; None: whatever it has."""

    partition: tuple[tuple[str, str], ...] | None = None
    sort: tuple[tuple[str, bool, bool], ...] | None = None

    @classmethod
    def from_event(cls, event: Any) -> WantedLayout:
        """Read an item of ``open.layouts`` or ``stream_schema.layout``. Raises CommitFault."""
        if not isinstance(event, Mapping):
            raise protocol_fault("a layout is no object", value=repr(event))
        try:
            return cls(
                _optional(
                    event, "partition", lambda f: (_text(f["property"]), _transform(f["transform"]))
                ),
                _optional(
                    event,
                    "sort",
                    lambda f: (
                        _text(f["property"]),
                        _flag(f["descending"]),
                        _flag(f["nulls_first"]),
                    ),
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise protocol_fault(f"a layout cannot be read: {error}", value=repr(event)) from error


def made(stream: Stream, wanted: WantedLayout | None, planned: Sequence[Column]) -> Layout:
    """Return the layout of a new table, whose rows have the columns ``planned``. Raises ``config.layout``."""
    if wanted is None:
        return NO_LAYOUT
    partition = tuple(
        PartitionField(_column(stream, planned, name, transform).field_id, transform)
        for name, transform in wanted.partition or ()
    )
    sort = _sort(stream, planned, wanted.sort or ())
    return Layout(partition, sort)


def resorted(
    stream: Stream,
    wanted: WantedLayout | None,
    layout: Layout,
    columns: Sequence[Column],
    planned: Sequence[Column],
) -> tuple[SortField, ...] | None:
    """Return the sort order that a table of ``layout`` and ``columns`` is to have from now on; None if it keeps its own.

    Raises ``config.partition_changed`` and ``config.layout``.
    """
    if wanted is None:
        return None
    names = {column.field_id: column.property for column in columns}
    if wanted.partition is not None:
        has = [(names.get(field.field_id, ""), field.transform) for field in layout.partition]
        if has != list(wanted.partition):
            raise _changed(stream, has, wanted.partition)
    if wanted.sort is None:
        return None
    has_sort = [
        (names.get(field.field_id, ""), field.descending, field.nulls_first)
        for field in layout.sort
    ]
    if has_sort == list(wanted.sort) and not layout.foreign_order:
        return None
    return _sort(stream, planned, wanted.sort)


def sent(columns: Sequence[Column], wanted: Sequence[WantedColumn]) -> list[Column]:
    """Return the columns that hold ``wanted``, one by one, and as JSON those that hold it as text."""
    return [
        replace(column, type=types.JSON)
        if isinstance(column.type, str)
        and (part.type == types.JSON or not isinstance(part.type, str))
        else column
        for column, part in zip(columns, wanted, strict=True)
    ]


def sources(layout: Layout, columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the types of the columns that a table of ``columns`` is partitioned by."""
    kinds = {column.field_id: types.text(column.type) for column in columns}
    return tuple(kinds[field.field_id] for field in layout.partition)


def takes(transform: str, of: types.Type) -> bool:
    """Tell whether ``transform`` takes values of a column of type ``of``."""
    return isinstance(of, str) and _kind(of) in _TAKES[transform.partition("[")[0]]


def sortable(of: types.Type) -> bool:
    """Tell whether rows are sorted by columns of type ``of``."""
    return isinstance(of, str) and _kind(of) in _SORTED


def _sort(
    stream: Stream, planned: Sequence[Column], wanted: Iterable[tuple[str, bool, bool]]
) -> tuple[SortField, ...]:
    return tuple(
        SortField(_column(stream, planned, name, None).field_id, descending, nulls_first)
        for name, descending, nulls_first in wanted
    )


def _column(stream: Stream, planned: Sequence[Column], name: str, transform: str | None) -> Column:
    """Return the column of a property, whose type ``transform``, or sorting, takes."""
    column = next((column for column in planned if column.property == name), None)
    if column is None:
        raise _layout_fault(
            stream,
            name,
            f"stream {stream} has no property {name!r} to partition or sort by",
            "It has: " + ", ".join(column.property for column in planned[:20]),
        )
    if transform is None and not sortable(column.type):
        raise _layout_fault(
            stream,
            name,
            f"column {column.name} of stream {stream} is {types.text(column.type)}: files are not sorted by that",
            "Sort by columns that have one plain value a row.",
        )
    if transform is not None and not takes(transform, column.type):
        raise _layout_fault(
            stream,
            name,
            f"column {column.name} of stream {stream} is {types.text(column.type)}, which {transform} does not take",
            "year, month and day take dates and timestamps, hour timestamps; truncate integers, decimals, strings and bytes; "
            "bucket all plain values but floats and booleans; a column itself all but floats.",
        )
    return column


def _changed(
    stream: Stream, has: Sequence[tuple[str, str]], wanted: Sequence[tuple[str, str]]
) -> CommitFault:
    def said(fields: Sequence[tuple[str, str]]) -> str:
        return ", ".join(f"{transform} of {name}" for name, transform in fields) or "nothing"

    return config_fault(
        "partition_changed",
        f"the table of stream {stream} is partitioned by {said(has)}, the job says {said(wanted)}",
        stream=stream,
        value=said(wanted),
        hint="Leave partition_by out or say what the table has; another partition needs another table.",
    )


def _layout_fault(stream: Stream, name: str, message: str, hint: str) -> CommitFault:
    return CommitFault(
        message,
        code="config.layout",
        stream=stream,
        field=name,
        hint=hint,
        blame=Blame.USER,
    )


def _kind(of: str) -> str:
    return of.partition("(")[0]


def _optional(event: Mapping[str, Any], key: str, read: Any) -> Any:
    if key not in event:
        return None
    items = event[key]
    if not isinstance(items, list) or len(items) > MAX_LAYOUT_FIELDS:
        raise ValueError(f"{key} is no list of at most {MAX_LAYOUT_FIELDS} fields")
    return tuple(map(read, items))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is no boolean")
    return value


def _transform(value: Any) -> str:
    if not isinstance(value, str) or not is_transform(value):
        raise ValueError(f"{value!r} is none of Iceberg's transforms")
    return value
