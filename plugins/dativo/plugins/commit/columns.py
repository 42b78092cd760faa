"""How a table's columns grow: new ones are added as nullable, some types widen, all else is a conflict.

The rules are Iceberg's (spec, Schema Evolution), hold for both targets, and for the fields of a struct as for the columns of a
table: ``int → long``, ``float → double``, ``decimal(p,s) → decimal(q,s)`` with ``q > p``. A source that now sends less than the
table holds keeps the table's type. A string takes what has no type of its own there, as JSON text. What a conflict ends in, and
whether a table may change at all, is the stream's contract (contracts.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from dativo.plugins.commit import identifiers, types
from dativo.plugins.commit.contracts import Contract
from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.messages import StreamSchema
from dativo.plugins.commit.renames import renamed
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
    """Two types that nothing holds both of, and where: names of columns, ``element`` and ``value``."""

    path: tuple[str, ...]
    table: Type
    wanted: Wanted


def evolve(
    schema: StreamSchema,
    table: Sequence[Column],
    last_field_id: int,
    reserved: AbstractSet[str] = frozenset(),
) -> Evolution:
    """Return ``table`` grown by what ``schema`` asks for, as its contract has it; an empty one is new.

    ``reserved``: names that no new column of the table gets, nor a renamed one.
    Raises CommitFault: ``schema.…`` naming stream, column and types, ``config.rename``, ``limit.table_columns``.
    """
    _check(schema, schema.columns)
    if not schema.columns:
        raise _fault(
            schema,
            "no_columns",
            "the stream has no column: a table needs one",
            hint="Deselect the stream, or select at least one of its properties.",
        )
    contract = schema.contract or Contract()
    growth = _Growth(schema, contract, last_field_id)
    known = renamed(schema, contract, table, reserved)
    columns, planned = growth.fields(known, schema.columns, reserved)
    if contract.frozen and table:
        _check_frozen(schema, table, columns)
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


class _Growth:
    """One evolution: its rules, and the ids that it has given out."""

    def __init__(self, schema: StreamSchema, contract: Contract, last_field_id: int) -> None:
        self._schema = schema
        self._contract = contract
        self.last_field_id = last_field_id

    def fields(
        self,
        table: Sequence[Column],
        wanted: Sequence[WantedColumn],
        reserved: AbstractSet[str] = frozenset(),
    ) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
        """Return the columns of a table or struct grown by ``wanted``, and those that hold it, with no more than it inside."""
        known = _by_property(table)
        chosen = {part.property: self._choose(_of(part, known), part) for part in wanted}
        new = [part for part in wanted if chosen[part.property] is None]
        names = _names(self._schema, table, known, new, reserved)
        # All fields of a struct get their ids before what is inside them, as Iceberg numbers a new schema.
        ids = {part.property: self._new_id() for part in new}
        # What is not sent is missing in the files to come, so nothing stays required.
        columns = {column.field_id: replace(column, required=False) for column in table}
        planned = []
        for part in wanted:
            column = chosen[part.property]
            if column is None:
                whole = kind = self._made(part.type)
                column = Column(part.property, names[part.property], whole, ids[part.property])
            else:
                whole, kind = self._grown(column.type, part.type)
            columns[column.field_id] = replace(column, type=whole, required=False)
            planned.append(replace(column, type=kind, required=False))
        return tuple(columns.values()), tuple(planned)

    def _choose(self, columns: Sequence[Column], part: WantedColumn) -> Column | None:
        """Return which of a property's columns takes what is wanted, None for a new one.

        The newest that fits; a string takes text of a struct, list or map only where no column has that type.
        """
        wanted = part.type
        fitting: list[Column] = []
        misfits: list[tuple[Column, Misfit]] = []
        for column in columns:
            misfit = self._misfit(column.type, wanted, (column.name,))
            if misfit is None:
                fitting.append(column)
            else:
                misfits.append((column, misfit))
        if fitting:
            return max(fitting, key=lambda one: (not _is_text_of(one.type, wanted), one.field_id))
        if misfits and (part.metadata or not self._contract.new_columns):
            raise _conflict(self._schema, *misfits[-1])
        return None

    def _misfit(self, table: Type, wanted: Wanted, path: tuple[str, ...]) -> Misfit | None:
        """Return the innermost place where ``table`` cannot grow to hold ``wanted`` too, None when it can."""
        match table, wanted:
            case Struct(fields), WantedStruct(inner):
                if self._contract.new_columns:
                    return None  # what does not fit gets a field of its own
                known = _by_property(fields)
                for part in inner:
                    found = [
                        self._misfit(field.type, part.type, (*path, field.name))
                        for field in known.get(part.property, ())
                    ]
                    if found and all(found):
                        return found[-1]
                return None
            case List(_, element), WantedList(inner_element):
                return self._misfit(element, inner_element, (*path, "element"))
            case Map(_, _, value), WantedMap(inner_value):
                return self._misfit(value, inner_value, (*path, "value"))
            case str(), str() if wanted != JSON and widen(table, wanted):
                return None
            case "string", _ if wanted == JSON or not isinstance(wanted, str):
                return None
            case _:
                return Misfit(path, table, wanted)

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


def _by_property(columns: Iterable[Column]) -> dict[str, list[Column]]:
    """Return the columns of each property, the oldest first."""
    grouped: dict[str, list[Column]] = {}
    for column in sorted(columns, key=lambda column: column.field_id):
        grouped.setdefault(column.property, []).append(column)
    return grouped


def _of(part: WantedColumn, known: Mapping[str, Sequence[Column]]) -> Sequence[Column]:
    """Return the columns that may take ``part``: no property of a source goes into a column of ours, nor the other way round."""
    columns = known.get(part.property, ())
    if part.metadata:
        return [column for column in columns if column.name == part.property]
    return [column for column in columns if not identifiers.is_reserved(column.name)]


def _is_text_of(table: Type, wanted: Wanted) -> bool:
    return table == "string" and not isinstance(wanted, str)


def _names(
    schema: StreamSchema,
    table: Iterable[Column],
    known: Mapping[str, Sequence[Column]],
    new: Sequence[WantedColumn],
    reserved: AbstractSet[str],
) -> dict[str, str]:
    """Return the names of new columns: ``<name>__<type>`` where the property has one already, whose type does not fit.

    Ours first, which have no other, then legal names, so that none is changed because a stranger one came before it.
    """
    used = {*reserved, *(column.name for column in table)}
    names = {}

    def rank(part: WantedColumn) -> tuple[bool, bool, bool]:
        name = part.property
        return not part.metadata, name in known, not identifiers.is_identifier(name)

    for part in sorted(new, key=rank):
        older = _of(part, known)
        text = f"{older[0].name}__{types.kind(part.type)}" if older else part.property
        if part.metadata and part.property in used:
            raise _fault(
                schema,
                "reserved",
                f"stream {schema.stream}: another property has the column {part.property} already",
                path=(part.property,),
                hint="Set target.metadata otherwise, or write into another namespace.",
            )
        names[part.property] = part.property if part.metadata else identifiers.unused(text, used)
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
        if column.metadata and (above or not identifiers.is_metadata(column.property)):
            raise _fault(
                schema, "metadata", "no name of a metadata column", path=path, blame=Blame.DATIVO
            )
        inner = column.type
        while isinstance(inner, WantedList | WantedMap):
            inner = inner.element if isinstance(inner, WantedList) else inner.value
        if isinstance(inner, WantedStruct):
            _check(schema, inner.fields, path)
        elif inner != JSON and not types.is_primitive(inner):
            raise _fault(
                schema, "type", "unknown column type", path=path, value=inner, blame=Blame.DATIVO
            )


def _conflict(schema: StreamSchema, column: Column, found: Misfit) -> CommitFault:
    table, wanted = types.text(found.table), types.text(found.wanted)
    return _fault(
        schema,
        "conflict",
        f"stream {schema.stream}: column {_dotted(found.path)} is {table} in the table, "
        f"the source now declares {wanted}",
        path=(column.property,),
        value=wanted,
        hint="Types widen int to long, float to double and decimal precision only. Have the source declare the old type, "
        "or let the stream's contract say `conflict: new_column`.",
    )


def _check_frozen(
    schema: StreamSchema,
    before: Sequence[Column],
    after: Sequence[Column],
    above: tuple[Column, ...] = (),
) -> None:
    """Raise ``schema.frozen`` for the first difference."""
    was = {column.field_id: column for column in before}
    for column in after:
        old = was.get(column.field_id)
        if old == column:
            continue
        path = (*above, column)
        name = _dotted(tuple(one.name for one in path))
        if old is None:
            change = f"column {name}, {types.text(column.type)}, would be new"
        elif (old.name, old.property) != (column.name, column.property):
            change = f"column {old.name} would be renamed to {column.name}"
        elif old.required != column.required:
            change = f"column {name} would become nullable"
        else:
            if (fields := _fields(column.type)) != (old_fields := _fields(old.type)):
                _check_frozen(schema, old_fields, fields, path)
            change = f"column {name} would change from {types.text(old.type)} to {types.text(column.type)}"
        raise _fault(
            schema,
            "frozen",
            f"stream {schema.stream}: {change}, and its contract freezes the table",
            path=(path[0].property,),
            hint="Let the stream's contract say `schema: evolve` for a run, or have the source declare what the table has.",
        )


def _fields(of: Type) -> tuple[Column, ...]:
    while isinstance(of, List | Map):
        of = of.element if isinstance(of, List) else of.value
    return of.fields if isinstance(of, Struct) else ()


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path)[:MAX_PATH_CHARS]


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
        field=_dotted(path) or None,
        value=value,
        hint=hint,
        blame=blame,
    )
